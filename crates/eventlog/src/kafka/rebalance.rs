//! Partitions won and lost: which lane each goes to, how far it is done, and librdkafka's callbacks.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{ClientContext, Offset, Statistics, TopicPartitionList};

use super::{any_broker_up, forward_log};
use crate::source::PartitionLag;

/// No offset known yet.
const UNKNOWN: i64 = -1;

/// One partition while it is ours. Losing it ends the assignment; winning it back makes a new one.
#[derive(Debug)]
pub(super) struct Assignment {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) lane: usize,
    pub(super) paused: AtomicBool,
    revoked: Arc<AtomicBool>,
    /// Next offset after what the writers stored.
    done: AtomicI64,
    /// Next offset as last sent to Kafka.
    committed: AtomicI64,
    /// First offset handed to a lane: what is done is counted from there.
    first: AtomicI64,
    /// From the statistics: the log's end, and where the group stood.
    high: AtomicI64,
    position: AtomicI64,
}

impl Assignment {
    fn new(topic: Arc<str>, partition: i32, lane: usize) -> Self {
        Self {
            topic,
            partition,
            lane,
            paused: AtomicBool::new(false),
            revoked: Arc::default(),
            done: AtomicI64::new(UNKNOWN),
            committed: AtomicI64::new(UNKNOWN),
            first: AtomicI64::new(UNKNOWN),
            high: AtomicI64::new(UNKNOWN),
            position: AtomicI64::new(UNKNOWN),
        }
    }

    pub(super) fn revoked(&self) -> bool {
        self.revoked.load(Ordering::Relaxed)
    }

    /// A chunk that begins so goes to its lane.
    pub(super) fn begins(&self, offset: i64) {
        if self.first.load(Ordering::Relaxed) == UNKNOWN {
            self.first.store(offset, Ordering::Relaxed);
        }
    }

    /// What a chunk of its records is made with.
    pub(super) fn of_chunk(&self) -> ((Arc<str>, i32), Arc<AtomicBool>) {
        let partition = (Arc::clone(&self.topic), self.partition);
        (partition, Arc::clone(&self.revoked))
    }

    pub(super) fn is(&self, topic: &str, partition: i32) -> bool {
        self.partition == partition && &*self.topic == topic
    }
}

/// The partitions assigned now, shared by the polling thread and the handles.
#[derive(Debug)]
pub(super) struct Assignments {
    lanes: usize,
    table: Mutex<Table>,
    /// Rises with every rebalance.
    pub(super) generation: AtomicU64,
    pub(super) connected: AtomicBool,
    /// Records done since the last commit.
    done: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    current: HashMap<Arc<str>, HashMap<i32, Arc<Assignment>>>,
    /// The lane a partition had last, so that it returns to it while the lanes stay even.
    lanes: HashMap<(Arc<str>, i32), usize>,
}

impl Assignments {
    pub(super) fn new(lanes: usize) -> Self {
        Self {
            lanes: lanes.max(1),
            table: Mutex::default(),
            generation: AtomicU64::new(0),
            connected: AtomicBool::new(false),
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

    fn assign(&self, topic: &str, partition: i32) {
        let mut table = self.table();
        let topic = match table.current.get_key_value(topic) {
            Some((topic, _)) => Arc::clone(topic),
            None => Arc::from(topic),
        };
        let lane = self.choose_lane(&table, &topic, partition);
        table.lanes.insert((Arc::clone(&topic), partition), lane);
        let assignment = Arc::new(Assignment::new(Arc::clone(&topic), partition, lane));
        table
            .current
            .entry(topic)
            .or_default()
            .insert(partition, assignment);
    }

    /// The lane with the fewest partitions of this topic, then the fewest at all; the lane the
    /// partition had before if that is no worse by more than one.
    fn choose_lane(&self, table: &Table, topic: &Arc<str>, partition: i32) -> usize {
        let mut load = vec![(0, 0); self.lanes];
        for (name, partitions) in &table.current {
            for assignment in partitions.values() {
                load[assignment.lane].1 += 1;
                if name == topic {
                    load[assignment.lane].0 += 1;
                }
            }
        }
        let (best, least) = load
            .iter()
            .enumerate()
            .min_by_key(|(_, load)| **load)
            .unwrap_or((0, &(0, 0)));
        match table.lanes.get(&(Arc::clone(topic), partition)) {
            Some(&before) if load[before].0 <= least.0 + 1 && load[before].1 <= least.1 + 1 => {
                before
            }
            _ => best,
        }
    }

    fn revoke(&self, topic: &str, partition: i32) {
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

    /// Commits what was marked done since the last time.
    pub(super) fn commit<C>(&self, consumer: &BaseConsumer<C>, mode: CommitMode)
    where
        C: ConsumerContext,
    {
        self.done.store(0, Ordering::Relaxed);
        self.commit_of(consumer, &self.all(), mode);
    }

    fn commit_of<C>(&self, consumer: &BaseConsumer<C>, of: &[Arc<Assignment>], mode: CommitMode)
    where
        C: ConsumerContext,
    {
        // Without a broker a synchronous commit would wait for the session to time out, and the
        // hint is worth less than the time.
        if !self.connected.load(Ordering::Relaxed) {
            return;
        }
        if matches!(mode, CommitMode::Sync) {
            // What became of asynchronous commits rdkafka does not say, so the last one says all
            // of it again.
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

    /// Forgets which offsets were sent, so that the next commit takes them again.
    fn forget(&self, assignments: &[Arc<Assignment>]) {
        for assignment in assignments {
            assignment.committed.store(UNKNOWN, Ordering::Relaxed);
        }
    }

    fn observe(&self, statistics: &Statistics) {
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
            assignment.position.store(position, Ordering::Relaxed);
        }
    }

    /// The log's ends of some partitions, asked for.
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

/// librdkafka's callbacks; all run on the polling thread, inside its poll.
pub(super) struct Context {
    pub(super) assignments: Arc<Assignments>,
}

impl Context {
    fn set_connected(&self, connected: bool) {
        if self
            .assignments
            .connected
            .swap(connected, Ordering::Relaxed)
            != connected
        {
            tracing::info!(connected, "kafka consumer connection");
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        forward_log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.set_connected(any_broker_up(&statistics));
        self.assignments.observe(&statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.set_connected(false);
        }
        tracing::debug!(%error, reason, "kafka consumer");
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => {
                self.set_connected(true);
                let partitions = partitions.elements();
                tracing::info!(partitions = %Shown(&partitions), "kafka partitions assigned");
                for partition in &partitions {
                    self.assignments
                        .assign(partition.topic(), partition.partition());
                }
            }
            Rebalance::Revoke(partitions) => {
                let lost = consumer.assignment_lost();
                let partitions = partitions.elements();
                tracing::info!(partitions = %Shown(&partitions), lost, "kafka partitions revoked");
                if !lost {
                    let ours: Vec<_> = partitions
                        .iter()
                        .filter_map(|p| self.assignments.find(p.topic(), p.partition()))
                        .collect();
                    self.assignments
                        .commit_of(consumer, &ours, CommitMode::Sync);
                }
                for partition in &partitions {
                    self.assignments
                        .revoke(partition.topic(), partition.partition());
                }
            }
            Rebalance::Error(error) => tracing::warn!(%error, "kafka rebalance"),
        }
        self.assignments.generation.fetch_add(1, Ordering::Relaxed);
    }
}

/// `topic/partition` of each, for the log.
struct Shown<'a>(&'a [TopicPartitionListElem<'a>]);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, element) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { " " };
            write!(f, "{separator}{}/{}", element.topic(), element.partition())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
