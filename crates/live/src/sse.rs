//! The wire format of server-sent events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::id::StreamId;
use crate::message::Message;
use crate::resume::Reset;

/// A comment, which keeps connections and proxies awake.
pub const HEARTBEAT: Bytes = Bytes::from_static(b": heartbeat\n\n");

/// Names an EventSource or this stream uses for itself: they never name an event's message.
const OWN_NAMES: [&str; 3] = ["open", "error", "reset"];

/// Appends one message. If `named`, its event's type is its name, unless that is one of
/// [`OWN_NAMES`]; a message without a name reaches `onmessage`, and its data has the type. One without an
/// id leaves the browser's cursor where it is.
pub fn write(out: &mut BytesMut, message: &Message, id: Option<StreamId>, named: bool) {
    if named && !OWN_NAMES.contains(&message.event.as_str()) {
        field(out, "event", message.event.as_bytes());
    }
    if let Some(id) = id {
        put_id(out, id);
    }
    field(out, "data", &message.data);
    out.put_u8(b'\n');
}

/// The bytes [`write()`] adds, at most; for accounting.
#[must_use]
pub fn size(message: &Message) -> usize {
    message.event.len() + message.data.len() + 64
}

/// An id alone: moves the browser's cursor, and no script sees it.
#[must_use]
pub fn cursor(id: StreamId) -> Bytes {
    let mut out = BytesMut::with_capacity(48);
    put_id(&mut out, id);
    out.put_u8(b'\n');
    out.freeze()
}

/// Sets how long the browser waits before it reconnects.
#[must_use]
pub fn retry(milliseconds: u64) -> Bytes {
    Bytes::from(format!("retry: {milliseconds}\n\n"))
}

/// History was lost: the client reloads what it shows, and goes on from `cursor`.
#[must_use]
pub fn reset(reason: Reset, cursor: StreamId) -> Bytes {
    Bytes::from(format!(
        "event: reset\nid: {cursor}\ndata: {{\"reason\":\"{}\"}}\n\n",
        reason.as_str()
    ))
}

fn put_id(out: &mut BytesMut, id: StreamId) {
    out.extend_from_slice(format!("id: {id}\n").as_bytes());
}

/// A line break inside a value would end the field, so each line gets a field of its own.
fn field(out: &mut BytesMut, name: &str, value: &[u8]) {
    for line in value.split(|b| matches!(b, b'\n' | b'\r')) {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(line);
        out.put_u8(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Batch;
    use crate::message::Entry;

    fn entry(data: &'static str) -> Entry {
        Entry {
            id: StreamId { ms: 12, seq: 3 },
            message: Message {
                event: "a.b".to_owned(),
                data: Bytes::from_static(data.as_bytes()),
            },
        }
    }

    #[test]
    fn a_message_is_one_block() {
        let batch = Batch::new(vec![entry("{}"), entry("{\"n\":1}")]);
        let unnamed = "id: 12-3\ndata: {}\n\nid: 12-3\ndata: {\"n\":1}\n\n";
        assert_eq!(batch.wire(false), unnamed);
        let named = "event: a.b\nid: 12-3\ndata: {}\n\n";
        assert!(batch.wire(true).starts_with(named.as_bytes()));
        assert!(batch.wire(true).len() <= batch.size());
    }

    #[test]
    fn a_message_without_an_id_moves_no_cursor() {
        let mut out = BytesMut::new();
        write(&mut out, &entry("{}").message, None, true);
        assert_eq!(out, "event: a.b\ndata: {}\n\n");
    }

    #[test]
    fn the_stream_s_own_names_are_left_to_it() {
        let wire = |event: &str| {
            let mut entry = entry("{}");
            entry.message.event = event.to_owned();
            Batch::new(vec![entry]).wire(true)
        };
        for own in ["reset", "error", "open"] {
            assert_eq!(wire(own), "id: 12-3\ndata: {}\n\n", "{own}");
        }
        for other in ["Reset", "order.reset", "reset.order"] {
            assert!(wire(other).starts_with(format!("event: {other}\n").as_bytes()));
        }
    }

    #[test]
    fn a_line_break_cannot_end_a_field() {
        let batch = Batch::new(vec![entry("a\nid: 9-9\rb")]);
        let expected = "id: 12-3\ndata: a\ndata: id: 9-9\ndata: b\n\n";
        assert_eq!(batch.wire(false), expected);
    }

    #[test]
    fn the_other_blocks() {
        let id = StreamId { ms: 7, seq: 0 };
        assert_eq!(cursor(id), "id: 7-0\n\n");
        assert_eq!(retry(1_500), "retry: 1500\n\n");
        let expected = "event: reset\nid: 7-0\ndata: {\"reason\":\"trimmed\"}\n\n";
        assert_eq!(reset(Reset::Trimmed, id), expected);
        assert!(HEARTBEAT.starts_with(b":"));
    }
}
