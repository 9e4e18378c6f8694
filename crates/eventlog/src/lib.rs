//! The event log: publish records and consume them in order, over Kafka or over PostgreSQL.
//!
//! - [`Publisher`] publishes a batch and acknowledges it as one: [`kafka::Producer`],
//!   [`postgres::PostgresLog`].
//! - [`kafka::Consumer`] and [`postgres::PostgresSource`] hand the records of the partitions they are
//!   assigned to a fixed number of [`WorkerQueue`]s, each read by one worker. [`Source`] steers them.
//! - [`kafka::topics::ensure`] creates the topics that are missing.
//!
//! Invariants, stated as absences: nothing here looks into a payload or decides what an event is.
//! Kafka's committed offset is a hint only: whoever stores records keeps the true offsets beside
//! them. Nothing here removes a row of the Postgres log: that is the storing transaction's to do.

mod byte_budget;
pub mod kafka;
pub mod postgres;
mod queue;
mod source;
mod worker_queue;

pub use byte_budget::{BudgetExhausted, ByteBudget, BytePermit};
pub use source::{PartitionLag, Source};
pub use worker_queue::{Chunk, Permit, WorkerQueue};

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

/// Bookkeeping of a header beside its bytes: two vectors and their allocations.
const HEADER_OVERHEAD: usize = 80;
/// Bookkeeping of a record beside its bytes.
const RECORD_OVERHEAD: usize = size_of::<Record>() + 32;

/// One record as it came out of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Full topic name, prefix included.
    pub topic: Arc<str>,
    /// Partition within the topic.
    pub partition: i32,
    /// Position within the partition. Offsets rise but may have gaps (compaction, transactions).
    pub offset: i64,
    /// Milliseconds since the Unix epoch, when the broker or the sender gave one.
    pub timestamp_ms: Option<i64>,
    /// Partitioning key.
    pub key: Option<Vec<u8>>,
    /// Headers in sending order; names that are no UTF-8 are read lossily, a null value is empty.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The bytes sent; `None` is a tombstone.
    pub payload: Option<Vec<u8>>,
}

impl Record {
    /// The value of the first header of this name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_slice())
    }

    /// About how many bytes of memory it takes.
    pub(crate) fn memory(&self) -> usize {
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len() + HEADER_OVERHEAD)
            .sum();
        RECORD_OVERHEAD
            + headers
            + self.key.as_ref().map_or(0, Vec::len)
            + self.payload.as_ref().map_or(0, Vec::len)
    }
}

/// Headers of a record to publish: immutable, so that a clone costs one reference count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Arc<[(Cow<'static, str>, Bytes)]>);

impl Headers {
    /// Name and value of each header, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    /// How many headers there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N, V> FromIterator<(N, V)> for Headers
where
    N: Into<Cow<'static, str>>,
    V: Into<Bytes>,
{
    fn from_iter<I: IntoIterator<Item = (N, V)>>(headers: I) -> Self {
        Self(
            headers
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

/// One record to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Full topic name, prefix included.
    pub topic: Arc<str>,
    /// Records of one key keep their order. An empty key spreads records over the partitions.
    pub key: Vec<u8>,
    /// Headers, sent in this order.
    pub headers: Headers,
    /// The bytes to send.
    pub payload: Bytes,
}

/// A future as the ports return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

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
