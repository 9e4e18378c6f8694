//! CloudEvents 1.0, structured mode in JSON
//! (`cloudevents/spec`: `cloudevents/formats/json-format.md`, `spec.md`).

use crate::category::EventCategory;
use crate::event::Event;
use crate::field::Code;
use crate::id::Space;
use crate::json::Json;

use super::context::Context;
use super::reader::{Inside, Reader, own_id, string};

/// What is read into fields of the event; every other attribute is kept in `context.cloudevent`.
const READ: [&str; 12] = [
    "id",
    "type",
    "time",
    "data",
    "data_base64",
    "userid",
    "sessionid",
    "organizationid",
    "deviceid",
    "correlationid",
    "aggregatetype",
    "aggregateid",
];

pub(super) fn read(r: &mut Reader<'_>, cx: &Context<'_>) -> Event {
    if r.required("specversion").is_some_and(|text| text != "1.0") {
        r.complain("specversion", Code::IllegalValue, "must be \"1.0\"");
    }
    let event_type = r.event_type("type");
    let source = r.required_address("source").unwrap_or_default();
    let text = r.required("id").unwrap_or_default();
    // A UUID is unique by itself; any other id only together with its source (spec.md, `id`).
    let (event_id, client_event_id) = match own_id(Space::CloudEvent(&source), cx.tenant, &text) {
        (id, _) if id.is_nil() => (cx.fresh_id, None),
        own => own,
    };
    let data = data(r);
    let inside = Inside::of(&data);
    let user_id = r.text(&["userid"]).or_else(|| inside.text("user_id"));
    let session_id = r.text(&["sessionid"]).or_else(|| inside.text("session_id"));
    Event {
        event_id,
        client_event_id,
        tenant_id: cx.tenant.clone(),
        event_source: cx.default_source,
        event_category: EventCategory::from_event_type(&event_type),
        event_type,
        user_id,
        session_id,
        organization_id: r.text(&["organizationid"]),
        device_id: r.text(&["deviceid"]),
        correlation_id: r.text(&["correlationid"]),
        aggregate_type: r.text(&["aggregatetype"]),
        aggregate_id: r.text(&["aggregateid"]),
        expected_version: None,
        data,
        metadata: Json::default(),
        context: Json::default().with("cloudevent", attributes(r)),
        properties: Json::default(),
        timestamp: r.time(&["time"]).unwrap_or(cx.received_at),
        received_at: cx.received_at,
        version: "1.0.0".to_owned(),
        schema_version: "1.0.0".to_owned(),
    }
}

/// `data` may be any JSON; what is no object is kept under `value`, binary data under `base64`.
fn data(r: &mut Reader<'_>) -> Json {
    let (data, binary) = (r.members().get("data"), r.members().get("data_base64"));
    if let Some(raw) = data {
        if binary.is_some() {
            r.complain("data_base64", Code::IllegalValue, "stands beside data");
        }
        return if raw.get().starts_with('{') {
            Json::from_checked(raw)
        } else {
            Json::default().with("value", raw)
        };
    }
    let Some(raw) = binary else {
        return Json::default();
    };
    match string(raw) {
        None => r.complain("data_base64", Code::WrongType, "must be a string"),
        Some(text) if !is_base64(&text) => {
            r.complain("data_base64", Code::BadFormat, "must be base64");
        }
        Some(text) => return Json::default().with("base64", &text),
    }
    Json::default()
}

/// The alphabet, whole groups of four, and padding only at the end (RFC 4648, section 4).
fn is_base64(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    text.len().is_multiple_of(4)
        && text.len() - body.len() <= 2
        && body
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

fn attributes(r: &Reader<'_>) -> Json {
    Json::from(&r.members().clone().without(|key| READ.contains(&key)))
}
