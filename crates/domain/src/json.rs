//! JSON that is stored as it came: checked once, carried as text, never rebuilt as a tree.

mod elements;
mod hash;
mod members;
mod scan;

use std::borrow::Cow;
use std::fmt;

use serde::{Serialize, Serializer};

use crate::write::{self, Write};
pub use elements::elements;
pub(crate) use hash::Hasher;
pub use members::{Members, Raw};
pub use scan::{MAX_DIGITS, ScanError, canonical, scan};
pub(crate) use scan::{Scanned, scanned};

/// A whole number that the type holds; 10.0 is one too (JSON Schema, 6.1.1).
#[must_use]
pub fn whole<T: TryFrom<i64>>(value: &serde_json::Value) -> Option<T> {
    let number = value.as_i64().or_else(|| {
        let number = value.as_f64().filter(|number| number.fract() == 0.0)?;
        format!("{number:.0}").parse().ok()
    });
    T::try_from(number?).ok()
}

/// A JSON object that PostgreSQL can hold, as text; `None` is the empty one, which most events have
/// several of. Only [`crate::envelope`] and the store make one, so its content has been checked.
#[derive(Clone, Default)]
pub struct Json(Option<Box<str>>);

impl Json {
    /// The text, for instance `{"a":1}`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or("{}")
    }

    /// True for `{}`.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Takes an object that the scanner has already passed as part of its event.
    pub(crate) fn from_checked(raw: Raw<'_>) -> Self {
        Self((!is_empty(raw.get())).then(|| raw.get().into()))
    }

    /// Takes an object that PostgreSQL gives back: it was checked before it was stored.
    #[must_use]
    pub fn from_stored(text: String) -> Self {
        Self((!is_empty(&text)).then(|| text.into()))
    }

    /// False if no member of this name stands anywhere in it, which costs less to tell than to split it.
    pub(crate) fn may_have(&self, name: &str) -> bool {
        // A name can be written with escapes.
        let text = self.0.as_deref().unwrap_or_default();
        text.contains(name) || text.contains('\\')
    }

    /// The members of the object.
    #[must_use]
    pub fn members(&self) -> Members<'_> {
        let members = self.0.as_deref().and_then(Members::split);
        members.unwrap_or_default()
    }

    /// The same object with one more member; a member of that name is replaced.
    #[must_use]
    pub fn with(&self, key: &str, value: impl Write) -> Self {
        let value = write::text(&value);
        let mut members = self.members();
        members.set(key, Raw::from_checked(&value));
        Self::from(&members)
    }

    /// The object as a tree, for the places that look inside.
    #[must_use]
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::from_str(self.as_str()).unwrap_or_default()
    }
}

/// The text of a value that the scanner has passed as part of its event, with each member once.
#[must_use]
pub fn once(raw: Raw<'_>) -> Cow<'_, str> {
    canonical(raw.get(), usize::MAX).unwrap_or(raw.get().into())
}

/// An object of these members, which the scanner has already passed.
impl From<&Members<'_>> for Json {
    fn from(members: &Members<'_>) -> Self {
        let any = members.iter().next().is_some();
        Self(any.then(|| write::text(members).into()))
    }
}

impl<'a> From<&'a Json> for Raw<'a> {
    fn from(json: &'a Json) -> Self {
        Self::from_checked(json.as_str())
    }
}

impl Write for Json {
    #[inline]
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_str().as_bytes());
    }

    #[inline]
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Raw::from_checked(self.as_str()).serialize(serializer)
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Json {}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether the text of an object has no members.
fn is_empty(object: &str) -> bool {
    object
        .bytes()
        .all(|b| matches!(b, b'{' | b'}' | b' ' | b'\t' | b'\n' | b'\r'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn checked(text: &str) -> Json {
        Json::from_checked(Raw::from_checked(text))
    }

    #[test]
    fn an_empty_object_is_empty_however_it_is_written() {
        for text in ["{}", "{ }", "{\n\t}"] {
            assert_eq!(checked(text), Json::default(), "{text:?}");
            assert_eq!(Json::from_stored(text.to_owned()), Json::default());
            assert_eq!(serde_json::to_string(&checked(text)).unwrap(), "{}");
        }
        for text in [r#"{"":{}}"#, r#"{"{}":"{}"}"#, r#"{ "}" : null }"#] {
            assert!(!checked(text).is_empty(), "{text}");
            assert_eq!(serde_json::to_string(&checked(text)).unwrap(), text);
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
            assert_eq!(checked(text).with("k", "v").as_str(), want);
        }
        let twice = Json::default().with("o", Json::default().with("\"", "\\\n"));
        assert_eq!(twice.to_value(), serde_json::json!({"o": {"\"": "\\\n"}}));
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
            let grown = checked(&written.unwrap()).with(&key, &text);
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
            let again = serde_json::to_value(&members).unwrap();
            prop_assert_eq!(again, serde_json::Value::Object(object));
        }
    }
}
