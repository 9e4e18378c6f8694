//! What is announced of a stored event (S4-98).

use std::sync::Arc;

use bytes::Bytes;
use domain::{Event, EventCategory, EventSource, Json, TenantId, stream, subject, timestamp};
use eventlog::{Headers, Outgoing};
use serde::Serialize;
use store::outbox::Message;
use time::OffsetDateTime;
use uuid::Uuid;

/// The announcements of these events.
pub(super) fn records(topic: &Arc<str>, events: &[Event]) -> Vec<Outgoing> {
    // Most batches are of one tenant, and headers are cheap to clone.
    let mut of_tenant: Option<(&TenantId, Headers)> = None;
    events
        .iter()
        .map(|event| {
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
            Outgoing {
                topic: Arc::clone(topic),
                key: stream::log_key(event).into_bytes(),
                headers,
                payload: payload(event).into(),
            }
        })
        .collect()
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
    let header = |name: &str| {
        let value = record.headers.iter().find(|(known, _)| *known == name);
        value.map_or_else(String::new, |(_, value)| {
            String::from_utf8_lossy(value).into_owned()
        })
    };
    Message {
        tenant_id: header(subject::HEADER_TENANT),
        subject: header(subject::HEADER_SUBJECT),
        key: record.key,
        payload: record.payload.into(),
    }
}

/// A message of the outbox, as it is sent.
pub(super) fn outgoing(topic: &Arc<str>, message: Message) -> Outgoing {
    Outgoing {
        topic: Arc::clone(topic),
        headers: headers(&message.subject, &message.tenant_id),
        key: message.key,
        payload: message.payload.into(),
    }
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
#[derive(Serialize)]
struct EventStored<'a> {
    event_id: Uuid,
    event_type: &'a str,
    event_source: EventSource,
    event_category: EventCategory,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    organization_id: Option<&'a str>,
    #[serde(serialize_with = "timestamp::serialize")]
    timestamp: OffsetDateTime,
    data: &'a Json,
}

fn payload(event: &Event) -> Vec<u8> {
    let stored = EventStored {
        event_id: event.event_id,
        event_type: &event.event_type,
        event_source: event.event_source,
        event_category: event.event_category,
        user_id: event.user_id.as_deref(),
        organization_id: event.organization_id.as_deref(),
        timestamp: event.timestamp,
        data: &event.data,
    };
    // Writing to memory cannot fail.
    serde_json::to_vec(&stored).unwrap_or_default()
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
        let topic: Arc<str> = "event-stream".into();
        let sent = records(&topic, std::slice::from_ref(&event)).remove(0);
        assert_eq!(left(sent.clone()), message(&event));
        assert_eq!(outgoing(&topic, message(&event)), sent);
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
