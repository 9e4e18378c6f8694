//! Settings that both implementations read, and those of the one inside the process.

use config::Env;

/// What a channel keeps, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Seconds a quiet channel is kept (S2-49). `SSE_CHANNEL_TTL`.
    pub ttl_seconds: u64,
    /// Messages kept of each channel; in Redis, about. `SSE_CHANNEL_MAXLEN`.
    pub maxlen: usize,
    /// Seconds a channel remembers the ids of its events; 0 for not at all. `SSE_DEDUP_SECONDS`.
    pub dedup_seconds: u64,
}

impl Retention {
    /// Reads it from the environment.
    #[must_use]
    pub fn from_env(env: &Env) -> Self {
        Self {
            ttl_seconds: env.get_in(
                &["SSE_CHANNEL_TTL"],
                3_600,
                1..=30 * 86_400,
                "Seconds a user's channel is kept after its last message.",
            ),
            maxlen: env.get_in(
                &["SSE_CHANNEL_MAXLEN"],
                1_000,
                1..=1_000_000,
                "Messages kept of each user's channel for those who resume.",
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
}

impl Default for Retention {
    fn default() -> Self {
        Self::from_env(&Env::from_map([].into()))
    }
}

/// Settings of [`LocalChannels`](crate::local::LocalChannels).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalConfig {
    /// What each channel keeps.
    pub retention: Retention,
    /// Bytes of messages kept, all channels together; the oldest are dropped first.
    /// `SSE_MEMORY_BYTES`.
    pub max_bytes: usize,
}

impl LocalConfig {
    /// Reads it from the environment.
    #[must_use]
    pub fn from_env(env: &Env) -> Self {
        Self {
            retention: Retention::from_env(env),
            max_bytes: env.get_in(
                &["SSE_MEMORY_BYTES"],
                64 * 1024 * 1024,
                1024 * 1024..=64 * 1024 * 1024 * 1024,
                "Bytes of messages kept for those who resume, all channels together, where live \
                 delivery stays inside the process.",
            ),
        }
    }
}

impl Default for LocalConfig {
    fn default() -> Self {
        Self::from_env(&Env::from_map([].into()))
    }
}
