//! Why a stream ends.

/// Why a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client is gone.
    Client,
    /// The client was too slow.
    Slow,
    /// The service stops, or the channels do.
    Shutdown,
}

impl End {
    /// The label of the metric.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Slow => "slow",
            Self::Shutdown => "shutdown",
        }
    }
}
