//! The wire format of server-sent events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::id::StreamId;
use crate::message::Entry;
use crate::subscription::Reset;

/// A comment, which keeps connections and proxies awake.
pub const HEARTBEAT: Bytes = Bytes::from_static(b": heartbeat\n\n");

/// Appends one message. Unnamed, so that a plain `onmessage` sees it, unless `named`.
pub fn write(out: &mut BytesMut, entry: &Entry, named: bool) {
    if named {
        field(out, "event", entry.message.event.as_bytes());
    }
    put_id(out, entry.id);
    field(out, "data", &entry.message.data);
    out.put_u8(b'\n');
}

/// The bytes [`write`] adds, at most; for accounting.
#[must_use]
pub fn size(entry: &Entry) -> usize {
    entry.message.event.len() + entry.message.data.len() + 64
}

/// An id alone: moves the browser's cursor, and no script sees it.
#[must_use]
pub fn cursor(id: StreamId) -> Bytes {
    let mut out = BytesMut::with_capacity(48);
    put_id(&mut out, id);
    out.put_u8(b'\n');
    out.freeze()
}

/// How long the browser is to wait before it connects again.
#[must_use]
pub fn retry(milliseconds: u64) -> Bytes {
    Bytes::from(format!("retry: {milliseconds}\n\n"))
}

/// History was lost: the listener asks elsewhere for what it shows, and goes on from `cursor`.
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
