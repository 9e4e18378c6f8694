//! The names of Tidegate's own keys in Redis. All processes use the same.

use uuid::Uuid;

/// What all of them begin with; what follows is one of [`KINDS`].
const OWN: &str = "tidegate:sse:";

const KINDS: [&str; 7] = [
    "gaps",
    "positions",
    "dedup",
    "listened",
    "sizes",
    "expiry",
    "bytes",
];

/// The keys that all channels of a prefix share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Stream of gaps: a gap that one process records is a gap for all.
    pub(super) gaps: String,
    /// Hash of the positions published, by partition.
    pub(super) positions: String,
    /// Sorted set of the bytes kept, by channel.
    pub(super) sizes: String,
    /// Sorted set of the seconds at which channels expire.
    pub(super) expiry: String,
    /// The bytes kept of all channels.
    pub(super) bytes: String,
}

impl Shared {
    pub(super) fn new(prefix: &str) -> Self {
        let key = |kind: &str| format!("{OWN}{kind}:{prefix}");
        Self {
            gaps: key("gaps"),
            positions: key("positions"),
            sizes: key("sizes"),
            expiry: key("expiry"),
            bytes: key("bytes"),
        }
    }
}

/// Whether a channel with that prefix could have one of these names.
pub(super) fn collide_with(prefix: &str) -> bool {
    KINDS.iter().any(|kind| {
        let own = format!("{OWN}{kind}:");
        own.starts_with(prefix) || prefix.starts_with(&own)
    })
}

/// Key that exists while that channel, by its own key, remembers the event.
pub(super) fn dedup(channel: &str, event_id: Uuid) -> String {
    format!("{OWN}dedup:{channel}:{event_id}")
}

/// Key that exists while that channel, by its own key, is listened to, and some time longer. Holds
/// the time since when.
pub(super) fn listened(channel: &str) -> String {
    format!("{OWN}listened:{channel}")
}
