//! From polled records to chunks in the workers' queues.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::message::{BorrowedMessage, Message};

use super::assignment::Assignment;
use super::message::record;
use super::rebalance::Client;
use super::shared::Shared;
use crate::Record;
use crate::byte_budget::BytePermit;
use crate::worker_queue::{Chunk, Permit, WorkerSender};

/// How long to wait for a record when there is nothing else to do.
const IDLE: Duration = Duration::from_millis(100);
/// The same while a queue is paused and its room has to be watched.
pub(super) const WATCH: Duration = Duration::from_millis(20);
/// A queue that stays full for this long is paused. Below it the thread just waits: pausing
/// discards what librdkafka fetched ahead.
const FULL_TIMEOUT: Duration = Duration::from_millis(500);
/// How often it looks for room meanwhile.
const ROOM_CHECK: Duration = Duration::from_millis(1);
/// A chunk is complete when it is this long or this large, or when nothing more is there.
const CHUNK_RECORDS: usize = 256;
const CHUNK_BYTES: usize = 512 * 1024;

/// Collects polled records into chunks of one partition, sends each to the queue of its worker, and
/// pauses the partitions of queues that stay full.
pub(super) struct Dispatcher {
    shared: Arc<Shared>,
    queues: Vec<WorkerSender>,
    chunks: Vec<Filling>,
    chunk_bytes: usize,
}

/// A chunk that is being filled.
struct Filling {
    assignment: Arc<Assignment>,
    records: Vec<Record>,
    bytes: usize,
}

impl Dispatcher {
    pub(super) fn new(shared: Arc<Shared>, queues: Vec<WorkerSender>, buffer_bytes: usize) -> Self {
        // A queue should hold a few chunks, or it would alternate between one and none.
        let share = buffer_bytes / queues.len().max(1);
        Self {
            shared,
            queues,
            chunks: Vec::new(),
            chunk_bytes: CHUNK_BYTES.min(share / 4).max(1),
        }
    }

    /// How long the next poll may wait for a record.
    pub(super) fn poll_timeout(&self) -> Duration {
        let sendable = |chunk: &Filling| !self.queues[chunk.assignment.worker].paused;
        if self.chunks.iter().any(sendable) {
            Duration::ZERO
        } else if self.queues.iter().any(|queue| queue.paused) {
            WATCH
        } else {
            IDLE
        }
    }

    /// Adds a record to its partition's chunk; true if what was collected is to go out.
    pub(super) fn add(&mut self, message: &BorrowedMessage<'_>) -> bool {
        // Of a partition that is not read yet: as long as such records come, nothing else would give the
        // thread the time to place it.
        let Some(index) = self.chunk_for(message.topic(), message.partition()) else {
            return true;
        };
        let chunk = &mut self.chunks[index];
        let record = record(message, &chunk.assignment.topic);
        chunk.bytes += record.memory();
        chunk.records.push(record);
        chunk.records.len() >= CHUNK_RECORDS || chunk.bytes >= self.chunk_bytes
    }

    /// The chunk being filled for a partition; searched from the end, because records come in runs.
    fn chunk_for(&mut self, topic: &str, partition: i32) -> Option<usize> {
        let found = self
            .chunks
            .iter()
            .rposition(|chunk| chunk.assignment.is(topic, partition));
        if let Some(index) = found {
            if !self.chunks[index].assignment.revoked() {
                return Some(index);
            }
            self.chunks.swap_remove(index);
        }
        // librdkafka hands out no records of partitions it took away.
        let assignment = self.shared.assignments.find(topic, partition)?;
        if assignment.is_unplaced() {
            return None;
        }
        self.chunks.push(Filling {
            assignment,
            records: Vec::new(),
            bytes: 0,
        });
        Some(self.chunks.len() - 1)
    }

    /// Sends every chunk whose queue has room, complete or not: a quiet partition must not wait for
    /// the end of another one's backlog.
    pub(super) fn send(&mut self, client: &Client) {
        for index in (0..self.chunks.len()).rev() {
            self.send_one(client, index);
        }
    }

    /// Sends one chunk; waits for a full queue, then pauses it.
    fn send_one(&mut self, client: &Client, index: usize) {
        let chunk = &self.chunks[index];
        if chunk.assignment.revoked() || chunk.records.is_empty() {
            self.chunks.swap_remove(index);
            return;
        }
        let (worker, bytes) = (chunk.assignment.worker, chunk.bytes);
        let buffer = match self.queues[worker].room.acquire_oversized(bytes) {
            Some(permit) => permit,
            None if self.queues[worker].paused => return,
            None => match self.wait_for_room(worker, bytes) {
                Some(permit) => permit,
                None => {
                    tracing::debug!(worker, "queue full, pausing its partitions");
                    self.queues[worker].paused = true;
                    self.shared.pauses.fetch_add(1, Ordering::Relaxed);
                    self.pause_partitions(client);
                    return;
                }
            },
        };
        let Filling {
            assignment,
            records,
            ..
        } = self.chunks.swap_remove(index);
        let Some(sender) = &self.queues[worker].chunks else {
            return;
        };
        let (Some(first), Some(last)) = (records.first(), records.last()) else {
            return;
        };
        let from = assignment.sends(first.offset, last.offset);
        let (partition, revoked) = assignment.of_chunk();
        let permit = Permit::new(buffer, None);
        let chunk = Chunk::new(from, records, permit, partition, revoked);
        if sender.send(chunk).is_err() {
            // The worker is gone. The records stay undone, so they are read again after a restart.
            let problem = format!("no worker reads queue {worker}");
            self.shared.set_problem(Some(problem));
        }
    }

    fn wait_for_room(&self, worker: usize, bytes: usize) -> Option<BytePermit> {
        let until = Instant::now() + FULL_TIMEOUT;
        while Instant::now() < until && !self.shared.stopping() {
            std::thread::sleep(ROOM_CHECK);
            let permit = self.queues[worker].room.acquire_oversized(bytes);
            if permit.is_some() {
                return permit;
            }
        }
        None
    }

    /// Drops the chunks of partitions that were taken away, and pauses new ones of paused queues.
    pub(super) fn rebalanced(&mut self, client: &Client) {
        self.chunks.retain(|chunk| !chunk.assignment.revoked());
        self.pause_partitions(client);
    }

    /// Pauses the partitions of paused queues, and those that are not placed, that are not paused yet.
    pub(super) fn pause_partitions(&self, client: &Client) {
        let new: Vec<_> = self
            .shared
            .assignments
            .all()
            .into_iter()
            .filter(|a| self.queues[a.worker].paused || a.is_unplaced())
            .filter(|a| !a.paused.swap(true, Ordering::Relaxed))
            .collect();
        if !new.is_empty()
            && let Err(error) = client.pause(&list(&new))
        {
            tracing::warn!(%error, "cannot pause partitions");
        }
    }

    /// Resumes the queues that have room again and no chunk waiting.
    pub(super) fn resume(&mut self, client: &Client) {
        for worker in 0..self.queues.len() {
            let waits = |chunk: &Filling| chunk.assignment.worker == worker;
            let queue = &mut self.queues[worker];
            if !queue.paused || self.chunks.iter().any(waits) || !queue.room.half_free() {
                continue;
            }
            queue.paused = false;
            self.resume_placed(client, worker);
        }
    }

    /// Resumes the paused partitions of a queue that is not paused, but for those not placed.
    pub(super) fn resume_placed(&self, client: &Client, worker: usize) {
        if self.queues[worker].paused {
            return;
        }
        let paused: Vec<_> = self
            .shared
            .assignments
            .all()
            .into_iter()
            .filter(|a| a.worker == worker && !a.is_unplaced())
            .filter(|a| a.paused.swap(false, Ordering::Relaxed))
            .collect();
        if !paused.is_empty()
            && let Err(error) = client.resume(&list(&paused))
        {
            tracing::warn!(%error, worker, "cannot resume partitions");
        }
    }

    /// Ends the queues: the workers get what was sent, and nothing more.
    pub(super) fn end(&mut self, client: &Client) {
        self.chunks.clear();
        for queue in &mut self.queues {
            queue.chunks = None;
            queue.paused = true;
        }
        self.pause_partitions(client);
    }

    /// Whether the workers are done with everything that was sent.
    pub(super) fn is_drained(&self) -> bool {
        self.queues.iter().all(|queue| queue.room.used() == 0)
    }

    /// Forgets what belongs to a client that is gone; its records are read again.
    pub(super) fn reset(&mut self) {
        self.chunks.clear();
        self.queues
            .iter_mut()
            .for_each(|queue| queue.paused = false);
    }
}

/// The partitions of these assignments.
pub(super) fn list(assignments: &[Arc<Assignment>]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(assignments.len());
    for assignment in assignments {
        list.add_partition(&assignment.topic, assignment.partition);
    }
    list
}
