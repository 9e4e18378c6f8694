//! The domain envelopes: `{event_id, event_type, aggregate_id, payload}` (S2-15) and
//! `{aggregate_id, event_type, event_data, occurred_at}` (S3-09).

use crate::category::EventCategory;
use crate::event::{Event, EventSource};
use crate::timestamp;

use super::context::Context;
use super::reader::{Inside, Reader};

/// What is read into fields of the event, or is not the sender's to say. Every other member, such as
/// a `trace_id`, is kept in `metadata`.
const KNOWN: [&str; 28] = [
    "aggregate_id",
    "aggregate_type",
    "client_event_id",
    "context",
    "correlation_id",
    "created_at",
    "data",
    "device_id",
    "event_category",
    "event_data",
    "event_id",
    "event_source",
    "event_type",
    "event_version",
    "expected_version",
    "metadata",
    "occurred_at",
    "organization_id",
    "payload",
    "properties",
    "received_at",
    "schema_version",
    "session_id",
    "specversion",
    "tenant_id",
    "timestamp",
    "user_id",
    "version",
];

pub(super) fn read_payload(r: &mut Reader<'_>, cx: &Context<'_>) -> Event {
    read(r, cx, "payload")
}

pub(super) fn read_generic(r: &mut Reader<'_>, cx: &Context<'_>) -> Event {
    read(r, cx, "event_data")
}

fn read(r: &mut Reader<'_>, cx: &Context<'_>, body: &'static str) -> Event {
    let (event_id, client_event_id) = r.event_id(&["event_id"], cx.tenant, cx);
    let event_type = r.event_type("event_type");
    let (data, metadata) = (r.object(body), r.object("metadata"));
    let (in_data, in_metadata) = (Inside::of(&data), Inside::of(&metadata));
    let timestamp = r
        .time(&["occurred_at", "timestamp", "created_at"])
        .or_else(|| timestamp::parse(&in_data.text("timestamp")?));
    let user_id = r.text(&["user_id"]).or_else(|| in_data.text("user_id"));
    let session_id = r
        .text(&["session_id"])
        .or_else(|| in_data.text("session_id"));
    let correlation_id = r
        .text(&["correlation_id"])
        .or_else(|| in_metadata.text("correlation_id"))
        .or_else(|| in_data.text("correlation_id"));
    Event {
        event_id,
        client_event_id,
        tenant_id: cx.tenant.clone(),
        event_source: r
            .name(&["event_source"], EventSource::parse)
            .unwrap_or(cx.default_source),
        event_category: r
            .name(&["event_category"], EventCategory::parse)
            .unwrap_or_else(|| EventCategory::from_event_type(&event_type)),
        event_type,
        user_id,
        session_id,
        organization_id: r.text(&["organization_id"]),
        device_id: r.text(&["device_id"]),
        correlation_id,
        aggregate_type: r.text(&["aggregate_type"]),
        aggregate_id: r.text(&["aggregate_id"]),
        expected_version: r.expected_version(),
        data,
        metadata: r.keep_unknown(metadata, &KNOWN),
        context: r.object("context"),
        properties: r.object("properties"),
        timestamp: timestamp.unwrap_or(cx.received_at),
        received_at: cx.received_at,
        version: r.version(&["event_version", "version"]),
        schema_version: r.version(&["schema_version"]),
    }
}
