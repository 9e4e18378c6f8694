//! Request bodies.

use serde_json::{Map, Value, json};

/// A backend event as `POST /api/v1/events/create` takes it (S4-18): type, user and a little data.
pub fn backend(event_type: &str) -> EventBuilder {
    EventBuilder(Map::new())
        .set("event_type", event_type)
        .set("event_source", "backend")
        .set("event_category", "user_action")
        .set("user_id", "user-1")
        .set("data", json!({"n": 1}))
}

/// A frontend event as `POST /api/frontend/events` takes it (S0-20).
pub fn frontend(event_type: &str, category: &str) -> EventBuilder {
    EventBuilder(Map::new())
        .set("event_type", event_type)
        .set("category", category)
        .set("page_url", "https://shop.example/cart")
        .set("session_id", "session-1")
        .set("data", json!({"button": "buy"}))
}

/// A JSON object under construction.
#[derive(Debug, Clone)]
pub struct EventBuilder(Map<String, Value>);

impl EventBuilder {
    /// Sets one field; the last value counts.
    #[must_use]
    pub fn set(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0.insert(field.to_owned(), value.into());
        self
    }

    /// Removes one field.
    #[must_use]
    pub fn without(mut self, field: &str) -> Self {
        self.0.remove(field);
        self
    }

    /// Sets a new `event_id`, so that the event can be sent twice.
    #[must_use]
    pub fn with_fresh_id(self) -> Self {
        self.set("event_id", uuid::Uuid::now_v7().to_string())
    }

    /// The object.
    #[must_use]
    pub fn json(self) -> Value {
        Value::Object(self.0)
    }
}

/// `{"events": [...]}`, the frontend's batch body (S0-22).
pub fn frontend_batch(events: impl IntoIterator<Item = EventBuilder>) -> Value {
    json!({"events": backend_batch(events)})
}

/// A bare array, the backend's batch body (S0-27).
pub fn backend_batch(events: impl IntoIterator<Item = EventBuilder>) -> Value {
    events.into_iter().map(EventBuilder::json).collect()
}
