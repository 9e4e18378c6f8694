//! Settings that both implementations read.

use config::Env;

/// What channels keep for listeners that resume, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Whether channels that nobody listens to are kept too. `SSE_HISTORY`.
    pub keep_all: bool,
    /// Seconds a quiet channel is kept (S2-49), and seconds after its last listener has left during
    /// which messages are kept for it. `SSE_CHANNEL_TTL`.
    pub ttl_seconds: u64,
    /// Messages kept of each channel; in Redis, about. `SSE_CHANNEL_MAXLEN`.
    pub maxlen: usize,
    /// Bytes kept of all channels together; in Redis, about. `SSE_MEMORY_BYTES`.
    pub max_bytes: usize,
    /// Seconds a channel remembers the ids of its events; 0 for not at all. `SSE_DEDUP_SECONDS`.
    pub dedup_seconds: u64,
}

impl Retention {
    /// Reads it from the environment.
    #[must_use]
    pub fn from_env(env: &Env) -> Self {
        Self {
            keep_all: env.get_one_of(
                "SSE_HISTORY",
                [("listened", false), ("all", true)],
                "Whose live messages are kept for those who resume: listened (users with a live \
                 stream now or within SSE_CHANNEL_TTL; nothing is written for others) or all. The \
                 same in processor and query.",
            ),
            ttl_seconds: env.get_in(
                &["SSE_CHANNEL_TTL"],
                3_600,
                1..=30 * 86_400,
                "Seconds a user's channel is kept after its last message, and after its last \
                 listener has left.",
            ),
            maxlen: env.get_in(
                &["SSE_CHANNEL_MAXLEN"],
                1_000,
                1..=1_000_000,
                "Messages kept of each user's channel for those who resume.",
            ),
            max_bytes: env.get_in(
                &["SSE_MEMORY_BYTES"],
                256 * 1024 * 1024,
                64 * 1024..=64 * 1024 * 1024 * 1024,
                "Bytes of messages kept for those who resume, all channels together, in Redis or \
                 inside the process; over it the largest channels (in Redis) or the oldest \
                 messages (inside the process) are trimmed.",
            ),
            dedup_seconds: env.get_in(
                &["SSE_DEDUP_SECONDS"],
                300,
                0..=86_400,
                "Seconds within which an event that is sent again is not pushed to its listeners \
                 again; 0 pushes it each time.",
            ),
        }
    }

    /// Milliseconds for which a channel counts as listened to after its last listener was seen: a
    /// little more than its time to live, because listeners are seen at intervals.
    pub(crate) fn listened_ms(&self) -> u64 {
        self.ttl_seconds * 1_250
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self::from_env(&Env::from_map([].into()))
    }
}
