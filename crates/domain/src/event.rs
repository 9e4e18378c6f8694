//! The one event, and its one JSON form on the log.

use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::category::EventCategory;
use crate::id::TenantId;
use crate::json::Json;
use crate::names::names;
use crate::timestamp;

names! {
    /// Where an event came from (S4-14).
    pub enum EventSource {
        /// A browser or app.
        Frontend = "frontend",
        /// A backend service.
        Backend = "backend",
        /// The platform itself.
        System = "system",
        /// A device.
        IotDevice = "iot_device",
        /// A system outside.
        ExternalApi = "external_api",
        /// A timer.
        Scheduled = "scheduled",
    }
}

names! {
    /// Where an event stands in its handling (S4-16).
    pub enum EventStatus {
        /// Accepted, or stored and waiting for its handlers.
        Pending = "pending",
        /// Claimed by a handler.
        Processing = "processing",
        /// Done; also an event that no handler waits for.
        Processed = "processed",
        /// A handler gave up on it.
        Failed = "failed",
        /// Kept for the record only.
        Archived = "archived",
    }
}

/// The canonical event. Texts are trimmed, at most 255 characters, free of what PostgreSQL cannot
/// hold; times are UTC with microseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Identity; unique per tenant whatever the timestamp.
    pub event_id: Uuid,
    /// The client's own id where it was no UUID (C10).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_event_id: Option<String>,
    /// Whose event it is.
    pub tenant_id: TenantId,
    /// What happened, 1..=255 characters of the safe set (C12).
    pub event_type: String,
    /// Where it came from.
    pub event_source: EventSource,
    /// What kind of thing happened.
    pub event_category: EventCategory,
    /// Who did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// In which session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// For which organisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<String>,
    /// On which device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
    /// What it belongs together with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Type of the aggregate it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregate_type: Option<String>,
    /// The aggregate it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregate_id: Option<String>,
    /// The version the client believes the aggregate's stream has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_version: Option<i64>,
    /// What happened, in the client's words.
    pub data: Json,
    /// About the event.
    #[serde(skip_serializing_if = "Json::is_empty")]
    pub metadata: Json,
    /// Around the event: request, page, client.
    #[serde(skip_serializing_if = "Json::is_empty")]
    pub context: Json,
    /// Further properties.
    #[serde(skip_serializing_if = "Json::is_empty")]
    pub properties: Json,
    /// When it happened: the client's time, else `received_at`.
    #[serde(serialize_with = "timestamp::serialize")]
    pub timestamp: OffsetDateTime,
    /// When the gateway took it, or the producer wrote it.
    #[serde(serialize_with = "timestamp::serialize")]
    pub received_at: OffsetDateTime,
    /// Version of the event's content, at most 20 characters.
    pub version: String,
    /// Version of its schema, at most 20 characters.
    pub schema_version: String,
}

impl Event {
    /// The canonical JSON, as it stands on the log. [`crate::decode`] reads it back to an equal
    /// event. Absent fields and empty objects are left out, except `data`, which tells this form
    /// from the other envelopes.
    #[must_use]
    pub fn to_canonical(&self) -> Vec<u8> {
        // Writing to memory cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}
