//! A consumer's rules about offsets.

use std::time::Duration;

/// When a consumer commits what is done. At its end, and when a partition is taken away, always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// So many records done and not committed; `None` waits for the interval.
    pub records: Option<u64>,
    /// So long after the last commit.
    pub interval: Duration,
}

impl Default for Commit {
    fn default() -> Self {
        Self {
            records: None,
            interval: Duration::from_secs(1),
        }
    }
}

/// Where a group begins in a partition for which it has no offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OffsetReset {
    /// With the first record still there.
    #[default]
    Earliest,
    /// With what comes from now on.
    Latest,
}

impl OffsetReset {
    /// Kafka's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Earliest => "earliest",
            Self::Latest => "latest",
        }
    }
}
