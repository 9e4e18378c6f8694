//! What a page of events was asked for under, for its cursor.

use domain::timestamp;
use store::event_reads::{Filter, StatusFilter};
use time::OffsetDateTime;

/// The conditions of a filter as (name, value), for [`Scope`](crate::cursor::Scope).
pub(super) fn conditions(filter: &Filter) -> Vec<(&'static str, String)> {
    let text = |name, value: &Option<String>| value.clone().map(|value| (name, value));
    let time = |name, value: Option<OffsetDateTime>| value.map(|at| (name, timestamp::format(at)));
    let status = match filter.status {
        StatusFilter::Any => None,
        StatusFilter::Is(status) => Some(("status", status.as_str().to_owned())),
        StatusFilter::Unprocessed => Some(("unprocessed", String::new())),
    };
    let json = |name, value: &Option<String>| {
        // Spaces and the order of members do not make another filter.
        let value: serde_json::Value = serde_json::from_str(value.as_deref()?).ok()?;
        Some((name, value.to_string()))
    };
    [
        text("user_id", &filter.user_id),
        text("event_type", &filter.event_type),
        filter
            .event_source
            .map(|s| ("event_source", s.as_str().to_owned())),
        filter
            .event_category
            .map(|c| ("event_category", c.as_str().to_owned())),
        status,
        time("start_time", filter.start),
        time("end_time", filter.end),
        time("created_start", filter.created_start),
        time("created_end", filter.created_end),
        text("session_id", &filter.session_id),
        text("organization_id", &filter.organization_id),
        text("device_id", &filter.device_id),
        text("correlation_id", &filter.correlation_id),
        text("aggregate_type", &filter.aggregate_type),
        text("aggregate_id", &filter.aggregate_id),
        json("data", &filter.data),
        json("metadata", &filter.metadata),
    ]
    .into_iter()
    .flatten()
    .collect()
}
