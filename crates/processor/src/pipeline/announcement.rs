//! What is announced of a stored event (S4-98).

use std::sync::Arc;

use bytes::Bytes;
use domain::cloudevent::{self, Format};
use domain::write::Write;
use domain::{Event, EventCategory, EventSource, Json, TenantId, stream, subject};
use eventlog::{Headers, Outgoing};
use store::outbox::Message;
use time::OffsetDateTime;
use uuid::Uuid;

/// The namespace of the ids of announcements.
const ANNOUNCEMENT_IDS: Uuid = Uuid::from_u128(0x7469_6465_6761_7465_616e_6e6f_756e_6365);

/// Where announcements go, and how they are written.
#[derive(Debug, Clone)]
pub struct Announcements {
    /// The topic's full name.
    pub topic: Arc<str>,
    /// With [`Format::CloudEvents`] each carries the headers of the binary mode too.
    pub format: Format,
    /// Whether each carries the header by which NATS drops repeats.
    pub nats: bool,
}

/// The header by which NATS drops repeats.
const MESSAGE_ID: &str = "Nats-Msg-Id";

impl Announcements {
    fn record(&self, headers: &Headers, key: Vec<u8>, payload: Bytes) -> Outgoing {
        let mut headers = match self.format {
            Format::Json => headers.clone(),
            Format::CloudEvents => as_cloudevent(headers, &payload),
        };
        if self.nats {
            let id = id(&headers, &payload).to_string();
            headers = with(&headers, [(MESSAGE_ID, id)]);
        }
        Outgoing {
            topic: Arc::clone(&self.topic),
            key,
            headers,
            payload,
        }
    }
}

/// The id of an announcement is made of what is announced: one that is sent again has it again.
fn id(headers: &Headers, payload: &[u8]) -> Uuid {
    let (subject, tenant) = (
        text(headers, subject::HEADER_SUBJECT),
        text(headers, subject::HEADER_TENANT),
    );
    let name = [subject.as_bytes(), tenant.as_bytes(), payload].join(&0);
    Uuid::new_v5(&ANNOUNCEMENT_IDS, &name)
}

/// These headers and those behind them.
fn with<const N: usize>(headers: &Headers, more: [(&str, String); N]) -> Headers {
    let own = headers
        .iter()
        .map(|(name, value)| (name.to_owned(), Bytes::copy_from_slice(value)));
    let more = more.map(|(name, value)| (name.to_owned(), Bytes::from(value)));
    own.chain(more).collect()
}

/// The headers of the binary mode for Kafka, beside ours.
fn as_cloudevent(headers: &Headers, payload: &[u8]) -> Headers {
    let (subject, tenant) = (
        text(headers, subject::HEADER_SUBJECT),
        text(headers, subject::HEADER_TENANT),
    );
    let id = id(headers, payload).to_string();
    let source = match TenantId::parse(&tenant) {
        Some(tenant) => cloudevent::source(&tenant),
        None => cloudevent::source(&TenantId::default()),
    };
    let attributes = [
        ("ce_specversion", cloudevent::SPEC_VERSION.to_owned()),
        ("ce_id", id),
        ("ce_source", source),
        ("ce_type", subject),
    ];
    with(headers, attributes)
}

/// The value of a header; empty if there is none.
fn text(headers: &Headers, name: &str) -> String {
    let value = headers.iter().find(|(known, _)| *known == name);
    value.map_or_else(String::new, |(_, value)| {
        String::from_utf8_lossy(value).into_owned()
    })
}

/// The announcements of these events, whose payloads share their memory.
pub(super) fn records(to: &Announcements, events: &[Box<Event>]) -> Vec<Outgoing> {
    let mut payloads = Vec::with_capacity(events.iter().map(|event| room(event)).sum());
    let ends = events.iter().map(|event| {
        EventStored::of(event).write(&mut payloads);
        payloads.len()
    });
    let ends: Vec<usize> = ends.collect();
    let payloads = Bytes::from(payloads);
    let mut start = 0;
    // Most batches are of one tenant, and headers are cheap to clone.
    let mut of_tenant: Option<(&TenantId, Headers)> = None;
    let records = events.iter().zip(ends).map(|(event, end)| {
        let headers = match &of_tenant {
            Some((tenant, headers)) if **tenant == event.tenant_id => headers.clone(),
            _ => of_tenant
                .insert((
                    &event.tenant_id,
                    headers(subject::EVENT_STORED, event.tenant_id.as_str()),
                ))
                .1
                .clone(),
        };
        let key = stream::log_key(event).into_bytes();
        let payload = payloads.slice(std::mem::replace(&mut start, end)..end);
        to.record(&headers, key, payload)
    });
    records.collect()
}

/// The announcement of an event, to be left in the outbox.
pub(super) fn message(event: &Event) -> Message {
    Message {
        tenant_id: event.tenant_id.to_string(),
        subject: subject::EVENT_STORED.to_owned(),
        key: stream::log_key(event).into_bytes(),
        payload: payload(event),
    }
}

/// A record that was not sent, to be left in the outbox.
pub(super) fn left(record: Outgoing) -> Message {
    Message {
        tenant_id: text(&record.headers, subject::HEADER_TENANT),
        subject: text(&record.headers, subject::HEADER_SUBJECT),
        key: record.key,
        payload: record.payload.into(),
    }
}

/// A message of the outbox, as it is sent.
pub(super) fn outgoing(to: &Announcements, message: Message) -> Outgoing {
    let headers = headers(&message.subject, &message.tenant_id);
    to.record(&headers, message.key, message.payload.into())
}

fn headers(subject: &str, tenant: &str) -> Headers {
    Headers::from_iter([
        (
            subject::HEADER_SUBJECT,
            Bytes::copy_from_slice(subject.as_bytes()),
        ),
        (
            subject::HEADER_TENANT,
            Bytes::copy_from_slice(tenant.as_bytes()),
        ),
        (
            subject::HEADER_CONTENT_TYPE,
            Bytes::from_static(subject::CONTENT_TYPE.as_bytes()),
        ),
    ])
}

/// The payload of `event.stored` (S4-98).
struct EventStored<'a> {
    event_id: Uuid,
    event_type: &'a str,
    event_source: EventSource,
    event_category: EventCategory,
    user_id: Option<&'a str>,
    organization_id: Option<&'a str>,
    timestamp: OffsetDateTime,
    data: &'a Json,
}

impl<'a> EventStored<'a> {
    fn of(event: &'a Event) -> Self {
        Self {
            event_id: event.event_id,
            event_type: &event.event_type,
            event_source: event.event_source,
            event_category: event.event_category,
            user_id: event.user_id.as_deref(),
            organization_id: event.organization_id.as_deref(),
            timestamp: event.timestamp,
            data: &event.data,
        }
    }
}

impl Write for EventStored<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        domain::write::object!(out, self;
            event_id, event_type, event_source, event_category, user_id?, organization_id?,
            timestamp, data
        );
    }
}

/// The bytes that its payload takes at most, unless its texts are full of what is escaped.
fn room(event: &Event) -> usize {
    let ids = [&event.user_id, &event.organization_id];
    let ids = ids.iter().map(|id| id.as_ref().map_or(0, String::len));
    256 + event.event_type.len() + ids.sum::<usize>() + event.data.as_str().len()
}

fn payload(event: &Event) -> Vec<u8> {
    let mut payload = Vec::with_capacity(room(event));
    EventStored::of(event).write(&mut payload);
    payload
}

#[cfg(test)]
mod tests {
    use domain::envelope::Origin;
    use domain::{Context, Limits};

    use super::*;

    #[test]
    fn the_payload_has_the_specified_fields() {
        let tenant = TenantId::default();
        let cx = Context {
            origin: Origin::Http,
            tenant: &tenant,
            received_at: OffsetDateTime::UNIX_EPOCH,
            now: OffsetDateTime::UNIX_EPOCH,
            fresh_id: uuid::Uuid::nil(),
            default_source: EventSource::Backend,
            default_category: EventCategory::UserAction,
            content_type: None,
            limits: Limits::default(),
        };
        let body = br#"{"event_type":"a.b","user_id":"u\"1","data":{"n":1}}"#;
        let event = domain::decode(body, &cx).unwrap();
        // What was not sent is what would have been left at once.
        for format in Format::ALL {
            let to = Announcements {
                topic: "event-stream".into(),
                format,
                nats: false,
            };
            let sent = records(&to, &[Box::new(event.clone())]).remove(0);
            assert_eq!(left(sent.clone()), message(&event));
            assert_eq!(outgoing(&to, message(&event)), sent);
        }
        let value: serde_json::Value = serde_json::from_slice(&payload(&event)).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "event_id": "00000000-0000-0000-0000-000000000000",
                "event_type": "a.b",
                "event_source": "backend",
                "event_category": "user_action",
                "user_id": "u\"1",
                "timestamp": "1970-01-01T00:00:00Z",
                "data": {"n": 1},
            })
        );
    }
}
