//! The bodies of the good answers. They are written by hand, because an event's `data` is already
//! JSON; the structs describe them for `/openapi.json` and for whoever reads them back.

use domain::json::push_quoted;
use domain::{Event, EventStatus, timestamp};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::accept::Rejected;

/// The answer to POST /api/events (S1-07).
#[derive(Debug, Deserialize, ToSchema)]
pub struct Received {
    /// `Event received successfully`
    #[schema(example = "Event received successfully")]
    pub message: String,
    /// The id under which the event is stored.
    pub event_id: Uuid,
}

/// An event as the gateway answers it (S0-26, S4-20).
#[derive(Debug, Deserialize, ToSchema)]
pub struct EventResponse {
    /// The id under which the event is stored.
    pub event_id: Uuid,
    /// The client's own id where it was no UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub client_event_id: Option<String>,
    /// What happened.
    #[schema(example = "user.logout")]
    pub event_type: String,
    /// `frontend`, `backend`, `system`, `iot_device`, `external_api` or `scheduled`.
    #[schema(example = "backend")]
    pub event_source: String,
    /// What kind of thing happened.
    #[schema(example = "user_action")]
    pub event_category: String,
    /// Who did it; null if nobody was named.
    #[schema(required = true)]
    pub user_id: Option<String>,
    /// In which session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub session_id: Option<String>,
    /// For which organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub organization_id: Option<String>,
    /// On which device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub device_id: Option<String>,
    /// What it belongs together with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub correlation_id: Option<String>,
    /// Type of the aggregate it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub aggregate_type: Option<String>,
    /// The aggregate it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub aggregate_id: Option<String>,
    /// The version the client believes the aggregate's stream has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub expected_version: Option<i64>,
    /// What happened, in the client's words.
    #[schema(value_type = Object)]
    pub data: serde_json::Value,
    /// About the event.
    #[schema(value_type = Object)]
    pub metadata: serde_json::Value,
    /// Around the event.
    #[schema(value_type = Object)]
    pub context: serde_json::Value,
    /// Further properties.
    #[schema(value_type = Object)]
    pub properties: serde_json::Value,
    /// Always `pending` here.
    #[schema(example = "pending")]
    pub status: String,
    /// When it happened.
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: String,
    /// When the gateway took it.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: String,
}

/// The answer to a batch with `?partial=true` (C29).
#[derive(Debug, Deserialize, ToSchema)]
pub struct PartialBatch {
    /// The accepted events, in the order of the request.
    pub events: Vec<EventResponse>,
    /// What was wrong with the others.
    pub errors: Vec<ElementError>,
    /// How many were accepted.
    pub accepted: usize,
    /// How many were left out.
    pub rejected: usize,
}

/// What was wrong with one element of a batch.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ElementError {
    /// Its place in the batch, from 0.
    pub index: usize,
    /// The field, index included.
    #[schema(example = "[3].user_id")]
    pub path: String,
    /// A stable word.
    #[schema(example = "wrong_type")]
    pub code: String,
    /// A sentence.
    #[schema(example = "must be a string")]
    pub message: String,
}

/// The answer to one frontend event (S0-21, S4-52).
#[derive(Debug, Deserialize, ToSchema)]
pub struct Collected {
    /// `accepted`
    #[schema(example = "accepted")]
    pub status: String,
    /// The id under which the event is stored.
    pub event_id: Uuid,
    /// `Event published to stream`
    #[schema(example = "Event published to stream")]
    pub message: String,
}

/// The answer to a frontend batch (S0-23).
#[derive(Debug, Deserialize, ToSchema)]
pub struct CollectedBatch {
    /// `accepted`
    #[schema(example = "accepted")]
    pub status: String,
    /// How many were accepted.
    pub processed_count: usize,
    /// Their ids, in the order of the request.
    pub event_ids: Vec<Uuid>,
    /// `Batch of N events published to stream`
    #[schema(example = "Batch of 2 events published to stream")]
    pub message: String,
    /// With `?partial=true`: what was wrong with the others.
    #[serde(default)]
    #[schema(nullable = false)]
    pub errors: Option<Vec<ElementError>>,
    /// With `?partial=true`: how many were left out.
    #[serde(default)]
    #[schema(nullable = false)]
    pub rejected: Option<usize>,
}

/// Writes a [`Received`].
#[must_use]
pub fn received(event: &Event) -> Vec<u8> {
    let mut out = Vec::with_capacity(112);
    out.extend_from_slice(b"{\"message\":\"Event received successfully\",\"event_id\":\"");
    push_id(&mut out, event.event_id);
    out.extend_from_slice(b"\"}");
    out
}

/// Writes a [`Collected`].
#[must_use]
pub fn collected(event: &Event) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(b"{\"status\":\"accepted\",\"event_id\":\"");
    push_id(&mut out, event.event_id);
    out.extend_from_slice(b"\",\"message\":\"Event published to stream\"}");
    out
}

/// Writes an [`EventResponse`].
#[must_use]
pub fn created(event: &Event) -> Vec<u8> {
    let mut out = Vec::with_capacity(size(event));
    push_event(&mut out, event);
    out
}

/// Writes a bare array of [`EventResponse`] (S0-28).
#[must_use]
pub fn created_many<'a>(events: impl Iterator<Item = &'a Event> + Clone) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 + events.clone().map(size).sum::<usize>());
    push_list(&mut out, events, push_event);
    out
}

/// Writes a [`PartialBatch`].
#[must_use]
pub fn partial<'a>(
    events: impl ExactSizeIterator<Item = &'a Event> + Clone,
    rejected: &[Rejected],
) -> Vec<u8> {
    let accepted = events.len();
    let mut out = Vec::with_capacity(64 + events.clone().map(size).sum::<usize>());
    out.extend_from_slice(b"{\"events\":");
    push_list(&mut out, events, push_event);
    push_errors(&mut out, rejected);
    out.extend_from_slice(
        format!(",\"accepted\":{accepted},\"rejected\":{}}}", rejected.len()).as_bytes(),
    );
    out
}

/// Writes a [`CollectedBatch`]; `rejected` is there with `?partial=true` only.
#[must_use]
pub fn collected_many<'a>(
    events: impl ExactSizeIterator<Item = &'a Event>,
    rejected: Option<&[Rejected]>,
) -> Vec<u8> {
    let count = events.len();
    let mut out = Vec::with_capacity(128 + 40 * count);
    out.extend_from_slice(
        format!("{{\"status\":\"accepted\",\"processed_count\":{count},\"event_ids\":").as_bytes(),
    );
    push_list(&mut out, events, |out, event: &Event| {
        out.push(b'"');
        push_id(out, event.event_id);
        out.push(b'"');
    });
    out.extend_from_slice(
        format!(",\"message\":\"Batch of {count} events published to stream\"").as_bytes(),
    );
    if let Some(rejected) = rejected {
        push_errors(&mut out, rejected);
        out.extend_from_slice(format!(",\"rejected\":{}", rejected.len()).as_bytes());
    }
    out.push(b'}');
    out
}

fn size(event: &Event) -> usize {
    480 + event.data.as_str().len()
        + event.metadata.as_str().len()
        + event.context.as_str().len()
        + event.properties.as_str().len()
}

fn push_id(out: &mut Vec<u8>, id: Uuid) {
    let mut buffer = Uuid::encode_buffer();
    out.extend_from_slice(id.hyphenated().encode_lower(&mut buffer).as_bytes());
}

fn push_list<T>(
    out: &mut Vec<u8>,
    items: impl Iterator<Item = T>,
    mut push: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push(out, item);
    }
    out.push(b']');
}

fn push_errors(out: &mut Vec<u8>, rejected: &[Rejected]) {
    let errors = rejected
        .iter()
        .flat_map(|bad| bad.errors.iter().map(move |error| (bad.index, error)));
    out.extend_from_slice(b",\"errors\":");
    push_list(out, errors, |out, (index, error)| {
        out.extend_from_slice(format!("{{\"index\":{index},\"path\":").as_bytes());
        push_quoted(out, &error.path);
        out.extend_from_slice(b",\"code\":");
        push_quoted(out, error.code.as_str());
        out.extend_from_slice(b",\"message\":");
        push_quoted(out, &error.message);
        out.push(b'}');
    });
}

fn push_event(out: &mut Vec<u8>, event: &Event) {
    out.extend_from_slice(b"{\"event_id\":\"");
    push_id(out, event.event_id);
    out.push(b'"');
    let mut text = |key: &str, value: &str| {
        out.extend_from_slice(key.as_bytes());
        push_quoted(out, value);
    };
    text(",\"event_type\":", &event.event_type);
    text(",\"event_source\":", event.event_source.as_str());
    text(",\"event_category\":", event.event_category.as_str());
    for (key, value) in [
        (",\"client_event_id\":", &event.client_event_id),
        (",\"user_id\":", &event.user_id),
        (",\"session_id\":", &event.session_id),
        (",\"organization_id\":", &event.organization_id),
        (",\"device_id\":", &event.device_id),
        (",\"correlation_id\":", &event.correlation_id),
        (",\"aggregate_type\":", &event.aggregate_type),
        (",\"aggregate_id\":", &event.aggregate_id),
    ] {
        if let Some(value) = value {
            text(key, value);
        }
    }
    text(",\"status\":", EventStatus::Pending.as_str());
    text(",\"timestamp\":", &timestamp::format(event.timestamp));
    text(",\"created_at\":", &timestamp::format(event.received_at));
    if event.user_id.is_none() {
        out.extend_from_slice(b",\"user_id\":null");
    }
    if let Some(version) = event.expected_version {
        out.extend_from_slice(format!(",\"expected_version\":{version}").as_bytes());
    }
    for (key, value) in [
        (",\"data\":", &event.data),
        (",\"metadata\":", &event.metadata),
        (",\"context\":", &event.context),
        (",\"properties\":", &event.properties),
    ] {
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(value.as_str().as_bytes());
    }
    out.push(b'}');
}
