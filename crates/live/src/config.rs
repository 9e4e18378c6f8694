//! Settings both implementations read, and those of the one inside the process.

use config::Env;

/// Messages kept of each channel.
pub(crate) fn maxlen(env: &Env) -> usize {
    env.get_in(
        &["SSE_CHANNEL_MAXLEN"],
        1_000,
        1..=1_000_000,
        "Messages kept of each user's channel for those who resume.",
    )
}

/// Seconds a quiet channel is kept (S2-49).
pub(crate) fn ttl_seconds(env: &Env) -> u64 {
    env.get_in(
        &["SSE_CHANNEL_TTL"],
        3_600,
        1..=30 * 86_400,
        "Seconds a user's channel is kept after its last message.",
    )
}

/// Seconds a channel remembers the events it got.
pub(crate) fn dedup_seconds(env: &Env) -> u64 {
    env.get_in(
        &["SSE_DEDUP_SECONDS"],
        300,
        0..=86_400,
        "Seconds within which an event that is sent again is not pushed to its listeners again; \
         0 pushes it each time.",
    )
}

/// What the channels keep for those who resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalConfig {
    /// Messages kept of each channel.
    pub maxlen: usize,
    /// Milliseconds a quiet channel is kept.
    pub ttl_ms: u64,
    /// Milliseconds a channel remembers the events it got.
    pub dedup_ms: u64,
    /// Bytes kept of all channels together; the oldest messages of all go first.
    pub max_bytes: usize,
}

impl Default for LocalConfig {
    fn default() -> Self {
        Self {
            maxlen: 1_000,
            ttl_ms: 3_600_000,
            dedup_ms: 300_000,
            max_bytes: 64 * 1024 * 1024,
        }
    }
}

impl LocalConfig {
    /// Reads it from the environment.
    #[must_use]
    pub fn from_env(env: &Env) -> Self {
        let default = Self::default();
        Self {
            maxlen: maxlen(env),
            ttl_ms: ttl_seconds(env) * 1_000,
            dedup_ms: dedup_seconds(env) * 1_000,
            max_bytes: env.get_in(
                &["SSE_MEMORY_BYTES"],
                default.max_bytes,
                1024 * 1024..=64 * 1024 * 1024 * 1024,
                "Bytes of messages kept for those who resume, all channels together, where live \
                 delivery stays inside the process.",
            ),
        }
    }
}
