//! What the scanner passes and refuses.

use proptest::prelude::*;

use super::*;
use crate::json::Members;
use crate::json::Raw;

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
    for text in ["1e-16383", "0.1e-1000", "0e-5000", "0e16383"] {
        assert_eq!(refused(text).1, Code::NotStorable, "{text}");
    }
    // Each alone is no trouble.
    let many = format!("[{}1]", "1e-300,".repeat(4_000));
    let (path, code) = refused(&many);
    assert_eq!(code, Code::NotStorable);
    assert!(path.starts_with("[35"), "{path}");
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
        "1.7976931348623157e308",
        "4.9406564584124654e-324",
        "0.1e-998",
        "123456789012345678901234567890.5",
        "\"\\ud83d\\ude00\\u0001\\/\"",
        " [ { } , [ ] , \"\" , null , true , false ]\r\n\t",
        r#"{"a":1,"a":2,"":3}"#,
    ] {
        assert_eq!(scan(text, 32), Ok(()), "{text}");
    }
}

#[test]
fn each_member_is_kept_once_the_last_of_equal_names() {
    let many: Vec<String> = (0..20).map(|n| format!(r#""k{n}":{n}"#)).collect();
    let many = many.join(",");
    for (text, want) in [
        (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
        (
            r#"{ "a" : 1 , "b" : 2 , "a" : 3 }"#,
            r#"{ "b" : 2 , "a" : 3 }"#,
        ),
        (r#"{"a":1,"\u0061":2}"#, r#"{"\u0061":2}"#),
        (
            r#"[{"a":{"b":1,"b":2},"c":0,"a":{"b":3,"b":4}}]"#,
            r#"[{"c":0,"a":{"b":4}}]"#,
        ),
        (
            r#"{"a":{"x":1,"x":2},"a":1,"a":{"x":[{"y":1,"y":1.50}]}}"#,
            r#"{"a":{"x":[{"y":1.50}]}}"#,
        ),
        (
            &format!(r#"{{"k3":[],{many},"k19":null}}"#),
            &format!(r#"{{{},"k19":null}}"#, &many[..many.len() - 9]),
        ),
        (r#"{"a":1,"b":{"a":2}}"#, r#"{"a":1,"b":{"a":2}}"#),
    ] {
        assert_eq!(canonical(text, 32).unwrap(), want, "{text}");
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

fn pairs(members: Option<&Members<'_>>) -> Option<Vec<(String, String)>> {
    let pair = |(name, value): (&str, Raw<'_>)| (name.to_owned(), value.get().to_owned());
    members.map(|members| members.iter().map(pair).collect())
}

proptest! {
    #[test]
    fn every_valid_value_passes(value in json()) {
        for text in [value.to_string(), format!(" {value:#} ")] {
            let scanned = scanned(&text, 32).unwrap();
            let members = scanned.members();
            prop_assert_eq!(pairs(members.as_ref()), pairs(Members::split(&text).as_ref()));
        }
    }

    #[test]
    fn repeated_members_say_what_a_tree_says(names in prop::collection::vec("[a-c\u{e9}\"\\\\]{0,2}", 0..40), deep: bool) {
        let members: Vec<String> = names.iter().enumerate()
            .map(|(n, name)| format!("{}:{{{}:{n}}}", serde_json::Value::from(name.as_str()), if deep { "\"x\":0,\"x\"" } else { "\"y\"" }))
            .collect();
        let text = format!("{{{}}}", members.join(" , "));
        let scanned = scanned(&text, 32).unwrap();
        let once = &*scanned.text;
        prop_assert_eq!(pairs(scanned.members().as_ref()), pairs(Members::split(once).as_ref()));
        let tree: serde_json::Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(serde_json::from_str::<serde_json::Value>(once).unwrap(), tree.clone());
        prop_assert_eq!(once.matches(':').count(), 2 * tree.as_object().unwrap().len());
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
