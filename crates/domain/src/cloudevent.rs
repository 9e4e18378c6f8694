//! Events as CloudEvents 1.0 for others, in the structured mode (`envelope/cloudevents.rs` reads such).

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::category::EventCategory;
use crate::event::{Event, EventSource};
use crate::id::TenantId;
use crate::json::Json;
use crate::{stream, timestamp};

/// The version of the specification.
pub const SPEC_VERSION: &str = "1.0";

/// How an event is written for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The canonical JSON, as on the log.
    #[default]
    Json,
    /// A CloudEvent.
    CloudEvents,
}

impl Format {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Json, Self::CloudEvents];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::CloudEvents => "cloudevents",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == name)
    }

    /// The media type of what [`Self::write`] writes.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::CloudEvents => "application/cloudevents+json; charset=utf-8",
        }
    }

    /// An event in this form.
    #[must_use]
    pub fn write(self, event: &Event) -> Vec<u8> {
        match self {
            Self::Json => event.to_canonical(),
            // Writing to memory cannot fail.
            Self::CloudEvents => serde_json::to_vec(&structured(event)).unwrap_or_default(),
        }
    }
}

/// The `source` of what comes from here: unique together with the id.
#[must_use]
pub fn source(tenant: &TenantId) -> String {
    format!("/tidegate/{tenant}")
}

#[derive(Serialize)]
struct Structured<'a> {
    specversion: &'static str,
    id: Uuid,
    source: String,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(serialize_with = "timestamp::serialize")]
    time: OffsetDateTime,
    datacontenttype: &'static str,
    eventsource: EventSource,
    eventcategory: EventCategory,
    #[serde(skip_serializing_if = "Option::is_none")]
    userid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sessionid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    organizationid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deviceid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlationid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aggregatetype: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aggregateid: Option<&'a str>,
    data: &'a Json,
}

fn structured(event: &Event) -> Structured<'_> {
    Structured {
        specversion: SPEC_VERSION,
        id: event.event_id,
        source: source(&event.tenant_id),
        kind: &event.event_type,
        subject: stream::stream_id(event),
        time: event.timestamp,
        datacontenttype: "application/json",
        eventsource: event.event_source,
        eventcategory: event.event_category,
        userid: event.user_id.as_deref(),
        sessionid: event.session_id.as_deref(),
        organizationid: event.organization_id.as_deref(),
        deviceid: event.device_id.as_deref(),
        correlationid: event.correlation_id.as_deref(),
        aggregatetype: event.aggregate_type.as_deref(),
        aggregateid: event.aggregate_id.as_deref(),
        data: &event.data,
    }
}

#[cfg(test)]
mod tests {
    use crate::envelope::{Context, Origin, decode};
    use crate::limits::Limits;

    use super::*;

    fn read(body: &[u8], content_type: Option<&str>) -> Event {
        let tenant = TenantId::default();
        let cx = Context {
            origin: Origin::Http,
            tenant: &tenant,
            received_at: OffsetDateTime::UNIX_EPOCH + time::Duration::days(20_000),
            now: OffsetDateTime::UNIX_EPOCH + time::Duration::days(20_000),
            fresh_id: Uuid::from_u128(7),
            default_source: EventSource::Backend,
            default_category: EventCategory::UserAction,
            content_type,
            limits: Limits::default(),
        };
        decode(body, &cx).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let body = br#"{"event_id":"0199a4c0-0000-7000-8000-000000000001","event_type":"order.placed",
            "user_id":"u","session_id":"s","organization_id":"o","device_id":"d","correlation_id":"c",
            "aggregate_type":"order","aggregate_id":"7","data":{"n":1.50},
            "timestamp":"2024-05-01T12:00:00Z"}"#;
        let event = read(body, None);
        let written = Format::CloudEvents.write(&event);
        let json: serde_json::Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(json["source"], "/tidegate/default");
        assert_eq!(json["subject"], "order:7");
        assert_eq!(json["eventsource"], "backend");
        let again = read(&written, Some(Format::CloudEvents.media_type()));
        for (is, was) in [
            (&again.user_id, &event.user_id),
            (&again.session_id, &event.session_id),
            (&again.organization_id, &event.organization_id),
            (&again.device_id, &event.device_id),
            (&again.correlation_id, &event.correlation_id),
            (&again.aggregate_id, &event.aggregate_id),
        ] {
            assert_eq!(is, was);
        }
        assert_eq!(again.event_id, event.event_id);
        assert_eq!(again.event_type, event.event_type);
        assert_eq!(again.timestamp, event.timestamp);
        assert_eq!(again.data, event.data);
    }
}
