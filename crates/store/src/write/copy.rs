//! The step `copy`: the rows of the new events into `events`.

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

/// Rows of `events` in the binary COPY format.
#[derive(Debug, Default)]
pub struct Rows(BytesMut);

/// Bytes of a row beside its objects, at most if its texts are short.
const ROW_OVERHEAD: usize = 512;
/// Bytes of rows that are sent together. They are made as they are sent: the rows of a whole batch would be some
/// MiB that come and go with each.
const PIECE: usize = 128 * 1024;
/// Room for a piece and for what its last row goes beyond it, most often.
const ROOM: usize = PIECE + 4 * 1024;

impl Rows {
    /// Appends one event as a row: processed at that time, or pending.
    pub fn push(&mut self, event: &Event, processed_at: Option<OffsetDateTime>) {
        let out = &mut self.0;
        out.reserve(ROW_OVERHEAD + event.objects_bytes());
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
        let status = match processed_at {
            Some(_) => EventStatus::Processed,
            None => EventStatus::Pending,
        };
        put(out, status.as_str().as_bytes());
        match processed_at {
            Some(at) => put(out, &micros(at).to_be_bytes()),
            None => put_null(out),
        }
        put(out, &micros(event.timestamp).to_be_bytes());
        put(out, &micros(event.received_at).to_be_bytes());
        put(out, event.version.as_bytes());
        put(out, event.schema_version.as_bytes());
    }

    /// The rows so far, to be sent; empties this.
    pub fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.0).freeze()
    }

    /// The rows of these events, piece by piece.
    fn pieces(events: &[Pending<'_>]) -> impl Iterator<Item = Bytes> {
        let mut events = events.iter();
        std::iter::from_fn(move || {
            let room = ROOM.min(events.len() * ROW_OVERHEAD);
            let mut rows = Self(BytesMut::with_capacity(room));
            while rows.0.len() < PIECE
                && let Some(pending) = events.next()
            {
                rows.push(pending.event, pending.processed_at);
            }
            Some(rows.take()).filter(|piece| !piece.is_empty())
        })
    }
}

/// Copies the rows of these events, and meanwhile works something out.
pub(super) async fn copy<T>(
    tx: &Transaction<'_>,
    statement: &Statement,
    new: &[Pending<'_>],
    meanwhile: impl FnOnce() -> T,
) -> Result<T, Error> {
    if new.is_empty() {
        return Ok(meanwhile());
    }
    let parts = std::iter::once(Bytes::from_static(HEADER))
        .chain(Rows::pieces(new))
        .chain([Bytes::from_static(TRAILER)]);
    send_and(tx, statement, parts, meanwhile).await
}

#[cfg(test)]
mod tests {
    use domain::envelope::Origin;
    use domain::{Context, EventCategory, EventSource, Limits, TenantId};

    use super::*;
    use crate::write::RecordPlace;

    #[test]
    fn the_pieces_are_all_rows_in_order() {
        let tenant = TenantId::default();
        let event = |n: usize| {
            let cx = Context {
                origin: Origin::Http,
                tenant: &tenant,
                received_at: OffsetDateTime::UNIX_EPOCH,
                now: OffsetDateTime::UNIX_EPOCH,
                fresh_id: uuid::Uuid::from_u128(n as u128),
                default_source: EventSource::Backend,
                default_category: EventCategory::UserAction,
                content_type: None,
                limits: Limits::default(),
            };
            let note = "x".repeat(n);
            let body = format!(r#"{{"event_type":"a","data":{{"note":"{note}"}}}}"#);
            domain::decode(body.as_bytes(), &cx).unwrap()
        };
        let events: Vec<Event> = (0..1_000).map(event).collect();
        let pending = events.iter().enumerate().map(|(item, event)| Pending {
            item,
            event,
            hash: 0,
            processed_at: (item % 2 == 0).then_some(OffsetDateTime::UNIX_EPOCH),
            place: RecordPlace {
                topic: "t",
                partition: 0,
                offset: 0,
                timestamp_ms: None,
            },
            by_gateway: false,
            follows: None,
            dead_letter: None,
            version: None,
        });
        let pending: Vec<_> = pending.collect();
        let mut whole = Rows::default();
        for one in &pending {
            whole.push(one.event, one.processed_at);
        }
        let pieces: Vec<Bytes> = Rows::pieces(&pending).collect();
        assert_eq!(pieces.concat(), whole.take());
        let (last, full) = pieces.split_last().unwrap();
        assert!(full.len() > 2 && last.len() < ROOM, "{}", full.len());
        for piece in full {
            assert!((PIECE..ROOM).contains(&piece.len()), "{}", piece.len());
        }
        assert_eq!(Rows::pieces(&[]).count(), 0);
    }
}
