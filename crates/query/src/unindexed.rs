//! Conditions that no index serves.

use domain::FieldError;
use domain::field::Code;
use serde_json::Value;
use store::event_reads::Filter;

/// What is refused of a filter, because it would look at every event. The index of `data` and
/// `metadata` has their values: it does not know an object without one.
pub(crate) fn unindexed(filter: &Filter) -> Vec<FieldError> {
    let few = [
        &filter.user_id,
        &filter.session_id,
        &filter.organization_id,
        &filter.device_id,
        &filter.correlation_id,
        &filter.aggregate_id,
    ];
    let objects = [("data", &filter.data), ("metadata", &filter.metadata)];
    let objects: Vec<(&str, bool)> = objects
        .into_iter()
        .filter_map(|(key, object)| Some((key, has_value(object.as_deref()?))))
        .collect();
    let is_served = objects.iter().any(|(_, has_value)| *has_value);
    if is_served || few.iter().any(|condition| condition.is_some()) {
        return Vec::new();
    }
    let refused = |(key, _)| {
        FieldError::new(
            key,
            Code::BadFormat,
            "no index serves an object without a value; name one, as in {\"a\": 1}, or add user_id, \
             session_id, organization_id, device_id, correlation_id or aggregate_id",
        )
    };
    objects.into_iter().map(refused).collect()
}

/// Whether a JSON text has a text, number, boolean or null anywhere.
fn has_value(json: &str) -> bool {
    fn leaf(value: &Value) -> bool {
        match value {
            Value::Object(members) => members.values().any(leaf),
            Value::Array(items) => items.iter().any(leaf),
            _ => true,
        }
    }
    serde_json::from_str(json).is_ok_and(|value| leaf(&value))
}
