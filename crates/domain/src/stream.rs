//! Stream ids: which events belong to one history (S4-30).

use crate::event::Event;

/// `{aggregate_type}:{aggregate_id}` for an explicit aggregate, else `user:{user_id}`.
/// `None` for an event that belongs to no stream.
#[must_use]
pub fn stream_id(event: &Event) -> Option<String> {
    let user = || event.user_id.as_ref().map(|user| ["user:", user].concat());
    explicit_id(event).or_else(user)
}

/// `{aggregate_type}:{aggregate_id}`, for an event that names both: the stream in which it gets a
/// version when it is stored.
#[must_use]
pub fn explicit_id(event: &Event) -> Option<String> {
    match (&event.aggregate_type, &event.aggregate_id) {
        (Some(kind), Some(id)) => Some([kind, ":", id].concat()),
        _ => None,
    }
}

/// Splits a stream id at its first colon into (entity type, entity id); an id without a colon is
/// type and id at once (S4-31).
#[must_use]
pub fn split(stream_id: &str) -> (&str, &str) {
    stream_id.split_once(':').unwrap_or((stream_id, stream_id))
}

/// The key on the log, which keeps one entity's events in order: the stream id, else the lone
/// aggregate id, the session, the device, at last the event id.
#[must_use]
pub fn log_key(event: &Event) -> String {
    stream_id(event)
        .or_else(|| event.aggregate_id.clone())
        .or_else(|| event.session_id.as_ref().map(|id| format!("session:{id}")))
        .or_else(|| event.device_id.as_ref().map(|id| format!("device:{id}")))
        .unwrap_or_else(|| event.event_id.to_string())
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn the_first_colon_splits() {
        assert_eq!(split("order:7:b"), ("order", "7:b"));
        assert_eq!(split("plain"), ("plain", "plain"));
    }
}
