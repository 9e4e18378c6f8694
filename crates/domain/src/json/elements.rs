//! An array split into its elements by strings and brackets alone.

use crate::write::plain;

/// The texts of an array's elements, the first `most` of them, and how many there are; `None` if the
/// text is no array. The elements are not checked: if each is JSON, the array is.
#[must_use]
pub fn elements(array: &str, most: usize) -> Option<(Vec<&str>, usize)> {
    let bytes = array.as_bytes();
    let mut elements = Vec::with_capacity(most.min(64));
    let mut count = 0;
    let mut at = space(bytes, 0);
    if bytes.get(at) != Some(&b'[') {
        return None;
    }
    loop {
        at = space(bytes, at + 1);
        let end = end(bytes, at)?;
        let element = array.get(at..end)?.trim_end_matches(is_space);
        let last = bytes.get(end) == Some(&b']');
        // `[]` has none; `[1,]` has one that is no JSON.
        if count > 0 || !last || !element.is_empty() {
            count += 1;
            if count <= most {
                elements.push(element);
            }
        }
        at = end;
        if last {
            let is_all = space(bytes, end + 1) == bytes.len();
            return is_all.then_some((elements, count));
        }
    }
}

/// Whether it is white space of JSON (RFC 8259, section 2).
fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r')
}

/// Where the white space ends that begins at `from`, if there is any.
fn space(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    let spaces = rest.iter().take_while(|byte| is_space(**byte as char));
    from + spaces.count()
}

/// Where the comma or bracket after the element stands that begins at `at`.
fn end(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match bytes.get(at)? {
            b'"' => at = string(bytes, at + 1)?,
            b'{' | b'[' => depth += 1,
            b',' | b']' if depth == 0 => return Some(at),
            b'}' | b']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        at += 1;
    }
}

/// Where the quote stands that ends the string whose text begins at `at`.
fn string(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += plain(bytes.get(at..)?);
        match bytes.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;
    use crate::json::scan;

    /// What serde's reader says of it.
    fn by_serde(text: &str) -> Option<Vec<&str>> {
        let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
        Some(elements.into_iter().map(RawValue::get).collect())
    }

    /// The elements, if each is JSON.
    fn checked(text: &str) -> Option<Vec<&str>> {
        let (elements, count) = elements(text, usize::MAX)?;
        assert_eq!(elements.len(), count);
        let all = elements.iter().all(|one| scan(one, 64).is_ok());
        all.then_some(elements)
    }

    #[test]
    fn only_arrays_have_elements() {
        for (text, want) in [
            ("[]", Some(vec![])),
            (" [ ] \r\n", Some(vec![])),
            ("[1]", Some(vec!["1"])),
            ("[ 1 ,\t2.5\n]", Some(vec!["1", "2.5"])),
            (
                r#"["]", {"a":[1,2],"b":"\"]"}, [[]]]"#,
                Some(vec![r#""]""#, r#"{"a":[1,2],"b":"\"]"}"#, "[[]]"]),
            ),
            ("", None),
            ("{}", None),
            ("[", None),
            ("[1", None),
            ("[1}", None),
            ("[1]]", None),
            ("[1] x", None),
            ("[\"", None),
            ("[\"\\", None),
            ("[\"\\\"]", None),
            ("[{\"a\":1]", None),
            ("[{]}]", None),
        ] {
            assert_eq!(elements(text, 9).map(|(found, _)| found), want, "{text}");
        }
    }

    #[test]
    fn what_is_no_json_is_left_to_its_element() {
        for text in [
            "[,]",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[\"\n\"]",
            "[01]",
            "[\u{a0}1]",
            "[1\u{c}]",
        ] {
            assert!(elements(text, 9).is_some(), "{text}");
            assert_eq!((checked(text), by_serde(text)), (None, None), "{text}");
        }
    }

    #[test]
    fn more_than_wanted_are_counted() {
        assert_eq!(elements("[1,2,3]", 2), Some((vec!["1", "2"], 3)));
        assert_eq!(elements("[1,2]", 0), Some((vec![], 2)));
    }

    proptest! {
        #[test]
        fn serde_finds_the_same(text in r#"[ \[][\[\]{},:"\\ a1\n-]{0,12}[\]" ]{0,2}"#) {
            prop_assert_eq!(checked(&text), by_serde(&text));
        }

        #[test]
        fn valid_arrays_too(strings: Vec<String>, numbers: Vec<i32>, pretty: bool) {
            let array = serde_json::json!([strings, {"a": &strings}, numbers, null, 1.5]);
            let text = if pretty {
                serde_json::to_string_pretty(&array)
            } else {
                serde_json::to_string(&array)
            };
            let text = text.unwrap();
            let want = by_serde(&text);
            prop_assert!(want.is_some());
            prop_assert_eq!(elements(&text, 9).map(|(found, _)| found), want);
        }
    }
}
