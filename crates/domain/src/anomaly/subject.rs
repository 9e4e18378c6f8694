//! What an alert is about.

/// How the types of the events begin that tell of alerts. They are never judged themselves.
pub const EVENT_PREFIX: &str = "anomaly.alert.";

/// Whether events of that type are judged: not those that tell of alerts, nor those that were counted
/// together because there were too many types.
pub(super) fn is_judged(event_type: &str) -> bool {
    !event_type.starts_with(EVENT_PREFIX) && event_type != "other"
}

/// The family of a type: its name up to the last dot, underscore or dash. `order.paid` and
/// `order.failed` are of one.
pub(super) fn family(event_type: &str) -> &str {
    match event_type.rfind(['.', '_', '-']) {
        Some(0) | None => event_type,
        Some(at) => event_type.get(..at).unwrap_or(event_type),
    }
}
