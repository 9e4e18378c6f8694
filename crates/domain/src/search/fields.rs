//! The fields of an event, as questions name them.

/// The parts of an event that are JSON objects, whose members are fields such as `data.amount`.
pub(super) const OBJECTS: [&str; 4] = ["data", "metadata", "context", "properties"];

/// Fields with one value, which is compared as a whole; some under two names.
pub(super) const WHOLE: [(&str, &str); 14] = [
    ("event_type", "event_type"),
    ("type", "event_type"),
    ("event_source", "event_source"),
    ("source", "event_source"),
    ("event_category", "event_category"),
    ("category", "event_category"),
    ("user_id", "user_id"),
    ("user", "user_id"),
    ("session_id", "session_id"),
    ("organization_id", "organization_id"),
    ("device_id", "device_id"),
    ("correlation_id", "correlation_id"),
    ("aggregate_type", "aggregate_type"),
    ("aggregate_id", "aggregate_id"),
];

/// A path as it is compared: in lower case, what could be mistaken for something else as `_`.
pub(super) fn path(text: &str) -> String {
    let plain = |c: char| {
        if c.is_alphanumeric() || matches!(c, '.' | '-' | '$' | '@') {
            c
        } else {
            '_'
        }
    };
    let path: String = text.chars().take(200).map(plain).collect();
    path.to_lowercase()
}
