//! What is announced of an alert: a message on `events.alerts` (docs/announcements.md), and an event of its
//! tenant with the same content, which is stored, matched by webhooks and shown as any other.

use domain::anomaly::{ChangeKind, EVENT_PREFIX};
use domain::{Event, EventCategory, EventSource, Json, stream, subject, timestamp};
use serde_json::json;
use store::anomalies::{StoredAlert, at_minute};
use store::log::pack_headers;
use store::outbox::Message;

/// The notice of one change: the announcement and the record of the event.
pub(super) struct AlertNotice {
    pub(super) message: Message,
    /// The event in its canonical form, with the key and the packed headers of its record.
    pub(super) event: Vec<u8>,
    pub(super) key: Vec<u8>,
    pub(super) headers: Vec<u8>,
}

impl AlertNotice {
    /// Of a change at that minute. The event is that user's, if there is one.
    pub(super) fn of(
        stored: &StoredAlert,
        change: ChangeKind,
        minute: i64,
        user: Option<String>,
    ) -> Self {
        let StoredAlert {
            alert_id,
            tenant,
            alert,
            resolved_at,
            ..
        } = stored;
        let payload = json!({
            "alert_id": alert_id,
            "tenant_id": tenant.as_str(),
            "rule": alert.rule,
            "kind": alert.kind,
            "subject": alert.subject,
            "state": if resolved_at.is_some() { "resolved" } else { "open" },
            "value": alert.value,
            "usual": alert.usual,
            "worst": alert.worst,
            "events": alert.events,
            "window_minutes": alert.window_minutes,
            "opened_at": timestamp::format(at_minute(alert.opened_at)),
            "at": timestamp::format(at_minute(minute)),
            "message": alert.message(),
        })
        .to_string();
        let now = service::clock::now();
        let event = Event {
            event_id: service::clock::fresh_id(),
            client_event_id: None,
            tenant_id: tenant.clone(),
            event_type: format!("{EVENT_PREFIX}{}", change.as_str()),
            event_source: EventSource::System,
            event_category: EventCategory::Alert,
            user_id: user,
            session_id: None,
            organization_id: None,
            device_id: None,
            correlation_id: None,
            aggregate_type: Some("anomaly_alert".to_owned()),
            aggregate_id: Some(alert_id.to_string()),
            expected_version: None,
            data: Json::from_stored(payload.clone()),
            metadata: Json::default(),
            context: Json::default(),
            properties: Json::default(),
            timestamp: at_minute(minute),
            received_at: now,
            version: "1.0.0".to_owned(),
            schema_version: "1.0.0".to_owned(),
        };
        let full_subject = subject::subject(&event);
        let headers = [
            (subject::HEADER_SUBJECT, full_subject.as_bytes()),
            (subject::HEADER_TENANT, tenant.as_str().as_bytes()),
            (
                subject::HEADER_CONTENT_TYPE,
                subject::CONTENT_TYPE.as_bytes(),
            ),
        ];
        Self {
            message: Message {
                tenant_id: tenant.as_str().to_owned(),
                subject: event.event_type.clone(),
                key: alert_id.to_string().into_bytes(),
                payload: payload.into_bytes(),
            },
            key: stream::log_key(&event).into_bytes(),
            headers: pack_headers(headers.into_iter()),
            event: event.to_canonical(),
        }
    }
}
