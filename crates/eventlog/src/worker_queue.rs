//! What a writer reads from: chunks of one partition's records, bounded in bytes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;

use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::Record;

/// Records of one partition, in order. Its bytes count against the consumer's buffer until the
/// [`Permit`] inside is dropped, so keep it until the records are stored and marked done.
#[derive(Debug)]
pub struct Chunk {
    /// At least one record, offsets rising.
    pub records: Vec<Record>,
    /// The room these records take in the buffer.
    pub permit: Permit,
    topic: Arc<str>,
    partition: i32,
    revoked: Arc<AtomicBool>,
}

impl Chunk {
    /// `revoked` becomes true when the partition is taken away.
    pub(crate) fn new(
        records: Vec<Record>,
        permit: Permit,
        (topic, partition): (Arc<str>, i32),
        revoked: Arc<AtomicBool>,
    ) -> Self {
        Self {
            records,
            permit,
            topic,
            partition,
            revoked,
        }
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

    /// False once the partition was taken away: storing the records is then another consumer's
    /// business, and the fence in Postgres will refuse them if that consumer was faster.
    pub fn is_current(&self) -> bool {
        !self.revoked.load(Ordering::Relaxed)
    }

    /// Takes the chunk apart: the records, and the permit to hold until they are done.
    pub fn into_parts(self) -> (Vec<Record>, Permit) {
        (self.records, self.permit)
    }
}

/// Room in the consumer's buffer; dropping it gives the room back.
#[derive(Debug)]
pub struct Permit {
    room: Arc<Room>,
    bytes: usize,
    /// Counts what is out of one partition, where somebody wants to know.
    out: Option<Arc<AtomicUsize>>,
}

impl Permit {
    /// Counts these bytes in `out` as well, until they are given back.
    pub(crate) fn counted_in(mut self, out: &Arc<AtomicUsize>) -> Self {
        out.fetch_add(self.bytes, Ordering::SeqCst);
        self.out = Some(Arc::clone(out));
        self
    }

    /// How many bytes of buffer it stands for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(out) = &self.out {
            out.fetch_sub(self.bytes, Ordering::SeqCst);
        }
        self.room.release(self.bytes);
    }
}

/// The part of the buffer that belongs to one worker.
#[derive(Debug)]
pub(crate) struct Room {
    limit: usize,
    used: AtomicUsize,
    poller: Arc<Poller>,
}

/// Who fills the workers, a thread or a task, to be woken when it waits for room.
#[derive(Debug, Default)]
pub(crate) struct Poller {
    pub(crate) thread: OnceLock<Thread>,
    /// Woken where there is no thread.
    pub(crate) task: Arc<Notify>,
    pub(crate) waiting: AtomicBool,
}

impl Poller {
    pub(crate) fn wake(&self) {
        match self.thread.get() {
            Some(thread) => thread.unpark(),
            None => self.task.notify_one(),
        }
    }
}

impl Room {
    fn new(limit: usize, poller: Arc<Poller>) -> Self {
        Self {
            limit,
            used: AtomicUsize::new(0),
            poller,
        }
    }

    /// Takes room for `bytes`; an empty worker takes anything, or a record larger than the limit
    /// would never get through.
    pub(crate) fn admit(self: &Arc<Self>, bytes: usize) -> Option<Permit> {
        // Only the one poller takes room, so nobody else raises `used` in between.
        let used = self.used.load(Ordering::SeqCst);
        if used != 0 && used + bytes > self.limit {
            return None;
        }
        self.used.fetch_add(bytes, Ordering::SeqCst);
        Some(Permit {
            room: Arc::clone(self),
            bytes,
            out: None,
        })
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }

    /// How many bytes may still come.
    pub(crate) fn free(&self) -> usize {
        self.limit.saturating_sub(self.used())
    }

    /// Whether it is worth starting a paused worker again.
    pub(crate) fn half_empty(&self) -> bool {
        self.used() <= self.limit / 2
    }

    fn release(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::SeqCst);
        if self.poller.waiting.load(Ordering::SeqCst) {
            self.poller.wake();
        }
    }
}

/// The reading end of one worker. A partition always arrives on the same worker while it is assigned.
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

/// The poller's end of a worker.
pub(crate) struct WorkerSender {
    /// `None` once the workers are draining.
    pub(crate) chunks: Option<UnboundedSender<Chunk>>,
    pub(crate) room: Arc<Room>,
    /// The partitions of this worker are paused until there is room again.
    pub(crate) paused: bool,
}

pub(crate) fn worker_queues(
    count: usize,
    bytes: usize,
    poller: &Arc<Poller>,
) -> (Vec<WorkerSender>, Vec<WorkerQueue>) {
    let share = bytes / count.max(1);
    (0..count.max(1))
        .map(|index| {
            let (sender, chunks) = unbounded_channel();
            let room = Arc::new(Room::new(share, Arc::clone(poller)));
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
    fn a_record_larger_than_the_room_passes_when_it_is_empty() {
        let room = Arc::new(Room::new(10, Arc::default()));
        let large = room.admit(100).expect("empty");
        assert!(room.admit(1).is_none());
        drop(large);
        assert_eq!(room.used(), 0);
        let small = room.admit(4).expect("empty again");
        assert!(room.admit(7).is_none());
        let other = room.admit(6).expect("exactly full");
        assert!(!room.half_empty());
        drop((small, other));
        assert!(room.half_empty());
    }
}
