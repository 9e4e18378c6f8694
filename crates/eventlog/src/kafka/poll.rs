//! The polling thread: takes records from librdkafka, hands them to the lanes, pauses what does not
//! get through, commits what is done.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::consumer::Shared;
use super::message::record;
use super::rebalance::{Assignment, Context};
use super::{Commit, KafkaConfig};
use crate::Record;
use crate::lane::{Chunk, LaneSender, Permit};

/// How long to wait for a record when there is nothing else to do.
const IDLE: Duration = Duration::from_millis(100);
/// The same while a lane is paused and its room has to be watched.
const WATCH: Duration = Duration::from_millis(20);
/// A lane that stays full for this long is paused. Below it the thread just waits: pausing throws
/// away what librdkafka fetched ahead.
const PATIENCE: Duration = Duration::from_millis(500);
/// The chunks in hand go to their lanes when one is this long or this large, or when nothing more
/// is there.
const CHUNK_RECORDS: usize = 256;
const CHUNK_BYTES: usize = 512 * 1024;
/// Commits are no closer together, however many records are done.
const COMMIT_PAUSE: Duration = Duration::from_millis(20);
/// How often the ends of paused partitions are asked for, and how long the answer may take.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(500);
/// Pauses between attempts to make a consumer that works.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_LAST: Duration = Duration::from_secs(30);
/// The same complaint is logged no more often than this.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

type Client = BaseConsumer<Context>;

/// Records of one partition on their way to its lane.
struct Pending {
    assignment: Arc<Assignment>,
    records: Vec<Record>,
    bytes: usize,
}

/// Why a consumer was given up.
enum End {
    /// Shut down; everything is committed.
    Stopped,
    /// This consumer cannot go on; another one may.
    Broken(String),
}

pub(super) struct PollThread {
    config: KafkaConfig,
    topics: Vec<Arc<str>>,
    shared: Arc<Shared>,
    lanes: Vec<LaneSender>,
    pending: Vec<Pending>,
    chunk_bytes: usize,
    generation: u64,
    last_commit: Instant,
    last_look: Instant,
    last_complaint: Option<Instant>,
}

impl PollThread {
    pub(super) fn new(
        config: KafkaConfig,
        topics: Vec<Arc<str>>,
        shared: Arc<Shared>,
        lanes: Vec<LaneSender>,
        buffer_bytes: usize,
    ) -> Self {
        // A lane should hold a few chunks, or it would alternate between one and none.
        let chunk_bytes = CHUNK_BYTES
            .min(buffer_bytes / lanes.len().max(1) / 4)
            .max(1);
        Self {
            config,
            topics,
            shared,
            lanes,
            pending: Vec::new(),
            chunk_bytes,
            generation: 0,
            last_commit: Instant::now(),
            last_look: Instant::now(),
            last_complaint: None,
        }
    }

    /// Until shut down: makes a consumer, polls it, and makes another one if it breaks.
    pub(super) fn run(mut self) {
        let _ = self.shared.poller.thread.set(std::thread::current());
        let mut backoff = BACKOFF_FIRST;
        while !self.shared.stopping() {
            let started = Instant::now();
            // A panic must not end the thread in silence; the records in hand are read again.
            let end = catch_unwind(AssertUnwindSafe(|| self.consume()))
                .unwrap_or_else(|panic| End::Broken(format!("panicked: {}", text(&*panic))));
            self.pending.clear();
            self.lanes.iter_mut().for_each(|lane| lane.paused = false);
            self.shared.assignments.revoke_all();
            self.shared
                .assignments
                .connected
                .store(false, Ordering::Relaxed);
            let problem = match end {
                End::Stopped => None,
                End::Broken(problem) => Some(problem),
            };
            // Said before the client is closed, which is librdkafka's to finish.
            self.shared.set_problem(problem.clone());
            self.shared.set_client(None);
            let Some(problem) = problem else { break };
            tracing::error!(problem, ?backoff, "kafka consumer broke, it is made anew");
            if started.elapsed() > BACKOFF_LAST {
                backoff = BACKOFF_FIRST;
            }
            self.sleep(backoff);
            backoff = (backoff * 2).min(BACKOFF_LAST);
        }
        tracing::info!("kafka consumer closed");
    }

    fn sleep(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.shared.stopping() && Instant::now() < until {
            std::thread::sleep(IDLE.min(time));
        }
    }

    fn consume(&mut self) -> End {
        let context = Context {
            assignments: Arc::clone(&self.shared.assignments),
        };
        let client: Client = match self.config.consumer().create_with_context(context) {
            Ok(client) => client,
            Err(error) => return End::Broken(error.to_string()),
        };
        let topics: Vec<&str> = self.topics.iter().map(|topic| &**topic).collect();
        if let Err(error) = client.subscribe(&topics) {
            return End::Broken(error.to_string());
        }
        let client = Arc::new(client);
        self.shared.set_client(Some(Arc::clone(&client)));
        self.shared.set_problem(None);
        loop {
            if self.shared.stopping() {
                self.drain(&client);
                return End::Stopped;
            }
            match client.poll(self.patience()) {
                Some(Ok(message)) => self.take(&client, &message),
                Some(Err(error)) => {
                    if let Some(problem) = self.complain(&client, &error) {
                        return End::Broken(problem);
                    }
                }
                // Nothing more is there: whatever is in hand goes out now.
                None => {
                    self.hand_over(&client);
                    self.keep_house(&client);
                }
            }
        }
    }

    /// How long the next poll may wait for a record.
    fn patience(&self) -> Duration {
        if self
            .pending
            .iter()
            .any(|pending| !self.lanes[pending.assignment.lane].paused)
        {
            Duration::ZERO
        } else if self.lanes.iter().any(|lane| lane.paused) {
            WATCH
        } else {
            IDLE
        }
    }

    fn take(&mut self, client: &Client, message: &BorrowedMessage<'_>) {
        let Some(index) = self.pending_for(message.topic(), message.partition()) else {
            return;
        };
        let pending = &mut self.pending[index];
        let record = record(message, &pending.assignment.topic);
        pending.bytes += record.memory();
        pending.records.push(record);
        if pending.records.len() >= CHUNK_RECORDS || pending.bytes >= self.chunk_bytes {
            // All of them: a quiet partition must not wait for the end of another one's backlog.
            self.hand_over(client);
            self.keep_house(client);
        }
    }

    /// The chunk being filled for a partition; the last one first, because records come in runs.
    fn pending_for(&mut self, topic: &str, partition: i32) -> Option<usize> {
        let found = self
            .pending
            .iter()
            .rposition(|pending| pending.assignment.is(topic, partition));
        if let Some(index) = found
            && !self.pending[index].assignment.revoked()
        {
            return Some(index);
        }
        if let Some(index) = found {
            self.pending.swap_remove(index);
        }
        // librdkafka hands out no records of partitions it took away.
        let assignment = self.shared.assignments.find(topic, partition)?;
        self.pending.push(Pending {
            assignment,
            records: Vec::new(),
            bytes: 0,
        });
        Some(self.pending.len() - 1)
    }

    /// Sends every chunk in hand whose lane has room.
    fn hand_over(&mut self, client: &Client) {
        for index in (0..self.pending.len()).rev() {
            self.deliver(client, index);
        }
    }

    /// Sends one chunk; a lane without room is waited for, then paused.
    fn deliver(&mut self, client: &Client, index: usize) {
        let pending = &self.pending[index];
        if pending.assignment.revoked() || pending.records.is_empty() {
            self.pending.swap_remove(index);
            return;
        }
        let (lane, bytes) = (pending.assignment.lane, pending.bytes);
        let permit = match self.lanes[lane].room.admit(bytes) {
            Some(permit) => permit,
            None if self.lanes[lane].paused => return,
            None => match self.wait_for_room(lane, bytes) {
                Some(permit) => permit,
                None => {
                    self.pause(client, lane);
                    return;
                }
            },
        };
        let Pending {
            assignment,
            records,
            ..
        } = self.pending.swap_remove(index);
        if let Some(first) = records.first() {
            assignment.begins(first.offset);
        }
        let Some(sender) = &self.lanes[lane].chunks else {
            return;
        };
        let (partition, revoked) = assignment.of_chunk();
        let chunk = Chunk::new(records, permit, partition, revoked);
        if sender.send(chunk).is_err() {
            // Its writer is gone. The records stay undone, so they are read again after a restart.
            self.shared
                .set_problem(Some(format!("nobody reads lane {lane}")));
        }
    }

    fn wait_for_room(&self, lane: usize, bytes: usize) -> Option<Permit> {
        let room = &self.lanes[lane].room;
        let until = Instant::now() + PATIENCE;
        self.shared.poller.waiting.store(true, Ordering::SeqCst);
        let permit = loop {
            if let Some(permit) = room.admit(bytes) {
                break Some(permit);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.shared.stopping() {
                break None;
            }
            std::thread::park_timeout(left);
        };
        self.shared.poller.waiting.store(false, Ordering::SeqCst);
        permit
    }

    fn pause(&mut self, client: &Client, lane: usize) {
        tracing::debug!(lane, "lane full, its partitions pause");
        self.lanes[lane].paused = true;
        self.shared.pauses.fetch_add(1, Ordering::Relaxed);
        self.pause_partitions(client);
    }

    /// Pauses the partitions of paused lanes that are not paused yet, such as new ones.
    fn pause_partitions(&self, client: &Client) {
        let of_paused: Vec<_> = self
            .shared
            .assignments
            .all()
            .into_iter()
            .filter(|a| self.lanes[a.lane].paused && !a.paused.swap(true, Ordering::Relaxed))
            .collect();
        if !of_paused.is_empty()
            && let Err(error) = client.pause(&list(&of_paused))
        {
            tracing::warn!(%error, "cannot pause partitions");
        }
    }

    /// Starts the lanes again that have room and nothing left in hand.
    fn resume(&mut self, client: &Client) {
        for lane in 0..self.lanes.len() {
            let waits = self
                .pending
                .iter()
                .any(|pending| pending.assignment.lane == lane);
            if !self.lanes[lane].paused || waits || !self.lanes[lane].room.half_empty() {
                continue;
            }
            self.lanes[lane].paused = false;
            let paused: Vec<_> = self
                .shared
                .assignments
                .all()
                .into_iter()
                .filter(|a| a.lane == lane && a.paused.swap(false, Ordering::Relaxed))
                .collect();
            if let Err(error) = client.resume(&list(&paused)) {
                tracing::warn!(%error, lane, "cannot resume partitions");
            }
        }
    }

    /// What has to happen now and then: after a rebalance, while lanes are paused, every second.
    fn keep_house(&mut self, client: &Client) {
        let generation = self.shared.assignments.generation.load(Ordering::Relaxed);
        if generation != self.generation {
            self.generation = generation;
            self.pending.retain(|pending| !pending.assignment.revoked());
            self.pause_partitions(client);
        }
        self.resume(client);
        let Commit { records, interval } = self.config.commit;
        let assignments = &self.shared.assignments;
        let enough = records.is_some_and(|records| assignments.done() >= records);
        if self.last_commit.elapsed() >= if enough { COMMIT_PAUSE } else { interval } {
            self.last_commit = Instant::now();
            assignments.commit(client, CommitMode::Async);
        }
        if self.last_look.elapsed() >= LOOK_EVERY {
            self.last_look = Instant::now();
            self.look_at_paused(client);
        }
    }

    /// librdkafka learns a partition's end by fetching from it, and a paused one is not fetched
    /// from. Just then somebody wants to know how far behind it is.
    fn look_at_paused(&self, client: &Client) {
        let assignments = &self.shared.assignments;
        if !assignments.connected.load(Ordering::Relaxed) {
            return;
        }
        let paused: Vec<_> = assignments
            .all()
            .into_iter()
            .filter(|assignment| assignment.paused.load(Ordering::Relaxed))
            .collect();
        if paused.is_empty() {
            return;
        }
        let mut ends = list(&paused);
        // Asked for as a time, the logical end gives the offset of the next record.
        let asked = ends.set_all_offsets(Offset::End);
        match asked.and_then(|()| client.offsets_for_times(ends, LOOK)) {
            Ok(ends) => assignments.observe_ends(&ends),
            Err(error) => tracing::debug!(%error, "ends of paused partitions unknown"),
        }
    }

    /// `Some` if the consumer cannot go on; everything else passes by itself and is only logged.
    fn complain(&mut self, client: &Client, error: &KafkaError) -> Option<String> {
        if let Some((_, reason)) = client.client().fatal_error() {
            return Some(reason);
        }
        if self
            .last_complaint
            .is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY)
        {
            self.last_complaint = Some(Instant::now());
            tracing::warn!(%error, "kafka consumer");
        }
        None
    }

    /// Ends the lanes, waits until the writers are through, and commits what they did. Rebalances
    /// are still served, so that the rest of the group does not wait for us.
    fn drain(&mut self, client: &Client) {
        let deadline = Instant::now() + self.shared.grace();
        self.pending.clear();
        for lane in &mut self.lanes {
            lane.chunks = None;
            lane.paused = true;
        }
        self.pause_partitions(client);
        while self.lanes.iter().any(|lane| lane.room.used() > 0) && Instant::now() < deadline {
            // What still comes out is not handed over, hence never done, hence read again.
            drop(client.poll(WATCH));
            self.pause_partitions(client);
        }
        self.shared.assignments.commit(client, CommitMode::Sync);
    }
}

fn list(assignments: &[Arc<Assignment>]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(assignments.len());
    for assignment in assignments {
        list.add_partition(&assignment.topic, assignment.partition);
    }
    list
}

fn text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
