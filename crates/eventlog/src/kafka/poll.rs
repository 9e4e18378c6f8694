//! The thread of a consumer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use rdkafka::Offset;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::config::KafkaConfig;
use super::dispatch::{Dispatcher, WATCH, list};
use super::offsets::{Commit, OffsetReset};
use super::rebalance::{Client, Context};
use super::shared::Shared;
use super::topic_ids::TopicIds;

/// Commits are no closer together, however many records are done.
const COMMIT_PAUSE: Duration = Duration::from_millis(20);
/// How often Kafka is asked for the ends of paused partitions, and how long the answer may take.
const ENDS_EVERY: Duration = Duration::from_secs(1);
const ENDS_TIMEOUT: Duration = Duration::from_millis(500);
/// The longest pause before a consumer is recreated. One that worked longer starts with short ones.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
const BACKOFF: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_secs(1))
    .with_max_delay(MAX_BACKOFF)
    .without_max_times();
/// How often a sleeping thread looks whether it has to end.
const STOP_CHECK: Duration = Duration::from_millis(100);
/// How long librdkafka may take to move to an offset; it asks nobody.
const SEEK: Duration = Duration::from_secs(1);
/// Passing errors are logged no more often than this.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Polls librdkafka, gives the records to a [`Dispatcher`], commits what is done, and recreates a
/// consumer that cannot go on.
pub(super) struct PollThread {
    config: KafkaConfig,
    topics: Vec<Arc<str>>,
    shared: Arc<Shared>,
    dispatcher: Dispatcher,
    generation: u64,
    last_commit: Instant,
    last_ends: Instant,
    last_logged: Option<Instant>,
}

impl PollThread {
    pub(super) fn new(
        config: KafkaConfig,
        topics: Vec<Arc<str>>,
        shared: Arc<Shared>,
        dispatcher: Dispatcher,
    ) -> Self {
        Self {
            config,
            topics,
            shared,
            dispatcher,
            generation: 0,
            last_commit: Instant::now(),
            last_ends: Instant::now(),
            last_logged: None,
        }
    }

    /// Consumes until the shutdown, with one client after the other if they fail.
    pub(super) fn run(mut self) {
        let mut backoff = BACKOFF.build();
        while !self.shared.stopping() {
            let started = Instant::now();
            let problem = self.consume().err();
            self.dispatcher.reset();
            self.shared.close(problem.clone());
            let Some(problem) = problem else { break };
            if started.elapsed() > MAX_BACKOFF {
                backoff = BACKOFF.build();
            }
            let pause = backoff.next().unwrap_or(MAX_BACKOFF);
            tracing::error!(problem, ?pause, "kafka consumer failed, recreating it");
            self.sleep(pause);
        }
        tracing::info!("kafka consumer closed");
    }

    fn sleep(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.shared.stopping() && Instant::now() < until {
            std::thread::sleep(STOP_CHECK);
        }
    }

    /// Consumes until the shutdown, when everything done is committed.
    ///
    /// # Errors
    /// This client cannot go on; another one may.
    fn consume(&mut self) -> Result<(), String> {
        let context = Context {
            assignments: Arc::clone(&self.shared.assignments),
            placed: self.config.placed,
            closed: AtomicBool::new(false),
        };
        let text = |error: KafkaError| error.to_string();
        let client: Client = self
            .config
            .consumer()
            .create_with_context(context)
            .map_err(text)?;
        let topics: Vec<&str> = self.topics.iter().map(|topic| &**topic).collect();
        client.subscribe(&topics).map_err(text)?;
        let client = Arc::new(client);
        self.shared.opened(Arc::clone(&client));
        let mut topic_ids = TopicIds::new(&client, &self.topics);
        while !self.shared.stopping() {
            let is_complete = match client.poll(self.dispatcher.poll_timeout()) {
                Some(Ok(message)) => self.dispatcher.add(&message),
                Some(Err(error)) => {
                    self.check(&client, &error)?;
                    false
                }
                // Nothing more is there: what was collected goes out now.
                None => true,
            };
            if is_complete {
                self.dispatcher.send(&client);
                self.maintain(&client);
                if let Some(topic) = self.shared.note_topic_ids(topic_ids.poll()) {
                    // Its records are others, for which the group has no offsets. A new client, for this
                    // one takes the new topic's leaders for out of date until they have changed as
                    // often as the old one's.
                    self.config.offset_reset = OffsetReset::Earliest;
                    return Err(format!("topic {topic} was deleted and made again"));
                }
            }
        }
        self.drain(&client);
        Ok(())
    }

    /// After a rebalance follows it, resumes queues with room, commits, and asks for ends when due.
    fn maintain(&mut self, client: &Client) {
        let assignments = &self.shared.assignments;
        let generation = assignments.generation.load(Ordering::Relaxed);
        if generation != self.generation {
            self.generation = generation;
            self.dispatcher.rebalanced(client);
        }
        self.dispatcher.resume(client);
        self.place(client);
        let Commit { records, interval } = self.config.commit;
        let enough = records.is_some_and(|records| assignments.done() >= records);
        if self.last_commit.elapsed() >= if enough { COMMIT_PAUSE } else { interval } {
            self.last_commit = Instant::now();
            assignments.commit(client, CommitMode::Async);
        }
        if self.last_ends.elapsed() >= ENDS_EVERY {
            self.last_ends = Instant::now();
            self.fetch_ends_of_paused(client);
        }
    }

    /// Moves partitions to the offsets they are to be read from.
    fn place(&self, client: &Client) {
        let assignments = &self.shared.assignments;
        for (topic, partition, offset) in assignments.take_read_from() {
            // Asked for twice before it came to the first: reading goes on.
            let found = assignments.find(&topic, partition);
            if found.is_some_and(|assignment| !assignment.is_unplaced()) {
                continue;
            }
            match client.seek(&topic, partition, Offset::Offset(offset), SEEK) {
                Ok(()) => {
                    if let Some(placed) = assignments.begin(&topic, partition, Some(offset)) {
                        self.dispatcher.resume_placed(client, placed.worker);
                    }
                }
                // It is only about to be assigned. One that was taken away need not be placed.
                Err(error) => {
                    tracing::debug!(%error, topic = &*topic, partition, "not placed yet");
                    if assignments.find(&topic, partition).is_some() {
                        assignments.place((topic, partition, offset));
                    }
                }
            }
        }
    }

    /// librdkafka learns a partition's end by fetching from it, and does not fetch from a paused one,
    /// whose lag matters most.
    fn fetch_ends_of_paused(&self, client: &Client) {
        let assignments = &self.shared.assignments;
        let mut paused = assignments.all();
        paused.retain(|assignment| assignment.paused.load(Ordering::Relaxed));
        if paused.is_empty() || !assignments.connected.load(Ordering::Relaxed) {
            return;
        }
        let mut ends = list(&paused);
        // Asked for as a time, the logical end gives the offset of the next record.
        let asked = ends.set_all_offsets(Offset::End);
        match asked.and_then(|()| client.offsets_for_times(ends, ENDS_TIMEOUT)) {
            Ok(ends) => assignments.observe_ends(&ends),
            Err(error) => tracing::debug!(%error, "ends of paused partitions unknown"),
        }
    }

    /// Logs an error that passes by itself.
    ///
    /// # Errors
    /// The client has failed for good.
    fn check(&mut self, client: &Client, error: &KafkaError) -> Result<(), String> {
        if let Some((_, reason)) = client.client().fatal_error() {
            return Err(reason);
        }
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) {
            return Err("a partition does not have the offset at which it is read".to_owned());
        }
        if self.last_logged.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            self.last_logged = Some(Instant::now());
            tracing::warn!(%error, "kafka consumer error");
        }
        Ok(())
    }

    /// Ends the queues, waits until the workers are through, and commits what they did. Polls on, so
    /// that the rest of the group does not wait for this member in a rebalance.
    fn drain(&mut self, client: &Client) {
        let deadline = Instant::now() + self.shared.grace();
        self.dispatcher.end(client);
        while !self.dispatcher.is_drained() && Instant::now() < deadline {
            // What still comes out is not sent, hence never done, hence read again.
            drop(client.poll(WATCH));
            self.dispatcher.pause_partitions(client);
        }
        self.shared.assignments.commit(client, CommitMode::Sync);
    }
}
