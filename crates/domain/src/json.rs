//! JSON that is stored as it came: checked once, carried as text, never rebuilt as a tree.

mod members;
mod scan;

use std::fmt;

pub use members::Members;
pub(crate) use scan::scan_depth;
pub use scan::{ScanError, scan};

use crate::field::{Code, FieldError};

/// A JSON object that PostgreSQL can hold, as text. Only [`crate::envelope`],
/// [`Json::from_value`] and the store make one, so what is in it has been checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Json(Box<str>);

impl Json {
    /// The text, for instance `{"a":1}`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for `{}`.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0
            .bytes()
            .all(|b| matches!(b, b'{' | b'}' | b' ' | b'\t' | b'\n' | b'\r'))
    }

    /// Takes a text that the scanner has already passed as part of its event. An empty object loses
    /// its inner space, so that leaving it out of the canonical form loses nothing.
    pub(crate) fn from_checked(text: &str) -> Self {
        let json = Self(text.into());
        if json.is_empty() {
            Self::default()
        } else {
            json
        }
    }

    /// Takes an object that PostgreSQL gives back: it was checked before it was stored.
    #[must_use]
    pub fn from_stored(text: String) -> Self {
        Self(text.into_boxed_str())
    }

    /// Writes an object of ours, checking it like any other.
    ///
    /// # Errors
    /// The value is no object, or holds what [`scan`] refuses.
    pub fn from_value(value: &serde_json::Value, max_depth: usize) -> Result<Self, ScanError> {
        let text = value.to_string();
        scan(&text, max_depth)?;
        if !value.is_object() {
            return Err(ScanError::Field(FieldError::new(
                "",
                Code::WrongType,
                "must be an object",
            )));
        }
        Ok(Self(text.into()))
    }

    /// The same object with one more member. A member of that name is replaced, as `jsonb` keeps
    /// the last of equal keys.
    #[must_use]
    pub fn with(&self, key: &str, value: &Json) -> Self {
        self.with_raw(key, value.as_str())
    }

    /// The same object with one more text member.
    #[must_use]
    pub fn with_text(&self, key: &str, value: &str) -> Self {
        self.with_raw(key, &quoted(value))
    }

    fn with_raw(&self, key: &str, raw: &str) -> Self {
        self.joined([(key, raw)])
    }

    /// The object with more members of any kind, which the scanner has already passed. One of the
    /// same name is replaced.
    pub(crate) fn with_checked<'a>(
        self,
        members: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let mut members = members.into_iter().peekable();
        if members.peek().is_none() {
            self
        } else {
            self.joined(members)
        }
    }

    fn joined<'a>(&self, members: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut empty = self.is_empty();
        let body = self.0.trim_end();
        let body = body.strip_suffix('}').unwrap_or(body).trim_end();
        let mut out = String::from(body);
        for (key, raw) in members {
            if !std::mem::take(&mut empty) {
                out.push(',');
            }
            out.push_str(&quoted(key));
            out.push(':');
            out.push_str(raw);
        }
        out.push('}');
        Self(out.into())
    }

    /// The object as a tree, for the places that look inside.
    #[must_use]
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

impl Default for Json {
    fn default() -> Self {
        Self("{}".into())
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text as a JSON string, quotes included.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    push_quoted(&mut out, text);
    String::from_utf8(out).unwrap_or_default()
}

/// Appends a text as a JSON string.
pub fn push_quoted(out: &mut Vec<u8>, text: &str) {
    let plain = text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\');
    if plain {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else if serde_json::to_writer(&mut *out, text).is_err() {
        // Writing text to memory cannot fail; a null is still JSON.
        out.extend_from_slice(b"null");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_object_is_empty_however_it_is_written() {
        for text in ["{}", "{ }", "{\n\t}"] {
            assert_eq!(Json::from_checked(text), Json::default(), "{text:?}");
        }
        for text in [r#"{"":{}}"#, r#"{"{}":"{}"}"#, r#"{ "}" : null }"#] {
            assert!(!Json::from_checked(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn a_member_joins_whatever_the_spacing_and_replaces_its_namesake() {
        for (text, want) in [
            ("{}", r#"{"k":"v"}"#),
            ("{ }", r#"{"k":"v"}"#),
            ("{ \"a\" : \"}\" \r\n}", r#"{"a":"}","k":"v"}"#),
            (r#"{"k":1,"b":{}}"#, r#"{"k":"v","b":{}}"#),
        ] {
            let want: serde_json::Value = serde_json::from_str(want).unwrap();
            assert_eq!(
                Json::from_checked(text).with_text("k", "v").to_value(),
                want
            );
        }
        let twice = Json::default().with("o", &Json::default().with_text("\"", "\\\n"));
        assert_eq!(twice.to_value(), serde_json::json!({"o": {"\"": "\\\n"}}));
    }

    #[test]
    fn a_value_of_ours_is_checked_like_any_other() {
        let refused = |value, depth| Json::from_value(&value, depth).unwrap_err();
        assert!(
            matches!(refused(serde_json::json!([1]), 9), ScanError::Field(e) if e.code == Code::WrongType)
        );
        assert!(
            matches!(refused(serde_json::json!({"a": "\0"}), 9), ScanError::Field(e) if e.path == "a" && e.code == Code::NotStorable)
        );
        assert!(
            matches!(refused(serde_json::json!({"a": {"b": {}}}), 2), ScanError::Field(e) if e.path == "a.b" && e.code == Code::TooDeep)
        );
        assert_eq!(
            Json::from_value(&serde_json::json!({"a": 1}), 1)
                .unwrap()
                .as_str(),
            r#"{"a":1}"#
        );
    }

    #[test]
    fn members_are_split_with_null_as_absent_and_the_last_of_equals() {
        let members = Members::split(r#" {"a":1,"b":null,"\u0061":{"x":2},"c":"d"} "#).unwrap();
        assert_eq!(members.get("a").unwrap().get(), r#"{"x":2}"#);
        assert!(members.has("b") && members.get("b").is_none() && !members.has("z"));
        assert_eq!(members.iter().count(), 4);
        for text in ["", "[]", "1", "{", "{} x"] {
            assert!(Members::split(text).is_none(), "{text}");
        }
    }

    fn flat() -> impl Strategy<Value = serde_json::Map<String, serde_json::Value>> {
        prop::collection::hash_map(".{0,6}", ".{0,6}".prop_map(Into::into), 0..6)
            .prop_map(|map| map.into_iter().collect())
    }

    proptest! {
        #[test]
        fn with_agrees_with_a_tree(object in flat(), key in ".{0,6}", text in ".{0,8}", pretty: bool) {
            let written = if pretty {
                serde_json::to_string_pretty(&object)
            } else {
                serde_json::to_string(&object)
            };
            let grown = Json::from_checked(&written.unwrap()).with_text(&key, &text);
            let mut want = object;
            want.insert(key, text.into());
            prop_assert_eq!(grown.to_value(), serde_json::Value::Object(want));
        }

        #[test]
        fn members_agree_with_a_tree(object in flat()) {
            let text = serde_json::to_string_pretty(&object).unwrap();
            let members = Members::split(&text).unwrap();
            prop_assert_eq!(members.iter().count(), object.len());
            for (key, value) in &object {
                let raw = members.get(key).unwrap().get();
                prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(raw).unwrap(), value);
            }
        }

        #[test]
        fn quoting_reads_back(text in any::<String>()) {
            prop_assert_eq!(serde_json::from_str::<String>(&quoted(&text)).unwrap(), text);
        }
    }
}
