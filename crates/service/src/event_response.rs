//! An event as every service answers it.

use domain::write::Write;
use domain::{Event, EventCategory, EventSource, EventStatus, Json, timestamp};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

/// An event (S0-26, S4-20, S4-22). Every member is there, null where there is nothing to say; times
/// are RFC 3339 in UTC.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventResponse<'a> {
    /// The id under which the event is stored.
    pub event_id: Uuid,
    /// What happened.
    #[schema(example = "order.created")]
    pub event_type: &'a str,
    /// `frontend`, `backend`, `system`, `iot_device`, `external_api` or `scheduled`.
    #[schema(value_type = String, example = "backend")]
    pub event_source: EventSource,
    /// What kind of thing happened.
    #[schema(value_type = String, example = "order")]
    pub event_category: EventCategory,
    /// Who did it.
    #[schema(required = true)]
    pub user_id: Option<&'a str>,
    /// What happened, in the client's words.
    #[schema(value_type = Object)]
    pub data: &'a Json,
    /// `pending`, `processing`, `processed`, `failed` or `archived`.
    #[schema(example = "processed")]
    pub status: &'a str,
    /// When it happened.
    #[serde(serialize_with = "timestamp::serialize")]
    pub timestamp: OffsetDateTime,
    /// When it was stored; in the gateway's answer when it was received.
    #[serde(serialize_with = "timestamp::serialize")]
    pub created_at: OffsetDateTime,
    /// About the event.
    #[schema(value_type = Object)]
    pub metadata: &'a Json,
    /// Around the event.
    #[schema(value_type = Object)]
    pub context: &'a Json,
    /// Further properties.
    #[schema(value_type = Object)]
    pub properties: &'a Json,
    /// In which session.
    #[schema(required = true)]
    pub session_id: Option<&'a str>,
    /// For which organisation.
    #[schema(required = true)]
    pub organization_id: Option<&'a str>,
    /// On which device.
    #[schema(required = true)]
    pub device_id: Option<&'a str>,
    /// What it belongs together with.
    #[schema(required = true)]
    pub correlation_id: Option<&'a str>,
    /// Type of the aggregate it changes.
    #[schema(required = true)]
    pub aggregate_type: Option<&'a str>,
    /// The aggregate it changes.
    #[schema(required = true)]
    pub aggregate_id: Option<&'a str>,
    /// The version the client believed the aggregate's stream to have.
    #[schema(required = true)]
    pub expected_version: Option<i64>,
    /// The event's version in its stream.
    #[schema(required = true)]
    pub stream_version: Option<i64>,
    /// The client's own id where it was no UUID.
    #[schema(required = true)]
    pub client_event_id: Option<&'a str>,
    /// Whose event it is.
    pub tenant_id: &'a str,
    /// When the gateway took it.
    #[serde(serialize_with = "timestamp::serialize")]
    pub received_at: OffsetDateTime,
    /// When its handling ended.
    #[serde(serialize_with = "timestamp::serialize_option")]
    #[schema(required = true)]
    pub processed_at: Option<OffsetDateTime>,
    /// Who handled it.
    pub processors: &'a [String],
    /// Why its handling failed.
    #[schema(required = true)]
    pub error_message: Option<&'a str>,
    /// How often its handling was tried again.
    pub retry_count: i32,
    /// When its status last changed.
    #[serde(serialize_with = "timestamp::serialize")]
    pub updated_at: OffsetDateTime,
    /// Version of its content.
    pub version: &'a str,
    /// Version of its schema.
    pub schema_version: &'a str,
}

impl<'a> EventResponse<'a> {
    /// An event that is taken and not stored yet.
    #[must_use]
    pub fn pending(event: &'a Event) -> Self {
        Self {
            event_id: event.event_id,
            event_type: &event.event_type,
            event_source: event.event_source,
            event_category: event.event_category,
            user_id: event.user_id.as_deref(),
            data: &event.data,
            status: EventStatus::Pending.as_str(),
            timestamp: event.timestamp,
            created_at: event.received_at,
            metadata: &event.metadata,
            context: &event.context,
            properties: &event.properties,
            session_id: event.session_id.as_deref(),
            organization_id: event.organization_id.as_deref(),
            device_id: event.device_id.as_deref(),
            correlation_id: event.correlation_id.as_deref(),
            aggregate_type: event.aggregate_type.as_deref(),
            aggregate_id: event.aggregate_id.as_deref(),
            expected_version: event.expected_version,
            stream_version: None,
            client_event_id: event.client_event_id.as_deref(),
            tenant_id: event.tenant_id.as_str(),
            received_at: event.received_at,
            processed_at: None,
            processors: &[],
            error_message: None,
            retry_count: 0,
            updated_at: event.received_at,
            version: &event.version,
            schema_version: &event.schema_version,
        }
    }
}

impl Write for EventResponse<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        domain::write::object!(out, self;
            event_id, event_type, event_source, event_category, user_id, data, status, timestamp,
            created_at, metadata, context, properties, session_id, organization_id, device_id,
            correlation_id, aggregate_type, aggregate_id, expected_version, stream_version,
            client_event_id, tenant_id, received_at, processed_at, processors, error_message,
            retry_count, updated_at, version, schema_version
        );
    }
}

#[cfg(test)]
mod tests {
    use domain::envelope::Origin;
    use domain::{Context, Limits, TenantId};
    use utoipa::PartialSchema;

    use super::*;

    fn decoded(body: &str) -> Event {
        let cx = Context {
            origin: Origin::Http,
            tenant: &TenantId::default(),
            received_at: OffsetDateTime::UNIX_EPOCH,
            now: OffsetDateTime::UNIX_EPOCH,
            fresh_id: Uuid::from_u128(7),
            default_source: EventSource::Backend,
            default_category: EventCategory::UserAction,
            content_type: None,
            limits: Limits::default(),
        };
        domain::decode(body.as_bytes(), &cx).unwrap()
    }

    fn written(event: &EventResponse<'_>) -> String {
        let mut text = Vec::new();
        event.write(&mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn it_is_written_as_serde_would() {
        let bare = decoded(r#"{"event_type":"a"}"#);
        let full = decoded(
            r#"{"event_id":"mine \" 1","event_type":"a","event_source":"iot_device",
                "event_category":"alert","user_id":"\u00e9\\","session_id":"s","organization_id":"o",
                "device_id":"d","correlation_id":"c","aggregate_type":"t","aggregate_id":"i",
                "expected_version":7,"data":{"b": [1.50]},"metadata":{"m":1},"context":{"c":{}},
                "properties":{"p":null},"timestamp":"1970-01-01T00:00:00.000001Z","version":"2",
                "schema_version":"3"}"#,
        );
        let processors = ["a\n".to_owned(), "b".to_owned()];
        let stored = EventResponse {
            stream_version: Some(i64::MAX),
            processed_at: Some(OffsetDateTime::UNIX_EPOCH),
            processors: &processors,
            error_message: Some("no \"way\""),
            retry_count: -1,
            ..EventResponse::pending(&full)
        };
        for event in [EventResponse::pending(&bare), stored] {
            assert_eq!(written(&event), serde_json::to_string(&event).unwrap());
        }
    }

    #[test]
    fn what_is_described_is_what_is_written() {
        let event = decoded(r#"{"event_type":"a","data":{"b": 1.50}}"#);
        let text = written(&EventResponse::pending(&event));
        assert!(text.contains(r#""data":{"b": 1.50},"#), "{text}");
        let written: serde_json::Value = serde_json::from_str(&text).unwrap();
        let written: Vec<_> = written.as_object().unwrap().keys().collect();
        let described = serde_json::to_value(EventResponse::schema()).unwrap();
        let named: Vec<_> = described["properties"]
            .as_object()
            .unwrap()
            .keys()
            .collect();
        assert_eq!(written, named);
        let mut required: Vec<_> = described["required"].as_array().unwrap().iter().collect();
        required.sort_by_key(|name| name.as_str());
        assert_eq!(written, required);
    }
}
