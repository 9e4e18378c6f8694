//! The bus map of direct producers (S4-57): `{id, type, source, data}`.

use crate::category::EventCategory;
use crate::event::Event;
use crate::json::Json;

use super::context::{Context, Origin};
use super::reader::{Inside, Reader, string};

/// Where an id may stand.
pub(super) const IDS: [&str; 2] = ["id", "event_id"];

pub(super) fn read(r: &mut Reader<'_>, cx: &Context<'_>) -> Event {
    let (id, client_event_id) = r.event_id(&IDS, cx.tenant, cx);
    let event_type = event_type(r, cx);
    let data = r.object("data");
    let inside = Inside::of(&data);
    let mut or_inside = |key: &'static str| r.text(&[key]).or_else(|| inside.text(key));
    let (user_id, session_id) = (or_inside("user_id"), or_inside("session_id"));
    let (organization_id, device_id) = (or_inside("organization_id"), or_inside("device_id"));
    let (source, subject) = (r.text(&["source"]), r.text(&["subject"]));
    let correlation_id = r.text(&["correlation_id"]);
    // The id as it came; what is wrong with it has been said above.
    let own_id = r.any(&["id"]).and_then(|(_, raw)| string(raw));
    let own_id = own_id.as_deref().map(str::trim).filter(|id| !id.is_empty());
    Event {
        event_id: id,
        client_event_id,
        tenant_id: cx.tenant.clone(),
        event_source: cx.default_source,
        event_category: EventCategory::from_event_type(&event_type),
        event_type,
        user_id,
        session_id,
        organization_id,
        device_id,
        aggregate_type: r.text(&["aggregate_type"]),
        aggregate_id: r.text(&["aggregate_id"]),
        expected_version: r.expected_version(),
        data,
        metadata: with_texts(
            r.object("metadata"),
            [("source_service", source.as_deref()), ("event_id", own_id)],
        ),
        context: with_texts(
            r.object("context"),
            [
                ("subject", subject.as_deref()),
                ("correlation_id", correlation_id.as_deref()),
            ],
        ),
        correlation_id,
        properties: r.object("properties"),
        timestamp: r.time(&["timestamp", "time"]).unwrap_or(cx.received_at),
        received_at: cx.received_at,
        version: r.version(&["version"]),
        schema_version: r.version(&["schema_version"]),
    }
}

/// On the log an event whose type is absent, null or empty is an "unknown" one (S4-57); over HTTP
/// that is a complaint (C25).
fn event_type(r: &mut Reader<'_>, cx: &Context<'_>) -> String {
    let nameless = match r.any(&["type"]) {
        None => true,
        Some((_, raw)) => string(raw).is_some_and(|text| text.trim().is_empty()),
    };
    if nameless && cx.origin == Origin::Log {
        "unknown".to_owned()
    } else {
        r.event_type("type")
    }
}

fn with_texts<const N: usize>(object: Json, members: [(&str, Option<&str>); N]) -> Json {
    members
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .fold(object, |object, (key, value)| object.with(key, value))
}
