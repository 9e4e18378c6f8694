//! Parses bytes to events: the head of a response, chunks, and the lines of the format
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::{Buf as _, BytesMut};

/// One dispatched event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseEvent {
    /// The name; `message` if there is none.
    pub event: String,
    /// The last event id at that moment.
    pub id: String,
    /// The data.
    pub data: String,
}

type Head = (u16, BTreeMap<String, String>);

/// Removes status and headers from the front, once they are complete.
pub(super) fn head(received: &mut BytesMut) -> anyhow::Result<Option<Head>> {
    let Some(end) = received.windows(4).position(|w| w == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = String::from_utf8(received.split_to(end + 4).to_vec())?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let status = status.context("no status")?.parse()?;
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    Ok(Some((status, lines.filter_map(header).collect())))
}

/// The framing of the body.
#[derive(Debug)]
pub(super) enum Body {
    /// Plain, up to the end of the connection.
    Plain,
    /// Before the size of a chunk.
    Size,
    /// Inside a chunk, with the bytes left.
    Chunk(usize),
    /// Before the line break after a chunk.
    Break,
    /// After the last chunk.
    Ended,
}

impl Body {
    pub(super) fn new(chunked: bool) -> Self {
        if chunked { Self::Size } else { Self::Plain }
    }

    pub(super) fn ended(&self) -> bool {
        matches!(self, Self::Ended)
    }

    /// Whether the connection may end here.
    pub(super) fn may_end(&self) -> bool {
        matches!(self, Self::Plain | Self::Ended)
    }

    /// Moves text from `received`; false if there was none.
    pub(super) fn take(
        &mut self,
        received: &mut BytesMut,
        text: &mut BytesMut,
    ) -> anyhow::Result<bool> {
        let before = text.len();
        loop {
            match self {
                Self::Plain => {
                    text.unsplit(received.split());
                    break;
                }
                Self::Size => {
                    let Some(end) = received.windows(2).position(|w| w == b"\r\n") else {
                        break;
                    };
                    let line = String::from_utf8(received.split_to(end + 2).to_vec())?;
                    let digits = line.trim_end().split(';').next().unwrap_or_default();
                    let size = usize::from_str_radix(digits, 16).context(line.clone())?;
                    *self = if size == 0 {
                        Self::Ended
                    } else {
                        Self::Chunk(size)
                    };
                }
                Self::Chunk(left) => {
                    let now = received.len().min(*left);
                    text.extend_from_slice(&received.split_to(now));
                    *left -= now;
                    if *left > 0 {
                        break;
                    }
                    *self = Self::Break;
                }
                Self::Break => {
                    if received.len() < 2 {
                        break;
                    }
                    ensure!(received.starts_with(b"\r\n"), "a chunk without its end");
                    received.advance(2);
                    *self = Self::Size;
                }
                Self::Ended => break,
            }
        }
        Ok(text.len() > before)
    }
}

/// Parses lines to events.
#[derive(Debug, Default)]
pub(super) struct Parser {
    event: String,
    data: Vec<String>,
    /// Counts from the end of the block on.
    id: Option<String>,
    last: Option<String>,
    retry: Option<Duration>,
    comments: usize,
}

impl Parser {
    pub(super) fn last_event_id(&self) -> Option<&str> {
        self.last.as_deref()
    }

    pub(super) fn retry(&self) -> Option<Duration> {
        self.retry
    }

    pub(super) fn comments(&self) -> usize {
        self.comments
    }

    /// Consumes lines up to the next event.
    pub(super) fn next(&mut self, text: &mut BytesMut) -> anyhow::Result<Option<SseEvent>> {
        while let Some(line) = line(text)? {
            if let Some(event) = self.line(&line)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Consumes lines up to the first block with an id, which must be without data.
    pub(super) fn next_cursor(&mut self, text: &mut BytesMut) -> anyhow::Result<Option<String>> {
        while self.last.is_none() {
            let Some(line) = line(text)? else {
                return Ok(None);
            };
            if let Some(event) = self.line(&line)? {
                bail!("an event before the first id: {event:?}");
            }
        }
        Ok(self.last.clone())
    }

    fn line(&mut self, line: &str) -> anyhow::Result<Option<SseEvent>> {
        if line.is_empty() {
            return Ok(self.dispatch());
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
        match name {
            "" => self.comments += 1,
            "event" => self.event = value,
            "data" => self.data.push(value),
            "id" => self.id = Some(value),
            "retry" => self.retry = Some(Duration::from_millis(value.parse()?)),
            // A browser would pass over it; we send none.
            other => bail!("an unknown field {other:?}"),
        }
        Ok(None)
    }

    fn dispatch(&mut self) -> Option<SseEvent> {
        if let Some(id) = self.id.take() {
            self.last = Some(id);
        }
        let event = std::mem::take(&mut self.event);
        let data = std::mem::take(&mut self.data);
        (!data.is_empty()).then(|| SseEvent {
            event: if event.is_empty() {
                "message".to_owned()
            } else {
                event
            },
            id: self.last.clone().unwrap_or_default(),
            data: data.join("\n"),
        })
    }
}

/// Removes a complete line from the front, without its end.
fn line(text: &mut BytesMut) -> anyhow::Result<Option<String>> {
    let Some(end) = text.iter().position(|byte| *byte == b'\n') else {
        return Ok(None);
    };
    let mut line = String::from_utf8(text.split_to(end + 1).to_vec())?;
    line.truncate(line.trim_end_matches(['\n', '\r']).len());
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(event: &str, id: &str, data: &str) -> SseEvent {
        SseEvent {
            event: event.to_owned(),
            id: id.to_owned(),
            data: data.to_owned(),
        }
    }

    #[test]
    fn reads_events_however_they_are_cut() {
        let stream = "retry: 1500\n\nid: 1-0\n\n: heartbeat\n\nevent: a.b\nid: 2-0\ndata: {}\n\n\
                      data: one\r\ndata: two\r\n\r\nid: 3-0\ndata: three";
        for size in [1, 2, 7, 1_000] {
            let (mut parser, mut text, mut found) = (Parser::default(), BytesMut::new(), vec![]);
            for part in stream.as_bytes().chunks(size) {
                text.extend_from_slice(part);
                while let Some(event) = parser.next(&mut text).unwrap() {
                    found.push(event);
                }
            }
            let expected = [
                event("a.b", "2-0", "{}"),
                event("message", "2-0", "one\ntwo"),
            ];
            assert_eq!(found, expected, "{size}");
            // An id counts from the end of its block on.
            assert_eq!(parser.last_event_id(), Some("2-0"));
            assert_eq!(parser.retry(), Some(Duration::from_millis(1_500)));
            assert_eq!(parser.comments(), 1);
        }
    }

    #[test]
    fn hands_out_one_event_at_a_time() {
        let mut parser = Parser::default();
        let mut text = BytesMut::from("id: 0-1\n\nid: 1-0\ndata: 1\n\nid: 2-0\ndata: 2\n\n");
        assert_eq!(
            parser.next_cursor(&mut text).unwrap().as_deref(),
            Some("0-1")
        );
        let first = parser.next(&mut text).unwrap();
        assert_eq!(first, Some(event("message", "1-0", "1")));
        assert_eq!(parser.last_event_id(), Some("1-0"));
    }

    #[test]
    fn takes_chunks_apart() {
        let framed = "4\r\nabcd\r\n1;x=y\r\ne\r\n0\r\n\r\n";
        for size in [1, 3, 100] {
            let (mut body, mut received, mut text) =
                (Body::new(true), BytesMut::new(), BytesMut::new());
            for part in framed.as_bytes().chunks(size) {
                assert!(!body.ended());
                received.extend_from_slice(part);
                body.take(&mut received, &mut text).unwrap();
                if body.ended() {
                    break;
                }
            }
            assert!(body.ended(), "{size}");
            assert_eq!(&text[..], b"abcde");
        }
        let mut bad = BytesMut::from("zz\r\n");
        assert!(
            Body::new(true)
                .take(&mut bad, &mut BytesMut::new())
                .is_err()
        );
    }

    #[test]
    fn reads_a_head() {
        let mut received = BytesMut::from("HTTP/1.1 429 Too Many\r\nRetry-After: 3\r\n\r\nrest");
        let (status, headers) = head(&mut received).unwrap().unwrap();
        assert_eq!((status, headers["retry-after"].as_str()), (429, "3"));
        assert_eq!(&received[..], b"rest");
        assert_eq!(
            head(&mut BytesMut::from("HTTP/1.1 200 OK\r\nA: b")).unwrap(),
            None
        );
    }
}
