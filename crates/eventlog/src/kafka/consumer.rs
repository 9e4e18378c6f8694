//! Consuming: a member of a consumer group, and the handle to it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use tokio::sync::watch;

use super::config::KafkaConfig;
use super::dispatch::Dispatcher;
use super::error::ConsumerError;
use super::memory::share_one_arena;
use super::poll::PollThread;
use super::shared::Shared;
use crate::worker_queue::{WorkerQueue, worker_queues};
use crate::{BoxFuture, PartitionLag, Source};

/// How long Kafka may take to answer with a partition's watermarks.
const WATERMARKS_TIMEOUT: Duration = Duration::from_secs(5);

/// A member of a consumer group.
pub struct Consumer;

impl Consumer {
    /// Joins the group `config.group_id` for `topics` (full names) on a thread of its own and deals
    /// the assigned partitions to the queues of `workers` workers. The buffered records take at most
    /// about `buffer_bytes`, divided evenly among the queues; librdkafka's prefetch of 4 MiB comes on
    /// top.
    ///
    /// Does not wait for Kafka. Commits only what was given to [`Source::mark_done`].
    ///
    /// # Errors
    /// When librdkafka refuses the settings or the thread cannot start. Whatever goes wrong later
    /// is retried with backoff and shown by [`Source::problem`].
    pub fn start(
        config: &KafkaConfig,
        topics: &[Arc<str>],
        workers: usize,
        buffer_bytes: usize,
    ) -> Result<(Handle, Vec<WorkerQueue>), ConsumerError> {
        config.consumer().create_native_config()?;
        share_one_arena();
        let (senders, queues) = worker_queues(workers, buffer_bytes, None);
        let rooms = senders
            .iter()
            .map(|queue| Arc::clone(&queue.room))
            .collect();
        let shared = Shared::new(workers, rooms);
        let dispatcher = Dispatcher::new(Arc::clone(&shared), senders, buffer_bytes);
        let (config, topics) = (config.clone(), topics.to_vec());
        let thread = PollThread::new(config, topics, Arc::clone(&shared), dispatcher);
        let (closed, closing) = watch::channel(false);
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
        let owner = Arc::new(Owner { shared, closing });
        Ok((Handle { owner }, queues))
    }
}

/// Dropped when the thread ends, even by a panic: closes what it left open, and lets a shutdown
/// return.
struct Ended {
    shared: Arc<Shared>,
    closed: watch::Sender<bool>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        if !self.shared.stopping() {
            let problem = "the consumer's thread ended".to_owned();
            self.shared.close(Some(problem));
        }
        self.closed.send_replace(true);
    }
}

/// Steers a consumer. Clones steer the same one; dropping the last closes it without waiting for
/// the workers.
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
    pub(super) fn shared(&self) -> &Shared {
        &self.owner.shared
    }

    /// The worker that gets the records of a partition, if it is assigned.
    pub fn worker(&self, topic: &str, partition: i32) -> Option<usize> {
        let assignment = self.shared().assignments.find(topic, partition)?;
        Some(assignment.worker)
    }

    /// First offset still there and offset of the next record, asked of Kafka now (up to 5 s).
    ///
    /// # Errors
    /// [`ConsumerError::Kafka`] when Kafka does not answer or know the partition,
    /// [`ConsumerError::Closed`] when the consumer is closed.
    pub async fn watermarks(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<(i64, i64), ConsumerError> {
        let client = self.shared().client().ok_or(ConsumerError::Closed)?;
        let topic = topic.to_owned();
        let ask = move || client.fetch_watermarks(&topic, partition, WATERMARKS_TIMEOUT);
        let answer = tokio::task::spawn_blocking(ask)
            .await
            .map_err(|_| ConsumerError::Closed)?;
        Ok(answer?)
    }
}

impl Source for Handle {
    /// Committed to Kafka when [`KafkaConfig::commit`] says, and at once when the partition is taken
    /// away or the consumer shut down.
    fn mark_done(&self, topic: &str, partition: i32, next_offset: i64) {
        self.shared()
            .assignments
            .mark_done(topic, partition, next_offset);
    }

    fn lag(&self) -> Vec<PartitionLag> {
        self.shared().assignments.lag()
    }

    fn assigned(&self) -> Vec<(Arc<str>, i32)> {
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

    fn connected(&self) -> bool {
        self.shared().assignments.connected.load(Ordering::Relaxed)
    }

    /// A fatal client error, a queue without a worker, or a dead thread.
    fn problem(&self) -> Option<String> {
        self.shared().problem()
    }

    fn buffered_bytes(&self) -> usize {
        self.shared().rooms.iter().map(|room| room.used()).sum()
    }

    fn pauses(&self) -> u64 {
        self.shared().pauses.load(Ordering::Relaxed)
    }

    /// Also commits and leaves the group; returns when the consumer is closed. Drop a chunk only
    /// after [`Self::mark_done`].
    fn shutdown(&self, grace: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.shared().stop(grace);
            let mut closing = self.owner.closing.clone();
            // An error means that the sender is gone, and with it the thread.
            let _ = closing.wait_for(|closed| *closed).await;
        })
    }

    /// Reads nothing until [`Self::place`] says from where, for what is stored may have a gap.
    fn seek(&self, topic: &str, partition: i32, _offset: i64) {
        self.shared().assignments.begin(topic, partition, None);
    }
}
