//! Consuming: the handle to a group member whose thread feeds the lanes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use tokio::sync::watch;

use super::KafkaConfig;
use super::poll::PollThread;
use super::rebalance::{Assignments, Context};
use crate::lane::{Lane, Poller, Room, lanes};
use crate::{BoxFuture, PartitionLag, Source};

/// How long Kafka may take to tell a partition's watermarks.
const WATERMARKS: Duration = Duration::from_secs(5);

/// A member of a consumer group.
pub struct Consumer;

/// Why a consumer was not started or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    /// librdkafka refused the settings, or Kafka the question.
    #[error("kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// The operating system refused the thread.
    #[error("cannot start the consumer's thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The consumer is shut down, or being made anew.
    #[error("the consumer is closed")]
    Closed,
}

impl Consumer {
    /// Joins the group `config.group_id` for `topics` (full names) on a thread of its own and deals
    /// the assigned partitions to `lanes` lanes. The buffered records take at most about
    /// `buffer_bytes`, divided evenly among the lanes; librdkafka's prefetch of 8 MiB comes on top.
    ///
    /// Does not wait for Kafka. Nothing is committed but what [`Handle::mark_done`] was told.
    ///
    /// # Errors
    /// When librdkafka refuses the settings or the thread cannot start. Whatever goes wrong later
    /// is retried with backoff and shown by [`Handle::problem`].
    pub fn start(
        config: &KafkaConfig,
        topics: &[Arc<str>],
        lane_count: usize,
        buffer_bytes: usize,
    ) -> Result<(Handle, Vec<Lane>), ConsumerError> {
        config.consumer().create_native_config()?;
        let poller = Arc::new(Poller::default());
        let (senders, lanes) = lanes(lane_count, buffer_bytes, &poller);
        let (closed, closing) = watch::channel(false);
        let shared = Arc::new(Shared {
            assignments: Arc::new(Assignments::new(lane_count)),
            poller,
            rooms: senders.iter().map(|lane| Arc::clone(&lane.room)).collect(),
            client: Mutex::new(None),
            problem: Mutex::new(None),
            pauses: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            grace: Mutex::new(Duration::ZERO),
        });
        let thread = PollThread::new(
            config.clone(),
            topics.to_vec(),
            Arc::clone(&shared),
            senders,
            buffer_bytes,
        );
        let ended = Ended {
            shared: Arc::clone(&shared),
            closed,
        };
        std::thread::Builder::new()
            .name("kafka-consumer".to_owned())
            .spawn(move || {
                let _ended = ended;
                thread.run();
            })?;
        Ok((
            Handle {
                owner: Arc::new(Owner { shared, closing }),
            },
            lanes,
        ))
    }
}

/// Tells that the thread is gone, however it went.
struct Ended {
    shared: Arc<Shared>,
    closed: watch::Sender<bool>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        if !self.shared.stopping() {
            self.shared
                .set_problem(Some("the consumer's thread ended".to_owned()));
        }
        self.closed.send_replace(true);
    }
}

/// What the thread and the handles share.
pub(super) struct Shared {
    pub(super) assignments: Arc<Assignments>,
    pub(super) poller: Arc<Poller>,
    rooms: Vec<Arc<Room>>,
    client: Mutex<Option<Arc<BaseConsumer<Context>>>>,
    problem: Mutex<Option<String>>,
    pub(super) pauses: AtomicU64,
    stop: AtomicBool,
    grace: Mutex<Duration>,
}

impl Shared {
    pub(super) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(super) fn grace(&self) -> Duration {
        *self.grace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self, grace: Duration) {
        *self.grace.lock().unwrap_or_else(PoisonError::into_inner) = grace;
        self.stop.store(true, Ordering::Release);
        self.poller.wake();
    }

    pub(super) fn set_client(&self, client: Option<Arc<BaseConsumer<Context>>>) {
        let old = std::mem::replace(
            &mut *self.client.lock().unwrap_or_else(PoisonError::into_inner),
            client,
        );
        // Closing a consumer takes its time: outside the lock.
        drop(old);
    }

    pub(super) fn set_problem(&self, problem: Option<String>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }
}

/// Steers a consumer. Clones steer the same one; dropping the last closes it without waiting for
/// the lanes.
#[derive(Clone)]
pub struct Handle {
    owner: Arc<Owner>,
}

struct Owner {
    shared: Arc<Shared>,
    closing: watch::Receiver<bool>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        if !self.shared.stopping() {
            self.shared.stop(Duration::ZERO);
        }
    }
}

impl Handle {
    fn shared(&self) -> &Shared {
        &self.owner.shared
    }

    /// Everything below `next_offset` is done. Committed to Kafka when [`KafkaConfig::commit`] says, and at
    /// once when the partition is taken away or the consumer shut down; a hint, so it may get lost.
    /// Lower offsets than before and partitions that are not assigned are ignored.
    pub fn mark_done(&self, topic: &str, partition: i32, next_offset: i64) {
        self.shared()
            .assignments
            .mark_done(topic, partition, next_offset);
    }

    /// How far behind each assigned partition is, by topic and partition; about a second old.
    pub fn lag(&self) -> Vec<PartitionLag> {
        self.shared().assignments.lag()
    }

    /// Topic and partition of everything assigned now.
    pub fn assigned(&self) -> Vec<(Arc<str>, i32)> {
        let mut assigned: Vec<_> = self
            .shared()
            .assignments
            .all()
            .iter()
            .map(|assignment| (Arc::clone(&assignment.topic), assignment.partition))
            .collect();
        assigned.sort();
        assigned
    }

    /// The lane a partition is dealt to, if it is assigned.
    pub fn lane(&self, topic: &str, partition: i32) -> Option<usize> {
        self.shared()
            .assignments
            .find(topic, partition)
            .map(|assignment| assignment.lane)
    }

    /// Whether a broker is reachable, as far as the client knows.
    pub fn connected(&self) -> bool {
        self.shared().assignments.connected.load(Ordering::Relaxed)
    }

    /// False while there is a [`Self::problem`]. An unreachable Kafka is none: see
    /// [`Self::connected`].
    pub fn healthy(&self) -> bool {
        self.problem().is_none()
    }

    /// What keeps the consumer from working although it tries: a fatal client error, a lane nobody
    /// reads, a dead thread.
    pub fn problem(&self) -> Option<String> {
        self.shared()
            .problem
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Bytes handed to the lanes whose permits still exist.
    pub fn buffered_bytes(&self) -> usize {
        self.shared().rooms.iter().map(|room| room.used()).sum()
    }

    /// How often a lane stayed full so long that its partitions were paused.
    pub fn pauses(&self) -> u64 {
        self.shared().pauses.load(Ordering::Relaxed)
    }

    /// First offset still there and offset of the next record, asked of Kafka now (up to 5 s).
    /// A stored offset above the second means that the topic was made anew.
    ///
    /// # Errors
    /// [`ConsumerError::Kafka`] when Kafka does not answer or know the partition,
    /// [`ConsumerError::Closed`] when the consumer is closed.
    pub async fn watermarks(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<(i64, i64), ConsumerError> {
        let client = self
            .shared()
            .client
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let client = client.ok_or(ConsumerError::Closed)?;
        let topic = topic.to_owned();
        let ask = move || client.fetch_watermarks(&topic, partition, WATERMARKS);
        let answer = tokio::task::spawn_blocking(ask)
            .await
            .map_err(|_| ConsumerError::Closed)?;
        Ok(answer?)
    }

    /// Stops taking records, lets the lanes run empty (each then returns `None`), waits up to
    /// `grace` for every chunk to be dropped, commits and leaves the group. Drop a chunk only after
    /// [`Self::mark_done`]. Returns when the consumer is closed.
    pub async fn shutdown(&self, grace: Duration) {
        self.shared().stop(grace);
        let mut closing = self.owner.closing.clone();
        // An error means that the sender is gone, and with it the thread.
        let _ = closing.wait_for(|closed| *closed).await;
    }
}

impl Source for Handle {
    fn mark_done(&self, topic: &str, partition: i32, next_offset: i64) {
        Handle::mark_done(self, topic, partition, next_offset);
    }

    fn lag(&self) -> Vec<PartitionLag> {
        Handle::lag(self)
    }

    fn assigned(&self) -> Vec<(Arc<str>, i32)> {
        Handle::assigned(self)
    }

    fn connected(&self) -> bool {
        Handle::connected(self)
    }

    fn problem(&self) -> Option<String> {
        Handle::problem(self)
    }

    fn buffered_bytes(&self) -> usize {
        Handle::buffered_bytes(self)
    }

    fn pauses(&self) -> u64 {
        Handle::pauses(self)
    }

    fn shutdown(&self, grace: Duration) -> BoxFuture<'_, ()> {
        Box::pin(Handle::shutdown(self, grace))
    }
}
