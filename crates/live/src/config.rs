//! Settings both implementations read.

use service::Env;

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
