//! Limits on one event, with their defaults.

/// What one event may be at most. The gateway and the processor must run with the same values:
/// the gateway checks the canonical form too, so that nothing it acknowledged is refused later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one event's JSON. Default 256 KiB.
    pub max_event_bytes: usize,
    /// Nested containers, the event itself being the first. Default 32.
    pub max_json_depth: usize,
    /// How far `timestamp` may lie after the moment of receipt, in seconds. Default one day.
    pub max_future_seconds: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_event_bytes: 256 * 1024,
            max_json_depth: 32,
            max_future_seconds: 86_400,
        }
    }
}
