//! What is accepted of each parameter, as `/openapi.json` says it.

use domain::anomaly::Kind;
use domain::{EventCategory, EventSource, EventStatus};
use serde_json::{Value, json};
use store::flow::{By, Interval};

use super::body_schema::TENANT;
use super::schema_parts::printed;
use crate::parameters::{MAX_LIMIT, MAX_OFFSET, MAX_TEXT};

/// What is accepted under that name, as a parameter or as a member of a question: the keywords of
/// JSON Schema beside its type.
pub(super) fn accepted(path: &str, name: &str) -> Value {
    let text = |pattern: &str| json!({"maxLength": MAX_TEXT, "pattern": pattern});
    let of_alerts = path.ends_with("/anomalies");
    match name {
        "state" if of_alerts => json!({"enum": ["open", "resolved"]}),
        "before" if of_alerts => json!({"format": "date-time"}),
        "name" if path.contains("/anomalies/rules/") => printed(100),
        "limit" => json!({"minimum": 1, "maximum": MAX_LIMIT}),
        "offset" => json!({"minimum": 0, "maximum": MAX_OFFSET}),
        "cursor" => json!({"minLength": 1}),
        "event_type" => text(r"^[^\x00]*[^\x00\s][^\x00]*$"),
        "user_id" | "session_id" | "organization_id" | "device_id" | "correlation_id"
        | "aggregate_type" | "aggregate_id" | "reason" | "topic" => text(r"^[^\x00]*$"),
        "event_source" => json!({"enum": names(EventSource::ALL, EventSource::as_str)}),
        "event_category" => json!({"enum": names(EventCategory::ALL, EventCategory::as_str)}),
        "status" => json!({"enum": names(EventStatus::ALL, EventStatus::as_str)}),
        "interval" => json!({"enum": names(Interval::ALL, Interval::as_str), "default": "day"}),
        "by" => json!({"enum": names(By::ALL, By::as_str), "default": "event_type"}),
        "names" => json!({"minimum": 1, "maximum": 20, "default": 5}),
        "format" => json!({"enum": ["short", "full"]}),
        "direction" => json!({"enum": ["forward", "backward"]}),
        "before" => json!({"minimum": 0, "maximum": u32::MAX}),
        "tenant" => json!({"pattern": TENANT}),
        "outcome" => json!({"enum": ["delivered", "retry", "failed"]}),
        "source" => json!({"enum": names(EventSource::ALL, EventSource::as_str)}),
        "kind" => json!({"enum": names(Kind::ALL, Kind::as_str)}),
        "from" | "to" => json!({"format": "date-time"}),
        "from_version" => json!({"minimum": 0, "maximum": u32::MAX, "format": "int64"}),
        "state" => json!({"enum": ["open", "redriven", "discarded"]}),
        "entity_type" | "entity_id" | "name" | "value" => text(r"^[^\x00]*$"),
        "start_time" | "started_at" | "end_time" | "ended_at" | "created_start" | "created_end" => {
            json!({"format": "date-time"})
        }
        "id" => json!({"minimum": 0}),
        _ => json!({}),
    }
}

fn names<T: Copy>(all: &[T], name: fn(T) -> &'static str) -> Vec<&'static str> {
    all.iter().map(|one| name(*one)).collect()
}
