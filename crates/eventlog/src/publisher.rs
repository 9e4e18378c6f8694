//! The writing end of an event log.

use std::time::Duration;

use crate::future::BoxFuture;
use crate::record::Outgoing;

/// Resolves when all records of a batch are durable, or with the first error of any of them: some
/// may have been written all the same, so a retry must carry the same event ids.
pub type Acknowledgement = BoxFuture<'static, Result<(), PublishError>>;

/// The writing end of an event log.
pub trait Publisher: Send + Sync + 'static {
    /// Enqueues the records, all or none; dropping the acknowledgement does not take them back.
    ///
    /// # Errors
    /// Nothing was enqueued: the log is unreachable, its queue is full, or a record is too large.
    fn publish(&self, records: &[Outgoing]) -> Result<Acknowledgement, PublishError>;

    /// Whether the log is reachable, as far as is known.
    fn connected(&self) -> bool;

    /// Waits until everything enqueued is acknowledged or failed.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`] if records are still in flight after `limit`.
    fn flush(&self, limit: Duration) -> BoxFuture<'_, Result<(), PublishError>>;
}

/// Why records were not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The bounded queue has no room for the batch now; nothing was enqueued. Retry later.
    #[error("the queue to the event log is full")]
    Full,
    /// No broker answers, or none acknowledged in time. Retry later, with the same event ids:
    /// after a timeout the record may have been written all the same.
    #[error("the event log is unavailable")]
    Unavailable,
    /// A record exceeds what the log accepts. Retrying is useless.
    #[error("a record is larger than the event log accepts")]
    TooLarge,
    /// Anything else: authorisation, a topic that does not exist, a broken client.
    #[error("the event log refused the record: {0}")]
    Failed(String),
}

impl PublishError {
    /// Bounded metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Unavailable => "unavailable",
            Self::TooLarge => "too_large",
            Self::Failed(_) => "failed",
        }
    }
}
