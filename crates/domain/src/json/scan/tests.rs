//! What the scanner passes and refuses.

use proptest::prelude::*;

use super::*;

fn refused(text: &str) -> (String, Code) {
    match scan(text, 32) {
        Err(ScanError::Field(e)) => (e.path, e.code),
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn offences_are_named_by_path() {
    for (text, path, code) in [
        (r#"{"a":{"b":["x","\u0000"]}}"#, "a.b[1]", Code::NotStorable),
        (r#"{"a":"\ud800"}"#, "a", Code::NotStorable),
        (r#"{"a":"\ud800\u0041"}"#, "a", Code::NotStorable),
        (r#"{"a":"\udc00"}"#, "a", Code::NotStorable),
        (r#"[1,1e400]"#, "[1]", Code::NotStorable),
        (r#"{"a":-1e400}"#, "a", Code::NotStorable),
        (r#"{"a":1e-20000}"#, "a", Code::NotStorable),
        (r#"{"a":1e99999999999999999999}"#, "a", Code::NotStorable),
        (r#"{"a":0e99999}"#, "a", Code::NotStorable),
        (
            r#"{"a":{"b":[[],[0.1e-16383]]}}"#,
            "a.b[1][0]",
            Code::NotStorable,
        ),
    ] {
        assert_eq!(refused(text), (path.to_owned(), code), "{text}");
    }
    let many_digits = format!(r#"{{"a":0.{}}}"#, "1".repeat(16_384));
    assert_eq!(refused(&many_digits).1, Code::NotStorable);
    assert_eq!(
        refused(&format!(r#"{{"a":{}}}"#, "9".repeat(400))).1,
        Code::NotStorable
    );
}

#[test]
fn depth_is_bounded_without_using_the_stack() {
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(refused(&deep).1, Code::TooDeep);
    let fits = format!("{}1{}", "[".repeat(32), "]".repeat(32));
    assert_eq!(scan(&fits, 32), Ok(()));
    assert!(scan(&fits, 31).is_err());
}

#[test]
fn what_postgres_can_hold_passes() {
    for text in [
        "-0",
        "-0.0",
        "1e308",
        "1e-16383",
        "0e16383",
        "123456789012345678901234567890.5",
        "\"\\ud83d\\ude00\\u0001\\/\"",
        " [ { } , [ ] , \"\" , null , true , false ]\r\n\t",
        r#"{"a":1,"a":2,"":3}"#,
    ] {
        assert_eq!(scan(text, 32), Ok(()), "{text}");
    }
}

#[test]
fn a_key_with_a_nul_is_refused_too() {
    assert_eq!(
        refused(r#"{"ok":{"\u0000":1}}"#),
        ("ok".to_owned(), Code::NotStorable)
    );
}

#[test]
fn what_is_no_json_is_a_syntax_error() {
    for text in [
        "",
        " ",
        "{",
        "[1,]",
        "{\"a\":}",
        "{a:1}",
        "01",
        "1.",
        "1e",
        "+1",
        ".5",
        "nul",
        "\"",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\u{1}\"",
        "{} {}",
        "[1 2]",
        "{\"a\" 1}",
        "NaN",
        "-",
    ] {
        assert!(
            matches!(scan(text, 32), Err(ScanError::Syntax { .. })),
            "{text:?}"
        );
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        "[^\0]{0,12}".prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::hash_map("[^\0]{0,6}", inner, 0..6)
                .prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn every_valid_value_passes(value in json()) {
        prop_assert_eq!(scan(&value.to_string(), 32), Ok(()));
    }

    #[test]
    fn never_laxer_than_serde_json(text in "[\\[\\]{}:,\"\\\\u0-9aDdeE+. tfn\\-]{0,24}") {
        let ours = scan(&text, 100).is_ok();
        let theirs = serde_json::from_str::<serde_json::Value>(&text).is_ok();
        prop_assert!(!ours || theirs, "we accept {:?}, serde_json does not", text);
    }

    #[test]
    fn a_changed_byte_never_panics(value in json(), at in any::<prop::sample::Index>(), to in any::<char>()) {
        let text = value.to_string();
        let mut chars: Vec<char> = text.chars().collect();
        let at = at.index(chars.len());
        chars[at] = to;
        let text: String = chars.into_iter().collect();
        let ours = scan(&text, 100).is_ok();
        prop_assert!(!ours || serde_json::from_str::<serde_json::Value>(&text).is_ok());
    }
}
