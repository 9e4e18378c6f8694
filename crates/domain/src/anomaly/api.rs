//! Which API an event is about.

use crate::json::Json;

/// Longest name, in characters.
const MAX_CHARS: usize = 100;
/// A segment of a path of so many characters is an id if it has a digit.
const LONG: usize = 12;

/// The API that an event's data names: its `endpoint`, else its `api`, as far as that is text. Of a URL
/// the path, without query; a segment that is an id is `:id`, so that few names stand for many calls.
#[must_use]
pub fn api_of(data: &Json) -> Option<String> {
    let text = data.as_str();
    if !text.contains("\"endpoint\"") && !text.contains("\"api\"") {
        return None;
    }
    let members = data.members();
    let value = members.get("endpoint").or_else(|| members.get("api"))?;
    let named: String = serde_json::from_str(value.get()).ok()?;
    let named = named.split(['?', '#']).next().unwrap_or_default().trim();
    let path = match named.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => named,
    };
    let segments = path.split('/').map(|one| {
        let digits = one.bytes().filter(u8::is_ascii_digit).count();
        let is_id = digits > 0 && (digits == one.len() || one.len() >= LONG);
        if is_id { ":id" } else { one }
    });
    let name: String = segments.collect::<Vec<_>>().join("/");
    let name: String = name.chars().take(MAX_CHARS).collect();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_calls_have_few_names() {
        for (data, want) in [
            ("{}", None),
            (r#"{"endpoint":7}"#, None),
            (r#"{"endpoint":" "}"#, None),
            (r#"{"x":{"api":"a"}}"#, None),
            (r#"{"api":"billing"}"#, Some("billing")),
            (
                r#"{"endpoint":"/v1/orders/17?a=1"}"#,
                Some("/v1/orders/:id"),
            ),
            (
                r#"{"endpoint":"https://h.example/a/0199a4c0-0000-7000-8000-000000000001#x"}"#,
                Some("/a/:id"),
            ),
            (r#"{"endpoint":"https://h.example"}"#, Some("/")),
        ] {
            let data = Json::from_stored(data.to_owned());
            assert_eq!(api_of(&data).as_deref(), want, "{data:?}");
        }
    }
}
