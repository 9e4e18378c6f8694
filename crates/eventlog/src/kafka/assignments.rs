//! The partitions assigned to this consumer: the worker each belongs to, and how far it is done.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::{Offset, Statistics, TopicPartitionList};
use tokio::sync::Notify;

use super::assignment::{Assignment, Start, UNKNOWN};
use crate::source::PartitionLag;

/// The partitions assigned now, shared by the polling thread and the handles.
#[derive(Debug)]
pub(super) struct Assignments {
    workers: usize,
    table: Mutex<Table>,
    /// Rises with every rebalance.
    pub(super) generation: AtomicU64,
    pub(super) connected: AtomicBool,
    /// Notified when there are partitions to place.
    pub(super) assigned: Notify,
    /// Records done since the last commit.
    done: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    current: HashMap<Arc<str>, HashMap<i32, Arc<Assignment>>>,
    /// The worker a partition had last: it returns to it while the load stays even.
    workers: HashMap<(Arc<str>, i32), usize>,
    /// Partitions to be read from an offset.
    read_from: Vec<ReadFrom>,
}

/// Topic, partition, and the offset to read from.
pub(super) type ReadFrom = (Arc<str>, i32, i64);

impl Assignments {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            workers: workers.max(1),
            table: Mutex::default(),
            generation: AtomicU64::new(0),
            connected: AtomicBool::new(false),
            assigned: Notify::new(),
            done: AtomicU64::new(0),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn find(&self, topic: &str, partition: i32) -> Option<Arc<Assignment>> {
        self.table().current.get(topic)?.get(&partition).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Assignment>> {
        self.table()
            .current
            .values()
            .flat_map(HashMap::values)
            .cloned()
            .collect()
    }

    pub(super) fn mark_done(&self, topic: &str, partition: i32, next_offset: i64) {
        // A partition taken away meanwhile has no entry: its new owner commits it.
        if let Some(assignment) = self.find(topic, partition) {
            // Nor is anything done that was read before the partition was placed, and comes late.
            let sent = assignment.sent.load(Ordering::Relaxed);
            if assignment.is_unplaced || assignment.placed_at != UNKNOWN && next_offset > sent {
                return;
            }
            let before = assignment.done.fetch_max(next_offset, Ordering::Relaxed);
            let from = before.max(assignment.first.load(Ordering::Relaxed));
            let records = u64::try_from(next_offset - from).unwrap_or(0);
            self.done.fetch_add(records, Ordering::Relaxed);
        }
    }

    /// How many records were done since the last commit.
    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    pub(super) fn lag(&self) -> Vec<PartitionLag> {
        let known = |value: i64| (value >= 0).then_some(value);
        let mut lag: Vec<_> = self
            .all()
            .iter()
            .map(|assignment| {
                let done = known(assignment.done.load(Ordering::Relaxed));
                let high = known(assignment.high.load(Ordering::Relaxed));
                let from = done.or(known(assignment.position.load(Ordering::Relaxed)));
                PartitionLag {
                    topic: Arc::clone(&assignment.topic),
                    partition: assignment.partition,
                    lag: high.map(|high| (high - from.unwrap_or(0)).max(0)),
                    done,
                    high,
                }
            })
            .collect();
        lag.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        lag
    }

    /// The partition is assigned, to be read from where the group stands, or not yet.
    pub(super) fn assign(&self, topic: &str, partition: i32, committed: bool) {
        let mut table = self.table();
        let topic = match table.current.get_key_value(topic) {
            Some((topic, _)) => Arc::clone(topic),
            None => Arc::from(topic),
        };
        let worker = self.choose_worker(&table, &topic, partition);
        let key = (Arc::clone(&topic), partition);
        table.workers.insert(key, worker);
        let start = if committed {
            Start::Committed
        } else {
            Start::Unplaced
        };
        let assignment = Assignment::new(Arc::clone(&topic), partition, worker, start);
        table
            .current
            .entry(topic)
            .or_default()
            .insert(partition, Arc::new(assignment));
        drop(table);
        self.assigned.notify_one();
    }

    /// Assigned partitions that are not placed, in order.
    pub(super) fn unplaced(&self) -> Vec<(Arc<str>, i32)> {
        let mut unplaced = self.all();
        unplaced.retain(|assignment| assignment.is_unplaced);
        let partition = |a: &Arc<Assignment>| (Arc::clone(&a.topic), a.partition);
        let mut unplaced: Vec<_> = unplaced.iter().map(partition).collect();
        unplaced.sort();
        unplaced
    }

    /// Has a partition read from an offset, as soon as the polling thread comes to it. The last offset
    /// counts.
    pub(super) fn place(&self, place: ReadFrom) {
        let mut table = self.table();
        let same = |other: &ReadFrom| other.0 == place.0 && other.1 == place.1;
        table.read_from.retain(|other| !same(other));
        table.read_from.push(place);
    }

    /// What is to be read from an offset.
    pub(super) fn take_read_from(&self) -> Vec<ReadFrom> {
        std::mem::take(&mut self.table().read_from)
    }

    /// The partition is read from that offset from now on, or, without one, not at all; what was handed
    /// out of it is void. `None` if it is not assigned.
    pub(super) fn begin(
        &self,
        topic: &str,
        partition: i32,
        offset: Option<i64>,
    ) -> Option<Arc<Assignment>> {
        let mut table = self.table();
        let assignment = table.current.get_mut(topic)?.get_mut(&partition)?;
        let start = offset.map_or(Start::Unplaced, Start::At);
        let new = Assignment::new(
            Arc::clone(&assignment.topic),
            partition,
            assignment.worker,
            start,
        );
        new.paused
            .store(assignment.paused.load(Ordering::Relaxed), Ordering::Relaxed);
        new.high
            .store(assignment.high.load(Ordering::Relaxed), Ordering::Relaxed);
        assignment.revoked.store(true, Ordering::Relaxed);
        *assignment = Arc::new(new);
        let new = Arc::clone(assignment);
        drop(table);
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.assigned.notify_one();
        Some(new)
    }

    /// The worker with the fewest partitions of this topic, then the fewest at all; the one the
    /// partition had before if that is no worse by more than one.
    fn choose_worker(&self, table: &Table, topic: &Arc<str>, partition: i32) -> usize {
        let mut load = vec![(0, 0); self.workers];
        for (name, partitions) in &table.current {
            for assignment in partitions.values() {
                load[assignment.worker].1 += 1;
                if name == topic {
                    load[assignment.worker].0 += 1;
                }
            }
        }
        let (best, least) = load
            .iter()
            .enumerate()
            .min_by_key(|(_, load)| **load)
            .unwrap_or((0, &(0, 0)));
        match table.workers.get(&(Arc::clone(topic), partition)) {
            Some(&before) if load[before].0 <= least.0 + 1 && load[before].1 <= least.1 + 1 => {
                before
            }
            _ => best,
        }
    }

    pub(super) fn revoke(&self, topic: &str, partition: i32) {
        let mut table = self.table();
        let Some(partitions) = table.current.get_mut(topic) else {
            return;
        };
        if let Some(assignment) = partitions.remove(&partition) {
            assignment.revoked.store(true, Ordering::Relaxed);
        }
        if partitions.is_empty() {
            table.current.remove(topic);
        }
    }

    pub(super) fn revoke_all(&self) {
        for assignment in self.all() {
            self.revoke(&assignment.topic, assignment.partition);
        }
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// The offsets done and not yet committed, taken as committed from here on; `None` if none.
    fn uncommitted(&self, assignments: &[Arc<Assignment>]) -> Option<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for assignment in assignments {
            let done = assignment.done.load(Ordering::Relaxed);
            if done >= 0 && assignment.committed.swap(done, Ordering::Relaxed) != done {
                let added = list.add_partition_offset(
                    &assignment.topic,
                    assignment.partition,
                    Offset::Offset(done),
                );
                if let Err(error) = added {
                    tracing::warn!(%error, done, "offset not committed");
                }
            }
        }
        (list.count() > 0).then_some(list)
    }

    /// Commits what was marked done since the last commit.
    pub(super) fn commit<C>(&self, consumer: &BaseConsumer<C>, mode: CommitMode)
    where
        C: ConsumerContext,
    {
        self.done.store(0, Ordering::Relaxed);
        self.commit_of(consumer, &self.all(), mode);
    }

    pub(super) fn commit_of<C>(
        &self,
        consumer: &BaseConsumer<C>,
        of: &[Arc<Assignment>],
        mode: CommitMode,
    ) where
        C: ConsumerContext,
    {
        // Without a broker a synchronous commit would wait for the session to time out, and the
        // hint is worth less than the time.
        if !self.connected.load(Ordering::Relaxed) {
            return;
        }
        if matches!(mode, CommitMode::Sync) {
            // rdkafka does not report how asynchronous commits end, so the last one repeats them.
            self.forget(of);
        }
        let Some(list) = self.uncommitted(of) else {
            return;
        };
        if let Err(error) = consumer.commit(&list, mode) {
            tracing::debug!(%error, ?mode, "offsets not committed");
            self.forget(of);
        }
    }

    /// Forgets which offsets were sent, so that the next commit repeats them.
    fn forget(&self, assignments: &[Arc<Assignment>]) {
        for assignment in assignments {
            assignment.committed.store(UNKNOWN, Ordering::Relaxed);
        }
    }

    pub(super) fn observe(&self, statistics: &Statistics) {
        for assignment in self.all() {
            let partition = statistics
                .topics
                .get(&*assignment.topic)
                .and_then(|topic| topic.partitions.get(&assignment.partition));
            let Some(partition) = partition else { continue };
            if partition.hi_offset >= 0 {
                assignment
                    .high
                    .store(partition.hi_offset, Ordering::Relaxed);
            }
            let position = if partition.committed_offset >= 0 {
                partition.committed_offset
            } else {
                partition.lo_offset
            };
            if assignment.placed_at == UNKNOWN {
                assignment.position.store(position, Ordering::Relaxed);
            }
        }
    }

    /// Takes the ends of some partitions as Kafka answered them.
    pub(super) fn observe_ends(&self, ends: &TopicPartitionList) {
        for end in ends.elements() {
            if let (Ok(()), Offset::Offset(high)) = (end.error(), end.offset())
                && let Some(assignment) = self.find(end.topic(), end.partition())
            {
                assignment.high.store(high, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests;
