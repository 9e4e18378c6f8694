//! The step `copy`: the prebuilt rows of the new events into `events`.

use bytes::{BufMut, Bytes, BytesMut};
use domain::{Event, EventStatus};
use time::OffsetDateTime;
use tokio_postgres::{Statement, Transaction};

use super::binary::{HEADER, TRAILER, length, micros, put, put_null, send_and};
use super::pending::Pending;
use crate::error::Error;

/// The columns a writer fills, in the order of [`Rows::push`]; the others have defaults.
pub const COPY: &str = "copy events (event_id, tenant_id, event_type, event_source, event_category, \
    client_event_id, user_id, session_id, organization_id, device_id, correlation_id, \
    aggregate_type, aggregate_id, expected_version, data, metadata, context, properties, status, \
    processed_at, timestamp, received_at, version, schema_version) from stdin (format binary)";
const COLUMNS: i16 = 24;

/// Rows of `events`, already in the binary COPY format, so that a writer has nothing left to do
/// but send them.
#[derive(Debug, Default)]
pub struct Rows {
    bytes: BytesMut,
    ends: Vec<usize>,
    content_hashes: Vec<i64>,
}

/// Bytes of a row beside its JSON: fixed columns, lengths, and texts that are short.
const ROW_OVERHEAD: usize = 256;

impl Rows {
    /// Room for so many rows, made of so many bytes of records: what grows is copied, and is there twice
    /// meanwhile.
    #[must_use]
    pub fn with_room(rows: usize, bytes: usize) -> Self {
        Self {
            bytes: BytesMut::with_capacity(bytes + rows * ROW_OVERHEAD),
            ends: Vec::with_capacity(rows),
            content_hashes: Vec::with_capacity(rows),
        }
    }

    /// Appends one event as a row with that status.
    pub fn push(&mut self, event: &Event, status: EventStatus, processed_at: OffsetDateTime) {
        let out = &mut self.bytes;
        out.reserve(512 + event.data.as_str().len());
        out.put_i16(COLUMNS);
        put(out, event.event_id.as_bytes());
        put(out, event.tenant_id.as_str().as_bytes());
        put(out, event.event_type.as_bytes());
        put(out, event.event_source.as_str().as_bytes());
        put(out, event.event_category.as_str().as_bytes());
        for text in [
            &event.client_event_id,
            &event.user_id,
            &event.session_id,
            &event.organization_id,
            &event.device_id,
            &event.correlation_id,
            &event.aggregate_type,
            &event.aggregate_id,
        ] {
            match text {
                Some(text) => put(out, text.as_bytes()),
                None => put_null(out),
            }
        }
        match event.expected_version {
            Some(version) => put(out, &version.to_be_bytes()),
            None => put_null(out),
        }
        for json in [
            &event.data,
            &event.metadata,
            &event.context,
            &event.properties,
        ] {
            let text = json.as_str().as_bytes();
            out.put_i32(length(text) + 1);
            out.put_u8(1); // version of jsonb's binary form: text follows
            out.put_slice(text);
        }
        put(out, status.as_str().as_bytes());
        match status {
            EventStatus::Processed => put(out, &micros(processed_at).to_be_bytes()),
            _ => put_null(out),
        }
        put(out, &micros(event.timestamp).to_be_bytes());
        put(out, &micros(event.received_at).to_be_bytes());
        put(out, event.version.as_bytes());
        put(out, event.schema_version.as_bytes());
        self.ends.push(out.len());
        self.content_hashes.push(event.content_hash());
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The rows, no longer growing and cheap to share.
    #[must_use]
    pub fn freeze(self) -> FrozenRows {
        FrozenRows {
            bytes: self.bytes.freeze(),
            ends: self.ends,
            content_hashes: self.content_hashes,
        }
    }
}

/// Rows ready to be sent, once or again after a failure.
#[derive(Debug, Clone, Default)]
pub struct FrozenRows {
    bytes: Bytes,
    ends: Vec<usize>,
    content_hashes: Vec<i64>,
}

impl FrozenRows {
    /// All rows.
    #[must_use]
    pub fn all(&self) -> Bytes {
        self.bytes.clone()
    }

    /// [`Event::content_hash`] of the event of that row.
    pub(super) fn content_hash(&self, row: usize) -> i64 {
        self.content_hashes.get(row).copied().unwrap_or_default()
    }

    /// The bytes of rows `from..to`.
    fn range(&self, from: usize, to: usize) -> Bytes {
        let start = from
            .checked_sub(1)
            .and_then(|i| self.ends.get(i))
            .copied()
            .unwrap_or(0);
        let end = to
            .checked_sub(1)
            .and_then(|i| self.ends.get(i))
            .copied()
            .unwrap_or(0);
        self.bytes.slice(start..end.max(start))
    }
}

/// Copies the rows of these events, which come by ascending row, and meanwhile works something out.
pub(super) async fn copy<T>(
    tx: &Transaction<'_>,
    statement: &Statement,
    rows: &FrozenRows,
    new: &[Pending<'_>],
    meanwhile: impl FnOnce() -> T,
) -> Result<T, Error> {
    if new.is_empty() {
        return Ok(meanwhile());
    }
    let mut parts = vec![Bytes::from_static(HEADER)];
    let mut run: Option<(usize, usize)> = None;
    for &Pending { row: index, .. } in new {
        run = match run {
            Some((from, to)) if to == index => Some((from, index + 1)),
            before => {
                parts.extend(before.map(|(from, to)| rows.range(from, to)));
                Some((index, index + 1))
            }
        };
    }
    parts.extend(run.map(|(from, to)| rows.range(from, to)));
    parts.push(Bytes::from_static(TRAILER));
    send_and(tx, statement, parts, meanwhile).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_follow_the_rows() {
        let rows = FrozenRows {
            bytes: Bytes::from_static(b"aabbbc"),
            ends: vec![2, 5, 6],
            content_hashes: vec![],
        };
        assert_eq!(rows.range(0, 3), "aabbbc");
        assert_eq!(rows.range(1, 2), "bbb");
        assert_eq!(rows.range(2, 3), "c");
    }
}
