//! An event to send.

use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

/// An event, as the service's own JSON has it. Only `event_type` is mandatory.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// Its id; whatever is sent again under it is stored once.
    pub event_id: Uuid,
    /// Its type, such as `order.placed`.
    pub event_type: String,
    /// When it happened, as in RFC 3339.
    pub timestamp: String,
    /// Whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// In which session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// In which organisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<String>,
    /// On which device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
    /// What it belongs together with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// What kind of thing it happened to; together with `aggregate_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregate_type: Option<String>,
    /// Which one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregate_id: Option<String>,
    /// One of the service's categories; else it follows from the type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_category: Option<String>,
    /// What happened; an object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    /// About the event; an object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
    /// Around the event; an object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<Value>,
    /// More about it; an object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub properties: Option<Value>,
}

impl Event {
    /// An event of this type that happens now, with an id of its own (UUIDv7).
    #[must_use]
    pub fn new(event_type: &str) -> Self {
        let now = OffsetDateTime::now_utc();
        Self {
            event_id: Uuid::now_v7(),
            event_type: event_type.to_owned(),
            // A time of this century can be written.
            timestamp: now.format(&Rfc3339).unwrap_or_default(),
            user_id: None,
            session_id: None,
            organization_id: None,
            device_id: None,
            correlation_id: None,
            aggregate_type: None,
            aggregate_id: None,
            event_category: None,
            data: None,
            metadata: None,
            context: None,
            properties: None,
        }
    }
}
