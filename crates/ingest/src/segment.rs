//! The bodies of Segment's and RudderStack's clients: messages, completed by what stands around them.

use domain::envelope::segment::CALLS;
use domain::field::Code;
use domain::json::{Members, Raw};
use domain::{Json, write};
use serde_json::value::to_raw_value;

use crate::accept::{self, Batch, Intake, Refused};

/// The names the browser's client has for the calls, in the order of [`CALLS`].
const SHORT: [&str; 6] = ["t", "i", "p", "s", "g", "a"];

/// The call that a path such as `/v1/track` or `/v1/t` names; `None` for `/v1/batch` and
/// `/v1/import`.
#[must_use]
pub fn call(path: &str) -> Option<&'static str> {
    let (_, name) = path.trim_end_matches('/').rsplit_once('/')?;
    let mut names = CALLS.into_iter().zip(SHORT);
    names.find_map(|(call, short)| (name == call || name == short).then_some(call))
}

/// Reads one message of this call, or without one a batch, of which the good ones are taken.
///
/// # Errors
/// See [`Refused`]; of a batch only if no message is good.
pub fn messages(
    body: &[u8],
    intake: &Intake<'_>,
    call: Option<&'static str>,
) -> Result<Batch, Refused> {
    let text = accept::text(body)?;
    let Some(mut outer) = Members::split(text) else {
        return Err(accept::syntax_or(text, "", "must be an object".to_owned()));
    };
    if let Some(call) = call.and_then(|call| to_raw_value(call).ok()) {
        outer.set("type", &*call);
        let message = write::text(&outer);
        return Ok(Batch {
            accepted: vec![accept::one(message.as_bytes(), intake)?],
            ..Batch::default()
        });
    }
    let context = outer.get("context").map_or("null", Raw::get);
    if !context.starts_with('{') && context != "null" {
        return Err(Refused::field(
            "context",
            Code::WrongType,
            "must be an object",
        ));
    }
    let Some(batch) = outer.get("batch") else {
        return Err(Refused::field("batch", Code::Missing, "is required"));
    };
    if !batch.get().starts_with('[') {
        let message = "must be an array of messages";
        return Err(Refused::field("batch", Code::WrongType, message));
    }
    let messages = accept::split(batch.get(), "batch", intake)?;
    let messages: Vec<_> = messages.iter().map(|one| complete(one, &outer)).collect();
    accept::elements_of(&messages, "batch", intake, None, true)
}

/// Reads one message, or an array of them, of which the good ones are taken (S4-54).
///
/// # Errors
/// See [`Refused`]; of an array only if no message is good.
pub fn webhook(body: &[u8], intake: &Intake<'_>) -> Result<Batch, Refused> {
    let text = accept::text(body)?;
    if text.trim_start().starts_with('[') {
        return accept::array(text, "", intake, None, true);
    }
    Ok(Batch {
        accepted: vec![accept::one(body, intake)?],
        ..Batch::default()
    })
}

/// The message with what the batch says for all: when it was sent, and the context, of which the
/// message's own members win.
fn complete(message: &str, outer: &Members<'_>) -> String {
    let Some(mut members) = Members::split(message) else {
        return message.to_owned();
    };
    if let (None, Some(sent_at)) = (members.get("sentAt"), outer.get("sentAt")) {
        members.set("sentAt", sent_at);
    }
    let both = |all: Raw<'_>, own: Raw<'_>| {
        let (mut all, own) = Members::split(all.get()).zip(Members::split(own.get()))?;
        own.iter()
            .for_each(|(key, raw)| all.set(key.to_owned(), raw));
        Some(Json::from(&all))
    };
    let context = match (outer.get("context"), members.get("context")) {
        (Some(all), Some(own)) => both(all, own),
        (Some(all), None) => {
            members.set("context", all);
            None
        }
        (None, _) => None,
    };
    if let Some(context) = &context {
        members.set("context", context);
    }
    write::text(&members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_calls() {
        for (path, want) in [
            ("/v1/track", Some("track")),
            ("/v1/t", Some("track")),
            ("/v1/a/", Some("alias")),
            ("/v1/batch", None),
            ("/v1/import", None),
        ] {
            assert_eq!(call(path), want, "{path}");
        }
    }

    #[test]
    fn a_batch_completes_its_messages() {
        let outer = r#"{"sentAt":"2024-05-01T12:00:00Z","context":{"ip":"1","app":{"name":"a"}}}"#;
        let outer = Members::split(outer).unwrap();
        for (message, want) in [
            (
                r#"{"type":"track"}"#,
                r#"{"type":"track","sentAt":"2024-05-01T12:00:00Z","context":{"ip":"1","app":{"name":"a"}}}"#,
            ),
            (
                r#"{"sentAt":"x","context":{"ip":"2","b":3}}"#,
                r#"{"sentAt":"x","context":{"ip":"2","app":{"name":"a"},"b":3}}"#,
            ),
            ("7", "7"),
        ] {
            assert_eq!(complete(message, &outer), want);
        }
    }
}
