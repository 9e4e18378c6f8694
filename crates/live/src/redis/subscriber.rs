//! The listening end: one connection for pointers, one for reading, one task for both.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use futures_util::{FutureExt as _, StreamExt as _};
use redis::aio::{PubSubSink, PubSubStream};
use redis::{ErrorKind, Msg, RedisError, Value};
use tokio::sync::Notify;
use tokio::time::{Interval, MissedTickBehavior};

use super::connection::{Connection, Server, is_now};
use super::script::{InlineMessage, parse_transient};
use super::state::ChannelStates;
use super::{read, value};
use crate::id::Resume;
use crate::queue::{Queue, lock};
use crate::subscription::ListenerHost;

/// How often the connection for pointers is checked.
const PING_EVERY: Duration = Duration::from_secs(5);

/// How often all channels are read although no pointer came.
const READ_ALL_EVERY: Duration = Duration::from_secs(30);

/// Channels in one command.
const CHANNELS: usize = 256;

/// Messages read in one round, about; pointers taken at once, at most.
const ROUND_MESSAGES: usize = 1_024;

/// Pauses between attempts to connect: doubled from 25 ms to 1 s, each up to twice as long at
/// random.
const RECONNECT: ExponentialBuilder = ExponentialBuilder::new()
    .with_jitter()
    .with_min_delay(Duration::from_millis(25))
    .with_max_delay(Duration::from_secs(1))
    .without_max_times();

/// The listening end of a process.
pub(crate) struct Subscriber {
    server: Arc<Server>,
    states: Mutex<ChannelStates>,
    wake: Notify,
    connected: AtomicBool,
    /// Why it is not connected.
    problem: Mutex<Option<String>>,
}

impl Subscriber {
    pub(crate) fn new(server: Arc<Server>) -> Self {
        Self {
            states: Mutex::new(ChannelStates::new(&server.retention)),
            server,
            wake: Notify::new(),
            connected: AtomicBool::new(false),
            problem: Mutex::default(),
        }
    }

    /// Adds a listener, which begins as soon as Redis can be read.
    pub(crate) fn join(&self, key: &Arc<str>, resume: Resume, queue: Arc<Queue>) -> u64 {
        let listener = lock(&self.states).join(key, resume, queue);
        self.wake.notify_one();
        listener
    }

    /// Whether Redis is connected.
    pub(crate) fn connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Why it is not connected.
    pub(crate) fn problem(&self) -> Option<String> {
        lock(&self.problem).clone()
    }

    /// Ends all listeners.
    pub(crate) fn close(&self) {
        self.connected.store(false, Ordering::Relaxed);
        lock(&self.states).close();
    }

    /// Keeps connected and reads, for ever.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut outage = Outage::default();
        loop {
            let error = match self.connect(&outage).await {
                Ok(session) => session.serve(&self, &mut outage).await,
                Err(error) => error,
            };
            self.connected.store(false, Ordering::Relaxed);
            lock(&self.states).disconnected();
            *lock(&self.problem) = Some(error.to_string());
            tokio::time::sleep(outage.failed(&error)).await;
        }
    }

    async fn connect(&self, outage: &Outage) -> Result<Session, RedisError> {
        let connection = self.server.connect().await?;
        let (mut sink, pointers) = self.server.connect_pubsub().await?;
        let gaps = sink.subscribe(self.server.keys.gaps.as_str());
        self.server.within(gaps).await?;
        lock(&self.states).reconnected();
        let every = |period| {
            let mut interval = tokio::time::interval(period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        };
        let ttl = Duration::from_secs(self.server.retention.ttl_seconds);
        Ok(Session {
            connection,
            sink,
            pointers,
            ping: every(PING_EVERY),
            read_all: every(READ_ALL_EVERY.min(ttl / 4).max(Duration::from_millis(100))),
            round_messages: outage.round_messages(),
            received: Vec::new(),
            gap_pointed: true,
        })
    }
}

impl ListenerHost for Subscriber {
    fn more(&self, key: &Arc<str>, listener: u64) {
        lock(&self.states).more(key, listener);
        self.wake.notify_one();
    }

    fn leave(&self, key: &Arc<str>, listener: u64) {
        if lock(&self.states).leave(key, listener) {
            self.wake.notify_one();
        }
    }
}

/// Both connections, from connecting until something fails.
struct Session {
    connection: Connection,
    sink: PubSubSink,
    pointers: PubSubStream,
    ping: Interval,
    read_all: Interval,
    /// Messages to read in one round; fewer after one took too long.
    round_messages: usize,
    /// Pointers not followed yet.
    received: Vec<Msg>,
    /// There is a gap that was not read.
    gap_pointed: bool,
}

impl Session {
    /// Reads what there is to read until something fails.
    async fn serve(mut self, subscriber: &Subscriber, outage: &mut Outage) -> RedisError {
        loop {
            match self.step(subscriber).await {
                Ok(()) => {
                    subscriber.connected.store(true, Ordering::Relaxed);
                    if outage.end() {
                        *lock(&subscriber.problem) = None;
                    }
                }
                Err(error) => return error,
            }
        }
    }

    /// Does what there is to do; waits if there is nothing.
    async fn step(&mut self, subscriber: &Subscriber) -> Result<(), RedisError> {
        while self.received.len() < ROUND_MESSAGES
            && let Some(pointer) = self.pointers.next().now_or_never()
        {
            self.received.push(open(pointer)?);
        }
        self.follow(subscriber);
        let work = lock(&subscriber.states).has_work();
        if work || std::mem::take(&mut self.gap_pointed) {
            self.update_subscriptions(subscriber).await?;
            return self.read_round(subscriber).await;
        }
        tokio::select! {
            pointer = self.pointers.next() => self.received.push(open(pointer)?),
            () = subscriber.wake.notified() => {}
            _ = self.ping.tick() => {
                let _: Value = subscriber.server.within(self.sink.ping()).await?;
                self.connection.check_master().await?;
            }
            _ = self.read_all.tick() => {
                let channels = lock(&subscriber.states).subscribed_channels();
                for some in channels.chunks(CHANNELS) {
                    self.listen(subscriber, some).await?;
                }
                lock(&subscriber.states).mark_all();
            }
        }
        Ok(())
    }

    /// Delivers what the pointers brought, and marks what has to be read.
    fn follow(&mut self, subscriber: &Subscriber) {
        let mut states = lock(&subscriber.states);
        self.received.retain(|message| {
            let transient = parse_transient(message.get_payload_bytes());
            let is_pointer = transient.is_none();
            if let Some(sent) = transient {
                states.send_transient(message.get_channel_name(), sent);
            }
            is_pointer
        });
        for run in self
            .received
            .chunk_by(|a, b| a.get_channel_name() == b.get_channel_name())
        {
            let key = run[0].get_channel_name();
            if key == subscriber.server.keys.gaps {
                self.gap_pointed = true;
            } else if self.gap_pointed {
                // The gap comes first, and with it the channel is read.
                states.mark(key);
            } else {
                let messages = run
                    .iter()
                    .map(|pointer| InlineMessage::parse(pointer.get_payload_bytes()));
                states.deliver_inline(key, messages);
            }
        }
        self.received.clear();
    }

    /// Subscribes to the pointers of the channels that have listeners, and to no others.
    async fn update_subscriptions(&mut self, subscriber: &Subscriber) -> Result<(), RedisError> {
        let server = &subscriber.server;
        let left = lock(&subscriber.states).take_to_unsubscribe();
        for keys in left.chunks(CHANNELS) {
            let keys: Vec<&str> = keys.iter().map(AsRef::as_ref).collect();
            server.within(self.sink.unsubscribe(keys)).await?;
        }
        let joined = lock(&subscriber.states).take_to_subscribe();
        if !joined.is_empty() {
            let keys: Vec<&str> = joined.iter().map(AsRef::as_ref).collect();
            server.within(self.sink.subscribe(keys)).await?;
            self.listen(subscriber, &joined).await?;
            lock(&subscriber.states).subscribed(&joined);
        }
        Ok(())
    }

    /// Says that these channels are listened to.
    async fn listen(
        &self,
        subscriber: &Subscriber,
        channels: &[Arc<str>],
    ) -> Result<(), RedisError> {
        let listen = subscriber.server.listen(&self.connection, channels);
        let since = listen.await?;
        lock(&subscriber.states).listened(channels, &since);
        Ok(())
    }

    async fn read_round(&mut self, subscriber: &Subscriber) -> Result<(), RedisError> {
        let requests = lock(&subscriber.states).plan(self.round_messages);
        let replies = read::read(&subscriber.server, &mut self.connection, &requests).await;
        let soon = {
            let mut states = lock(&subscriber.states);
            let replies = match replies {
                Ok(replies) => replies,
                Err(error) => {
                    states.put_back(requests);
                    return Err(error);
                }
            };
            let new_gap = states.observe_gap(replies.gap);
            let soon = is_now(states.gap, replies.now_ms);
            if new_gap || soon {
                states.put_back(requests);
            } else {
                states.apply(requests, replies);
            }
            soon
        };
        if soon {
            // Within the gap's own millisecond no cursor would lie after it.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}

fn open(pointer: Option<Msg>) -> Result<Msg, RedisError> {
    pointer.ok_or_else(|| value::unexpected("connection closed"))
}

/// Failures in a row: logged once, with ever longer pauses between them.
#[derive(Debug)]
struct Outage {
    pauses: ExponentialBackoff,
    failures: u32,
    timeouts: u32,
    /// The log has that this Redis cannot be used at all.
    unusable: bool,
}

impl Default for Outage {
    fn default() -> Self {
        Self {
            pauses: RECONNECT.build(),
            failures: 0,
            timeouts: 0,
            unusable: false,
        }
    }
}

impl Outage {
    /// Counts a failure; returns the pause before the next attempt.
    fn failed(&mut self, error: &RedisError) -> Duration {
        // A Redis that is repaired may come up in its old version at first.
        let unusable = error.kind() == ErrorKind::Client && !self.unusable;
        if self.failures == 0 || unusable {
            tracing::warn!(%error, "retrying the connection to Redis for live delivery");
        }
        self.unusable |= unusable;
        self.failures = self.failures.saturating_add(1);
        if error.is_timeout() {
            self.timeouts = (self.timeouts + 1).min(6);
        }
        self.pauses.next().unwrap_or_default()
    }

    /// Ends the outage; returns whether there was one.
    fn end(&mut self) -> bool {
        let failed = self.failures > 0;
        if failed {
            tracing::info!(
                attempts = self.failures,
                "connected to Redis for live delivery"
            );
            *self = Self::default();
        }
        failed
    }

    /// Messages to read in one round: fewer after rounds that took too long.
    fn round_messages(&self) -> usize {
        ROUND_MESSAGES >> self.timeouts
    }
}
