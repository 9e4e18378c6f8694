//! The one event, and its one JSON form on the log.

use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::category::EventCategory;
use crate::id::TenantId;
use crate::json::{Hasher, Json};
use crate::names::names;
use crate::{timestamp, write};

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

/// What a context has that is not the client's word: the gateway adds `client_info`, and the media
/// type of a CloudEvent's data is JSON whether it is said or not.
const ADDED: &[&str] = &["client_info", "datacontenttype"];

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
    /// What happened, 1..=255 printable characters (C12).
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
        /// What the names of the members, the ids and the times take.
        const REST: usize = 512;
        let mut out = Vec::with_capacity(REST + self.objects_bytes());
        write::object!(&mut out, self;
            event_id, client_event_id?, tenant_id, event_type, event_source, event_category,
            user_id?, session_id?, organization_id?, device_id?, correlation_id?, aggregate_type?,
            aggregate_id?, expected_version?, data, metadata?, context?, properties?, timestamp,
            received_at, version, schema_version
        );
        out
    }

    /// The bytes of its objects as text: nearly all of a large event.
    #[must_use]
    pub fn objects_bytes(&self) -> usize {
        let objects = [&self.data, &self.metadata, &self.context, &self.properties];
        objects.map(|object| object.as_str().len()).iter().sum()
    }

    /// The hash of what the client said, whatever envelope, door or spelling it chose: two events of
    /// one id with other hashes are a conflict, with the same one a retry. Not in it: the id, what
    /// the gateway and the log add, and `expected_version`, which is a condition. A time counts if
    /// the client gave one.
    #[must_use]
    pub fn content_hash(&self) -> i64 {
        let mut hasher = Hasher::default();
        for text in [
            &self.event_type,
            self.event_source.as_str(),
            self.event_category.as_str(),
            &self.version,
            &self.schema_version,
        ] {
            hasher.text(Some(text));
        }
        for text in [
            &self.user_id,
            &self.session_id,
            &self.organization_id,
            &self.device_id,
            &self.correlation_id,
            &self.aggregate_type,
            &self.aggregate_id,
        ] {
            hasher.text(text.as_deref());
        }
        // The time of a message with `sent_at` follows from that, which each sending changes.
        let sent = self.metadata.may_have("sent_at") && self.metadata.members().has("sent_at");
        let own_time = (self.timestamp != self.received_at && !sent).then_some(self.timestamp);
        hasher.text(own_time.map(timestamp::format).as_deref());
        hasher.json(self.data.as_str(), &[]);
        hasher.json(self.metadata.as_str(), &["sent_at", "received_at"]);
        hasher.json(self.properties.as_str(), &[]);
        hasher.json(self.context.as_str(), ADDED);
        hasher.finish().cast_signed()
    }
}
