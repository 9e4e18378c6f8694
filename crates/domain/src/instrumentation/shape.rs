//! What an event's data is made of.

use serde_json::Value;

use crate::json::Json;

/// Members of one event's data that are looked at.
pub const MAX_PATHS: usize = 64;
/// How deep it is looked.
const MAX_DEPTH: usize = 3;
/// Longest path, in characters.
const MAX_CHARS: usize = 120;

/// The members of an event's data, by their path (`order.total`), with the type of each: `string`, `number`,
/// `boolean`, `object`, `array` or `null`. What is inside of arrays is not looked at.
#[must_use]
pub fn shape(data: &Json) -> Vec<(String, &'static str)> {
    let mut paths = vec![];
    if !data.is_empty() {
        walk(&data.to_value(), "", 0, &mut paths);
    }
    paths
}

fn walk(value: &Value, path: &str, depth: usize, paths: &mut Vec<(String, &'static str)>) {
    let Value::Object(members) = value else {
        return;
    };
    for (name, member) in members {
        if paths.len() >= MAX_PATHS {
            return;
        }
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        // A name that is a number or an id is a key of a table, not a member.
        if path.chars().count() > MAX_CHARS || name.chars().all(|c| c.is_ascii_digit()) {
            continue;
        }
        let of = match member {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        paths.push((path.clone(), of));
        if depth + 1 < MAX_DEPTH {
            walk(member, &path, depth + 1, paths);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_have_their_path_and_type() {
        let data = Json::from_stored(
            r#"{"a":1,"b":{"c":"x","d":{"e":{"f":1}}},"g":[{"h":1}],"i":null,"7":true}"#.to_owned(),
        );
        let paths = shape(&data);
        let paths: Vec<_> = paths
            .iter()
            .map(|(path, of)| (path.as_str(), *of))
            .collect();
        let want = [
            ("a", "number"),
            ("b", "object"),
            ("b.c", "string"),
            ("b.d", "object"),
            ("b.d.e", "object"),
            ("g", "array"),
            ("i", "null"),
        ];
        assert_eq!(paths, want);
        assert!(shape(&Json::default()).is_empty());
    }
}
