//! What a worker reads from: chunks of one partition's records, bounded in bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout_at};

use crate::byte_budget::{ByteBudget, BytePermit};
use crate::record::Record;

/// Records of one partition, in order. Its bytes count against the consumer's buffer as long as the
/// [`Permit`] inside has its room; keep that until the records are stored and marked done.
#[derive(Debug)]
pub struct Chunk {
    /// At least one record, offsets rising.
    pub records: Vec<Record>,
    /// The room these records take in the buffer.
    pub permit: Permit,
    from: i64,
    topic: Arc<str>,
    partition: i32,
    revoked: Arc<AtomicBool>,
}

impl Chunk {
    /// `revoked` becomes true when the partition is taken away.
    pub(crate) fn new(
        from: i64,
        records: Vec<Record>,
        permit: Permit,
        (topic, partition): (Arc<str>, i32),
        revoked: Arc<AtomicBool>,
    ) -> Self {
        Self {
            records,
            permit,
            from,
            topic,
            partition,
            revoked,
        }
    }

    /// The chunk has everything that the partition has from this offset to its last record: where no
    /// record is, there never was one, or it is compacted away.
    pub fn from(&self) -> i64 {
        self.from
    }

    /// What the partition belongs to: the full name of the topic, which is every record's, or, in
    /// the Postgres log, whose workers hold several topics, the log's name.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// Partition of every record in the chunk.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// False once the partition was taken away: another consumer stores its records, and the fence in
    /// Postgres refuses these if that consumer was faster.
    pub fn is_current(&self) -> bool {
        !self.revoked.load(Ordering::Relaxed)
    }

    /// Takes the chunk apart: the records, and the permit to hold until they are done.
    pub fn into_parts(self) -> (Vec<Record>, Permit) {
        (self.records, self.permit)
    }
}

/// Room in the consumer's buffer. Dropping it gives the room back, and says that the records are done.
#[derive(Debug)]
pub struct Permit {
    _partition: Option<BytePermit>,
    buffer: BytePermit,
}

impl Permit {
    /// Combines room in the buffer with what counts the bytes that are out of the partition, where
    /// the source wants to know.
    pub(crate) fn new(buffer: BytePermit, partition: Option<BytePermit>) -> Self {
        Self {
            _partition: partition,
            buffer,
        }
    }

    /// Gives the room back before the permit ends: the records are gone, but something is still to be done
    /// for them, and until it is the queue is not drained.
    pub fn give_room_back(&mut self) {
        // A permit can always become smaller.
        let _ = self.buffer.resize(self.buffer.bytes().min(1));
    }
}

/// The reading end of one worker's queue. A partition stays with its worker while it is assigned.
#[derive(Debug)]
pub struct WorkerQueue {
    index: usize,
    chunks: UnboundedReceiver<Chunk>,
}

impl WorkerQueue {
    /// Which worker this is, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The next chunk; `None` once the consumer was shut down and everything was handed out.
    /// Chunks of partitions taken away meanwhile are skipped. Cancelling loses nothing.
    pub async fn recv(&mut self) -> Option<Chunk> {
        loop {
            let chunk = self.chunks.recv().await?;
            if chunk.is_current() {
                return Some(chunk);
            }
        }
    }

    /// The next chunk that is there, or comes until then. Cancelling loses nothing.
    pub async fn recv_until(&mut self, due: Instant) -> Option<Chunk> {
        if let Some(chunk) = self.try_recv() {
            return Some(chunk);
        }
        if due <= Instant::now() {
            return None;
        }
        timeout_at(due, self.recv()).await.ok().flatten()
    }

    /// The next chunk if there is one now.
    pub fn try_recv(&mut self) -> Option<Chunk> {
        loop {
            let chunk = self.chunks.try_recv().ok()?;
            if chunk.is_current() {
                return Some(chunk);
            }
        }
    }
}

/// The source's end of a worker's queue.
pub(crate) struct WorkerSender {
    /// `None` once the workers are draining.
    pub(crate) chunks: Option<UnboundedSender<Chunk>>,
    pub(crate) room: Arc<ByteBudget>,
    /// The partitions of this worker are paused until there is room again.
    pub(crate) paused: bool,
}

/// Creates `count` queues that hold `bytes` together. `released` is notified when a permit is dropped.
pub(crate) fn worker_queues(
    count: usize,
    bytes: usize,
    released: Option<&Arc<Notify>>,
) -> (Vec<WorkerSender>, Vec<WorkerQueue>) {
    let share = bytes / count.max(1);
    (0..count.max(1))
        .map(|index| {
            let (sender, chunks) = unbounded_channel();
            let room = ByteBudget::notifying(share, released.cloned());
            (
                WorkerSender {
                    chunks: Some(sender),
                    room,
                    paused: false,
                },
                WorkerQueue { index, chunks },
            )
        })
        .unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_comes_back_before_the_records_are_done() {
        let budget = ByteBudget::new(100);
        let mut permit = Permit::new(budget.acquire(80).unwrap(), None);
        assert!(budget.acquire(80).is_err());
        permit.give_room_back();
        assert_eq!(budget.used(), 1, "not drained");
        permit.give_room_back();
        drop(budget.acquire(99).unwrap());
        drop(permit);
        assert_eq!(budget.used(), 0);
        let mut nothing = Permit::new(budget.acquire(0).unwrap(), None);
        nothing.give_room_back();
        assert_eq!(budget.used(), 0);
    }
}
