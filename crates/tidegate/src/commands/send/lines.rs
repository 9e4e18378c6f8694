//! From lines to events.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek as _, SeekFrom};
use std::path::Path;

use anyhow::Context as _;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::checkpoint::Place;
use super::report::Report;

/// Namespace of the ids made here.
const IDS: Uuid = Uuid::from_u128(0x7469_6465_6761_7465_7365_6e64_6964_7300);

/// Longest line that is read at all; a longer one is no event anybody takes.
const LINE: usize = 8 * 1024 * 1024;

/// One event to send.
#[derive(Debug, Clone)]
pub(super) struct Event {
    /// Its line, from 1.
    pub(super) line: u64,
    /// One JSON object.
    pub(super) json: String,
}

/// The source, read line by line.
pub(super) struct Lines {
    source: BufReader<Box<dyn Read + Send>>,
    length: Option<u64>,
    identity: Uuid,
    place: Place,
    report: Report,
}

impl Lines {
    /// Opens it and goes where to begin.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn open(
        path: &Path,
        identity: &str,
        begin: Place,
        quiet: bool,
    ) -> anyhow::Result<Self> {
        let (source, length): (Box<dyn Read + Send>, _) = if path.as_os_str() == "-" {
            (Box::new(std::io::stdin()), None)
        } else {
            let shown = path.display();
            let mut file = File::open(path).with_context(|| format!("{shown} cannot be read"))?;
            let about = file.metadata()?;
            anyhow::ensure!(!about.is_dir(), "{shown} is a directory");
            if begin.offset > 0 {
                file.seek(SeekFrom::Start(begin.offset))?;
            }
            let length = about.is_file().then_some(about.len());
            (Box::new(file), length)
        };
        Ok(Self {
            source: BufReader::with_capacity(256 * 1024, source),
            length,
            identity: Uuid::new_v5(&IDS, identity.as_bytes()),
            place: begin,
            report: Report::new(length, quiet, begin),
        })
    }

    /// Where what is no event is told.
    pub(super) fn report(&self) -> Report {
        self.report.clone()
    }

    /// Whether it is known how much there is; else whoever writes may take their time.
    pub(super) fn is_whole(&self) -> bool {
        self.length.is_some()
    }

    /// The next line that is an event, and the place after it; what is none is told and passed over.
    ///
    /// # Errors
    /// The source cannot be read further.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<(Event, Place)>> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut self.source)
                .take(LINE as u64 + 1)
                .read_until(b'\n', &mut line)
                .context("reading broke off")?;
            if read == 0 {
                self.report.passed(self.place);
                return Ok(None);
            }
            self.place.lines += 1;
            self.place.offset += read as u64;
            if read > LINE {
                self.place.offset += self.source.skip_until(b'\n')? as u64;
                self.report.bad(self.place.lines, "longer than 8 MiB");
                continue;
            }
            let text = if self.place.lines == 1 {
                line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&line)
            } else {
                &line
            };
            let text = text.trim_ascii();
            if text.is_empty() {
                continue;
            }
            match event(text, self.identity, self.place.lines) {
                Ok(json) => {
                    let line = self.place.lines;
                    return Ok(Some((Event { line, json }, self.place)));
                }
                Err(reason) => self.report.bad(self.place.lines, &reason),
            }
        }
    }
}

/// A line as it is sent: with an id.
fn event(text: &[u8], identity: Uuid, line: u64) -> Result<String, String> {
    #[derive(serde::Deserialize)]
    struct Ids<'a> {
        #[serde(borrow, default)]
        event_id: Option<&'a RawValue>,
        #[serde(borrow, default)]
        id: Option<&'a RawValue>,
        #[serde(borrow, default, rename = "messageId")]
        message_id: Option<&'a RawValue>,
    }
    let text = std::str::from_utf8(text)
        .map_err(|error| format!("no UTF-8 from byte {}", error.valid_up_to() + 1))?;
    if !text.starts_with('{') {
        return Err(match serde_json::from_str::<&RawValue>(text) {
            Ok(_) => "JSON, but no object".to_owned(),
            Err(_) => "no JSON".to_owned(),
        });
    }
    let ids: Ids<'_> = serde_json::from_str(text).map_err(|error| {
        // There is but one line; its own number says nothing.
        let error = error.to_string().replace(" at line 1 column", " at column");
        format!("no JSON: {error}")
    })?;
    let own = [ids.event_id, ids.id, ids.message_id];
    if own.iter().flatten().any(|id| id.get() != "null") {
        return Ok(text.to_owned());
    }
    let id = Uuid::new_v5(&identity, format!("{line} {text}").as_bytes());
    Ok(with_id(text, id))
}

/// Puts the id in front of the other members, whose text stays as it is. A member `event_id: null`
/// further on would be a second of that name, so it is replaced where it stands.
fn with_id(text: &str, id: Uuid) -> String {
    let mut members: serde_json::Map<String, serde_json::Value>;
    let rest = &text[1..];
    if rest.contains("\"event_id\"") {
        members = serde_json::from_str(text).unwrap_or_default();
        if members.contains_key("event_id") {
            members.insert("event_id".to_owned(), id.to_string().into());
            return serde_json::Value::Object(members).to_string();
        }
    }
    let comma = if rest.trim_start().starts_with('}') {
        ""
    } else {
        ","
    };
    format!("{{\"event_id\":\"{id}\"{comma}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Uuid = Uuid::nil();

    fn made(text: &str, line: u64) -> String {
        event(text.as_bytes(), IDENTITY, line).unwrap()
    }

    #[test]
    fn an_event_keeps_its_own_id() {
        for text in [
            r#"{"event_type":"a","event_id":"x"}"#,
            r#"{"type":"a","id":"x","source":"s"}"#,
            r#"{"type":"track","messageId":"x"}"#,
        ] {
            assert_eq!(made(text, 1), text);
        }
    }

    #[test]
    fn another_gets_one_that_stays_the_same() {
        let text = r#"{"event_type":"a","data":{"big":12345678901234567890.5}}"#;
        let sent = made(text, 7);
        assert_eq!(sent, made(text, 7));
        assert_ne!(sent, made(text, 8));
        assert!(sent.ends_with(&format!(",{}", &text[1..])), "{sent}");
        assert!(serde_json::from_str::<serde_json::Value>(&sent).is_ok());
        assert!(serde_json::from_str::<serde_json::Value>(&made("{ }", 1)).is_ok());
    }

    #[test]
    fn a_null_id_is_none() {
        let sent = made(r#"{"event_id":null,"event_type":"a"}"#, 1);
        let value: serde_json::Value = serde_json::from_str(&sent).unwrap();
        assert_eq!(sent.matches("event_id").count(), 1);
        assert!(value["event_id"].is_string(), "{sent}");
    }

    #[test]
    fn what_is_no_event_is_told() {
        for (text, says) in [
            ("[1]", "no object"),
            ("nonsense", "no JSON"),
            (r#"{"a":"#, "at column"),
            (r#"{"a":1} {"b":2}"#, "at column"),
        ] {
            let error = event(text.as_bytes(), IDENTITY, 1).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert!(event(b"{\"a\":\"\xFF\"}", IDENTITY, 1).is_err());
    }
}
