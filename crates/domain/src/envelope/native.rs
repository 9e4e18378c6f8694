//! Our own form: the create request (S4-18, S4-19), and the canonical form on the log.

use crate::category::EventCategory;
use crate::event::{Event, EventSource};
use crate::field::Code;
use crate::id::TenantId;

use super::context::{Context, Origin};
use super::reader::Reader;

pub(super) fn read(r: &mut Reader<'_>, cx: &Context<'_>) -> Event {
    read_as(r, cx, |r| {
        // A value outside the set falls to the default (C11).
        (
            r.name(&["event_source", "source"], EventSource::parse)
                .unwrap_or(cx.default_source),
            r.name(&["event_category", "category"], EventCategory::parse)
                .unwrap_or(cx.default_category),
        )
    })
}

/// Reads the form with a rule of the caller's for source and category.
pub(super) fn read_as<'a>(
    r: &mut Reader<'a>,
    cx: &Context<'_>,
    kind: impl FnOnce(&mut Reader<'a>) -> (EventSource, EventCategory),
) -> Event {
    let on_log = cx.origin == Origin::Log;
    let (tenant_id, received_at, kept) = if on_log {
        (
            tenant(r, cx),
            r.time(&["received_at"]).unwrap_or(cx.received_at),
            r.text(&["client_event_id"]),
        )
    } else {
        (cx.tenant.clone(), cx.received_at, None)
    };
    let (event_id, client_event_id) = r.event_id(&["event_id"], &tenant_id, cx);
    let (event_source, event_category) = kind(r);
    let context = r.object("context");
    let context = match r.address("page_url") {
        Some(url) => context.with("page_url", &url),
        None => context,
    };
    Event {
        event_id,
        client_event_id: client_event_id.or(kept),
        tenant_id,
        event_type: r.event_type("event_type"),
        event_source,
        event_category,
        user_id: r.text(&["user_id"]),
        session_id: r.text(&["session_id"]),
        organization_id: r.text(&["organization_id"]),
        device_id: r.text(&["device_id"]),
        correlation_id: r.text(&["correlation_id"]),
        aggregate_type: r.text(&["aggregate_type"]),
        aggregate_id: r.text(&["aggregate_id"]),
        expected_version: r.expected_version(),
        data: r.object("data"),
        metadata: r.object("metadata"),
        context,
        properties: r.object("properties"),
        timestamp: r.time(&["timestamp", "occurred_at"]).unwrap_or(received_at),
        received_at,
        version: r.version(&["version"]),
        schema_version: r.version(&["schema_version"]),
    }
}

fn tenant(r: &mut Reader<'_>, cx: &Context<'_>) -> TenantId {
    let Some(text) = r.text_ref(&["tenant_id"]) else {
        return cx.tenant.clone();
    };
    TenantId::parse(&text).unwrap_or_else(|| {
        r.complain(
            "tenant_id",
            Code::IllegalValue,
            "must be 1 to 64 of letters, digits, _ - .",
        );
        cx.tenant.clone()
    })
}
