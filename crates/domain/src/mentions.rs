//! Which users the bytes of a record could be about: one that cannot be read as an event still names them.

use std::collections::HashSet;

use serde_json::Value;

/// Members whose value names a user even where it is a number, without `_` and `-`, in lower case.
const USER_MEMBERS: [&str; 8] = [
    "userid",
    "user",
    "sub",
    "subject",
    "distinctid",
    "anonymousid",
    "previousid",
    "aggregateid",
];

/// The ids that bytes could name users by: every text in a JSON document, and the numbers of members that
/// name users; of what is no JSON, every word and everything in quotation marks. Also without a leading
/// `user:`, as a stream or a key has it.
#[must_use]
pub fn users(bytes: &[u8]) -> HashSet<String> {
    let mut found = HashSet::new();
    let text = String::from_utf8_lossy(bytes);
    insert(&mut found, text.trim());
    match serde_json::from_slice(bytes) {
        Ok(value) => walk(&value, "", &mut found),
        Err(_) => {
            for segment in text.split('"') {
                insert(&mut found, segment);
            }
            let ends = |c: char| {
                c.is_whitespace() || c.is_control() || "\"'`,;:=&?#/\\|(){}[]<>".contains(c)
            };
            for word in text.split(ends) {
                insert(&mut found, word);
            }
        }
    }
    found
}

fn walk(value: &Value, member: &str, found: &mut HashSet<String>) {
    match value {
        Value::String(text) => insert(found, text),
        Value::Number(number) if names_user(member) => insert(found, &number.to_string()),
        Value::Array(items) => items.iter().for_each(|item| walk(item, member, found)),
        Value::Object(members) => members
            .iter()
            .for_each(|(name, item)| walk(item, name, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn names_user(member: &str) -> bool {
    let plain = member.chars().filter(|c| !matches!(c, '_' | '-'));
    let plain: String = plain.flat_map(char::to_lowercase).collect();
    USER_MEMBERS.contains(&plain.as_str())
}

fn insert(found: &mut HashSet<String>, text: &str) {
    // No user's id is longer.
    for id in [Some(text), text.strip_prefix("user:")]
        .into_iter()
        .flatten()
    {
        if !id.is_empty() && id.len() <= 4 * 255 {
            found.insert(id.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::users;

    #[test]
    fn whom_a_record_names_is_found_whatever_became_of_it() {
        for named in [
            &br#"{"event_type":7,"user_id":"u-1"}"#[..],
            br#"{"a":[{"deep":"u\u002d1"}]}"#,
            br#"{"stream":"user:u-1"}"#,
            br#"{"event_type":"a","user_id":"u-1","#,
            b"user:u-1",
            b"u-1",
            b"uid=u-1&x=2",
            b"\xff \"u-1\" \xfe",
        ] {
            assert!(
                users(named).contains("u-1"),
                "{}",
                String::from_utf8_lossy(named)
            );
        }
        for other in [
            &br#"{"user_id":"u-12"}"#[..],
            br#"{"a":"xu-1"}"#,
            b"user:u-12",
            b"{u-1x",
        ] {
            assert!(
                !users(other).contains("u-1"),
                "{}",
                String::from_utf8_lossy(other)
            );
        }
    }

    #[test]
    fn a_number_names_a_user_only_where_users_are_named() {
        assert!(users(br#"{"userId":7}"#).contains("7"));
        assert!(users(br#"{"user_id":[7]}"#).contains("7"));
        assert!(!users(br#"{"count":7}"#).contains("7"));
        assert!(users(br#"{"data":{"with a space":"ada l"}}"#).contains("ada l"));
        assert!(users(br#"broken "ada l" {"#).contains("ada l"));
    }
}
