//! Reads lines and makes them events.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek as _, SeekFrom};
use std::path::Path;

use anyhow::Context as _;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::checkpoint::Checkpoint;
use super::report::Report;

/// The namespace of the ids made here.
const IDS: Uuid = Uuid::from_u128(0x7469_6465_6761_7465_7365_6e64_6964_7300);

/// The longest line, in bytes; the service accepts no event of that size.
const LINE: usize = 8 * 1024 * 1024;

/// One event to send.
#[derive(Debug, Clone)]
pub(super) struct Event {
    /// The number of its line, from 1.
    pub(super) line: u64,
    /// One JSON object.
    pub(super) json: String,
}

/// A source that is read line by line.
pub(super) struct Lines {
    source: BufReader<Box<dyn Read + Send>>,
    length: Option<u64>,
    identity: Uuid,
    at: Checkpoint,
    report: Report,
}

impl Lines {
    /// Opens the source and skips what is before `begin`.
    ///
    /// # Errors
    /// The source cannot be read.
    pub(super) fn open(
        path: &Path,
        identity: &str,
        begin: Checkpoint,
        quiet: bool,
    ) -> anyhow::Result<Self> {
        let (source, length): (Box<dyn Read + Send>, _) = if path.as_os_str() == "-" {
            (Box::new(std::io::stdin()), None)
        } else {
            let shown = path.display();
            let mut file = File::open(path).with_context(|| format!("{shown} cannot be read"))?;
            let metadata = file.metadata()?;
            anyhow::ensure!(!metadata.is_dir(), "{shown} is a directory");
            if begin.offset > 0 {
                file.seek(SeekFrom::Start(begin.offset))?;
            }
            let length = metadata.is_file().then_some(metadata.len());
            (Box::new(file), length)
        };
        Ok(Self {
            source: BufReader::with_capacity(256 * 1024, source),
            length,
            identity: Uuid::new_v5(&IDS, identity.as_bytes()),
            at: begin,
            report: Report::new(length, quiet, begin),
        })
    }

    /// The report of the lines that are no events.
    pub(super) fn report(&self) -> Report {
        self.report.clone()
    }

    /// Whether the source is complete; the lines of a pipe may arrive at any time.
    pub(super) fn is_complete(&self) -> bool {
        self.length.is_some()
    }

    /// The next line that is an event, and the position after it; other lines are reported and skipped.
    ///
    /// # Errors
    /// The source cannot be read further.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<(Event, Checkpoint)>> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut self.source)
                .take(LINE as u64 + 1)
                .read_until(b'\n', &mut line)
                .context("reading broke off")?;
            if read == 0 {
                self.report.passed(self.at);
                return Ok(None);
            }
            self.at.lines += 1;
            self.at.offset += read as u64;
            if read > LINE {
                self.at.offset += self.source.skip_until(b'\n')? as u64;
                self.report.bad(self.at.lines, "longer than 8 MiB");
                continue;
            }
            let text = if self.at.lines == 1 {
                line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&line)
            } else {
                &line
            };
            let text = text.trim_ascii();
            if text.is_empty() {
                continue;
            }
            let line = self.at.lines;
            match event(text, self.identity, line) {
                Ok(json) => return Ok(Some((Event { line, json }, self.at))),
                Err(reason) => self.report.bad(line, &reason),
            }
        }
    }
}

/// The event of a line, with an id where its envelope reads one.
fn event(text: &[u8], identity: Uuid, line: u64) -> Result<String, String> {
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
    let Some(name) = domain::envelope::missing_id(text) else {
        return Ok(text.to_owned());
    };
    let id = Uuid::new_v5(&identity, format!("{line} {text}").as_bytes());
    // After the other members, whose text stays as it is: of equal names the last counts.
    let members = text.strip_suffix('}').unwrap_or(text).trim_end();
    let comma = if members == "{" { "" } else { "," };
    Ok(format!("{members}{comma}\"{name}\":\"{id}\"}}"))
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
            let error = event(text.as_bytes(), IDENTITY, 1).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert!(event(b"{\"a\":\"\xFF\"}", IDENTITY, 1).is_err());
    }
}
