//! The one event, and its one JSON form on the log.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::category::EventCategory;
use crate::id::TenantId;
use crate::json::{Json, push_quoted};
use crate::timestamp;

/// Where an event came from (S4-14).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventSource {
    /// A browser or app.
    Frontend,
    /// A backend service.
    Backend,
    /// The platform itself.
    System,
    /// A device.
    IotDevice,
    /// A system outside.
    ExternalApi,
    /// A timer.
    Scheduled,
}

impl EventSource {
    /// Every value, in the order of the specification.
    pub const ALL: [Self; 6] = [
        Self::Frontend,
        Self::Backend,
        Self::System,
        Self::IotDevice,
        Self::ExternalApi,
        Self::Scheduled,
    ];

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Frontend => "frontend",
            Self::Backend => "backend",
            Self::System => "system",
            Self::IotDevice => "iot_device",
            Self::ExternalApi => "external_api",
            Self::Scheduled => "scheduled",
        }
    }

    /// The value of that name, or `None`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == text)
    }
}

/// Where an event stands in its handling (S4-16).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventStatus {
    /// Accepted, or stored and waiting for its handlers.
    Pending,
    /// Claimed by a handler.
    Processing,
    /// Done; also an event that no handler waits for.
    Processed,
    /// A handler gave up on it.
    Failed,
    /// Kept for the record only.
    Archived,
}

impl EventStatus {
    /// Every value.
    pub const ALL: [Self; 5] = [
        Self::Pending,
        Self::Processing,
        Self::Processed,
        Self::Failed,
        Self::Archived,
    ];

    /// The name on the wire and in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Processed => "processed",
            Self::Failed => "failed",
            Self::Archived => "archived",
        }
    }

    /// The value of that name, or `None`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// The canonical event. Texts are trimmed, at most 255 characters, free of what PostgreSQL cannot
/// hold; times are UTC with microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Identity; unique per tenant whatever the timestamp.
    pub event_id: Uuid,
    /// The client's own id where it was no UUID (C10).
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
    pub user_id: Option<String>,
    /// In which session.
    pub session_id: Option<String>,
    /// For which organisation.
    pub organization_id: Option<String>,
    /// On which device.
    pub device_id: Option<String>,
    /// What it belongs together with.
    pub correlation_id: Option<String>,
    /// Type of the aggregate it changes.
    pub aggregate_type: Option<String>,
    /// The aggregate it changes.
    pub aggregate_id: Option<String>,
    /// The version the client believes the aggregate's stream has.
    pub expected_version: Option<i64>,
    /// What happened, in the client's words.
    pub data: Json,
    /// About the event.
    pub metadata: Json,
    /// Around the event: request, page, client.
    pub context: Json,
    /// Further properties.
    pub properties: Json,
    /// When it happened: the client's time, else `received_at`.
    pub timestamp: OffsetDateTime,
    /// When the gateway took it, or the producer wrote it.
    pub received_at: OffsetDateTime,
    /// Version of the event's content, at most 20 characters.
    pub version: String,
    /// Version of its schema, at most 20 characters.
    pub schema_version: String,
}

impl Event {
    /// The canonical JSON, as it stands on the log. [`crate::decode`] reads it back to an equal
    /// event. Absent fields are left out.
    #[must_use]
    pub fn to_canonical(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(
            420 + self.data.as_str().len()
                + self.metadata.as_str().len()
                + self.context.as_str().len()
                + self.properties.as_str().len(),
        );
        let id = &mut Uuid::encode_buffer();
        let id = self.event_id.hyphenated().encode_lower(id);
        out.extend_from_slice(b"{\"event_id\":");
        push_quoted(&mut out, id);
        let mut text = |key: &str, value: &str| {
            out.extend_from_slice(b",\"");
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(b"\":");
            push_quoted(&mut out, value);
        };
        text("tenant_id", self.tenant_id.as_str());
        text("event_type", &self.event_type);
        text("event_source", self.event_source.as_str());
        text("event_category", self.event_category.as_str());
        for (key, value) in [
            ("client_event_id", &self.client_event_id),
            ("user_id", &self.user_id),
            ("session_id", &self.session_id),
            ("organization_id", &self.organization_id),
            ("device_id", &self.device_id),
            ("correlation_id", &self.correlation_id),
            ("aggregate_type", &self.aggregate_type),
            ("aggregate_id", &self.aggregate_id),
        ] {
            if let Some(value) = value {
                text(key, value);
            }
        }
        text("timestamp", &timestamp::format(self.timestamp));
        text("received_at", &timestamp::format(self.received_at));
        text("version", &self.version);
        text("schema_version", &self.schema_version);
        if let Some(version) = self.expected_version {
            out.extend_from_slice(format!(",\"expected_version\":{version}").as_bytes());
        }
        for (key, value) in [
            ("data", &self.data),
            ("metadata", &self.metadata),
            ("context", &self.context),
            ("properties", &self.properties),
        ] {
            // `data` is always written: it is what tells this form from the other envelopes.
            if key == "data" || !value.is_empty() {
                out.extend_from_slice(b",\"");
                out.extend_from_slice(key.as_bytes());
                out.extend_from_slice(b"\":");
                out.extend_from_slice(value.as_str().as_bytes());
            }
        }
        out.push(b'}');
        out
    }
}
