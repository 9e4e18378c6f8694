//! The names of Tidegate's own keys in Redis. All processes use the same.

use uuid::Uuid;

/// What the keys of [`dedup`] begin with.
pub(super) const DEDUP: &str = "tidegate:sse:dedup:";

/// Stream of gaps: a gap that one process records is a gap for all.
pub(super) fn gaps(prefix: &str) -> String {
    format!("tidegate:sse:gaps:{prefix}")
}

/// Hash of the positions published, by partition.
pub(super) fn positions(prefix: &str) -> String {
    format!("tidegate:sse:positions:{prefix}")
}

/// Key that exists while that channel, by its own key, remembers the event.
pub(super) fn dedup(channel: &str, event_id: Uuid) -> String {
    format!("{DEDUP}{channel}:{event_id}")
}
