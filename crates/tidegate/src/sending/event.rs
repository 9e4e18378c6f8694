//! Makes an event of a JSON text.

use std::fmt;
use std::sync::Arc;

use serde_json::value::RawValue;
use uuid::Uuid;

/// The namespace of the ids made here.
const IDS: Uuid = Uuid::from_u128(0x7469_6465_6761_7465_7365_6e64_6964_7300);

/// The longest line, in bytes; the service accepts no event of that size.
pub(crate) const LINE: usize = 8 * 1024 * 1024;

/// Where an event comes from.
#[derive(Debug, Clone, Default)]
pub(crate) struct FileLine {
    /// Its file, where there are several.
    pub(crate) file: Option<Arc<str>>,
    /// The number of its line, from 1.
    pub(crate) line: u64,
}

impl fmt::Display for FileLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{file}:{}", self.line),
            None => write!(f, "line {}", self.line),
        }
    }
}

/// One event to send.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) place: FileLine,
    /// One JSON object.
    pub(crate) json: String,
}

impl AsRef<str> for Event {
    fn as_ref(&self) -> &str {
        &self.json
    }
}

/// Where events come from, one after the other.
pub(crate) trait Events: Send + 'static {
    /// The next event, and the position after it; what is none is reported and skipped.
    ///
    /// # Errors
    /// The source cannot be read further.
    fn next(&mut self) -> anyhow::Result<Option<(Event, super::checkpoint::Checkpoint)>>;
}

/// What stands for a source in the ids that are made of its lines.
pub(crate) fn identity(name: &str) -> Uuid {
    Uuid::new_v5(&IDS, name.as_bytes())
}

/// The event of a line, with an id where its envelope reads one.
///
/// # Errors
/// In words, why it is none.
pub(crate) fn of_line(text: &[u8], identity: Uuid, line: u64) -> Result<String, String> {
    let text = std::str::from_utf8(text)
        .map_err(|error| format!("no UTF-8 from byte {}", error.valid_up_to() + 1))?;
    let json: Result<&RawValue, _> = serde_json::from_str(text);
    json.map_err(|error| {
        // The text is one line, whose number within itself is no help.
        let error = error.to_string().replace(" at line 1 column", " at column");
        format!("no JSON: {error}")
    })?;
    if !text.starts_with('{') {
        return Err("JSON, but no object".to_owned());
    }
    Ok(with_id(text, identity, line, text))
}

/// A JSON object with an id where its envelope reads one, made of the line's number and its text.
pub(crate) fn with_id(json: &str, identity: Uuid, line: u64, text: &str) -> String {
    let Some(name) = domain::envelope::missing_id(json) else {
        return json.to_owned();
    };
    let id = Uuid::new_v5(&identity, format!("{line} {text}").as_bytes());
    // After the other members, whose text stays as it is: of equal names the last counts.
    let members = json.strip_suffix('}').unwrap_or(json).trim_end();
    let comma = if members == "{" { "" } else { "," };
    format!("{members}{comma}\"{name}\":\"{id}\"}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Uuid = Uuid::nil();

    fn made(text: &str, line: u64) -> String {
        of_line(text.as_bytes(), IDENTITY, line).unwrap()
    }

    #[test]
    fn an_event_keeps_its_own_id() {
        for text in [
            r#"{"event_type":"a","event_id":"x"}"#,
            r#"{"type":"a","id":"x","source":"s"}"#,
            r#"{"type":"track","messageId":"x"}"#,
            r#"{"specversion":"1.0","type":"a","id":"x","source":"s"}"#,
        ] {
            assert_eq!(made(text, 1), text);
        }
    }

    #[test]
    fn another_gets_one_that_stays_the_same_where_its_envelope_reads_it() {
        for (text, name) in [
            (
                r#"{"event_type":"a","data":{"big":12345678901234567890.5}}"#,
                "event_id",
            ),
            (r#"{"event_type":"a","id":"17"}"#, "event_id"),
            (
                r#"{"event_type":"a","aggregate_id":"1","payload":{},"id":"17"}"#,
                "event_id",
            ),
            (r#"{"event_id":null,"event_type":"a"}"#, "event_id"),
            (r#"{"type":"a","source":"s"}"#, "id"),
            (r#"{"type":"tracked","messageId":"17"}"#, "id"),
            (r#"{"type":"track","userId":"u"}"#, "messageId"),
            ("{ }", "event_id"),
        ] {
            let sent = made(text, 7);
            assert_eq!(sent, made(text, 7));
            assert_ne!(sent, made(text, 8));
            assert!(
                sent.starts_with(text.strip_suffix('}').unwrap().trim_end()),
                "{sent}"
            );
            let value: serde_json::Value = serde_json::from_str(&sent).unwrap();
            assert!(
                Uuid::try_parse(value[name].as_str().unwrap()).is_ok(),
                "{sent}"
            );
            assert_eq!(domain::envelope::missing_id(&sent), None);
        }
    }

    #[test]
    fn a_line_that_is_no_event_is_refused_with_the_reason() {
        for (text, says) in [
            ("[1]", "no object"),
            ("nonsense", "no JSON"),
            (r#"{"a":"#, "at column"),
            (r#"{"a":1} {"b":2}"#, "at column"),
        ] {
            let error = of_line(text.as_bytes(), IDENTITY, 1).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert!(of_line(b"{\"a\":\"\xFF\"}", IDENTITY, 1).is_err());
    }
}
