//! The reading end of an event log, apart from the queues its records come out of.

use std::sync::Arc;
use std::time::Duration;

use crate::delivery_positions::DeliveryPositions;
use crate::future::BoxFuture;

/// Steers what feeds a set of [`WorkerQueue`](crate::WorkerQueue)s.
pub trait Source: Send + Sync + 'static {
    /// Everything of the partition below `next_offset` is stored, and announced or delivered. Only a
    /// hint; lower offsets than before and partitions that are not assigned are ignored.
    fn mark_done(&self, topic: &str, partition: i32, next_offset: i64);

    /// How far behind each assigned partition is, by topic and partition; seconds old at most.
    fn lag(&self) -> Vec<PartitionLag>;

    /// Topic and partition of everything assigned now.
    fn assigned(&self) -> Vec<(Arc<str>, i32)>;

    /// Whether the log is reachable, as far as is known.
    fn connected(&self) -> bool;

    /// What keeps it from working although the log is reachable.
    fn problem(&self) -> Option<String>;

    /// Bytes handed to the queues whose room is not given back yet.
    fn buffered_bytes(&self) -> usize;

    /// How often a queue was full, so that nothing more was read for it.
    fn pauses(&self) -> u64;

    /// Stops reading, lets the queues run empty (each then returns `None`), waits up to `grace` for
    /// every chunk to be dropped, and gives its partitions back.
    fn shutdown(&self, grace: Duration) -> BoxFuture<'_, ()>;

    /// The stored position of a partition turned out to be that offset, which is not where its records
    /// were read: takes back what was handed out, and reads on from the stored position.
    fn seek(&self, topic: &str, partition: i32, offset: i64);

    /// Whether a record may appear between others that were handed out before: then they have to be
    /// read again ([`Self::seek`]) after a conflict, wherever the stored position is.
    fn fills_up(&self) -> bool {
        false
    }

    /// The positions of delivery, where they are kept beside the stored ones.
    fn delivery(&self) -> Option<&DeliveryPositions> {
        None
    }

    /// False while there is a [`Self::problem`]; a log that is down is none.
    fn healthy(&self) -> bool {
        self.problem().is_none()
    }
}

/// How far behind the log's end one partition is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionLag {
    /// Full name of the topic; the log's name where the partitions are those of the Postgres log.
    pub topic: Arc<str>,
    /// Partition within the topic.
    pub partition: i32,
    /// Records written and not yet marked done; `None` until the first statistics, about a second
    /// after the assignment.
    pub lag: Option<i64>,
    /// Next offset after what was marked done, if anything was since the assignment.
    pub done: Option<i64>,
    /// The offset the next record of the log will get, as far as known.
    pub high: Option<i64>,
}
