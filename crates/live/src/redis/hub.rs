//! The listening end: one connection for pointers, one for reading, one task for both.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use redis::aio::{PubSubSink, PubSubStream};
use redis::{ErrorKind, Msg, RedisError, Value};
use tokio::sync::Notify;
use tokio::time::{Interval, MissedTickBehavior};

use super::channel::Watch;
use super::connection::{Link, Server, is_now};
use super::pushed::Pushed;
use super::{read, value};
use crate::id::Resume;
use crate::queue::{Queue, lock};
use crate::subscription::Home;

/// How often it is made sure that the connection for pointers still is one.
const PING_EVERY: Duration = Duration::from_secs(5);

/// How often all channels are read although nothing points to them.
const READ_ALL_EVERY: Duration = Duration::from_secs(30);

/// Messages read in one round, about; pointers taken at once, at most.
const ROUND_MESSAGES: usize = 1_024;

/// The longest pause between two attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The listening end of a process.
pub(crate) struct Hub {
    server: Arc<Server>,
    watch: Mutex<Watch>,
    wake: Notify,
    up: AtomicBool,
    /// Why it is not.
    problem: Mutex<Option<String>>,
}

impl Hub {
    pub(crate) fn new(server: Arc<Server>) -> Self {
        Self {
            watch: Mutex::new(Watch::new(server.ttl_ms)),
            server,
            wake: Notify::new(),
            up: AtomicBool::new(false),
            problem: Mutex::default(),
        }
    }

    /// Adds a listener, which begins as soon as Redis can be read.
    pub(crate) fn join(&self, key: &Arc<str>, resume: Resume, queue: Arc<Queue>) -> u64 {
        let listener = lock(&self.watch).join(key, resume, queue);
        self.wake.notify_one();
        listener
    }

    /// Whether Redis is connected.
    pub(crate) fn connected(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Why it is not connected.
    pub(crate) fn problem(&self) -> Option<String> {
        lock(&self.problem).clone()
    }

    /// Ends all listeners.
    pub(crate) fn close(&self) {
        self.up.store(false, Ordering::Relaxed);
        lock(&self.watch).close();
    }

    /// Keeps connected and reads, for ever.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut outage = Outage::default();
        loop {
            let error = match self.connect(&outage).await {
                Ok(connected) => connected.serve(&self, &mut outage).await,
                Err(error) => error,
            };
            self.up.store(false, Ordering::Relaxed);
            lock(&self.watch).lost();
            *lock(&self.problem) = Some(error.to_string());
            outage.failed(&error);
            tokio::time::sleep(outage.pause()).await;
        }
    }

    async fn connect(&self, outage: &Outage) -> Result<Connected, RedisError> {
        let link = self.server.connect().await?;
        let (mut sink, pointers) = self.server.connect_pubsub().await?;
        let gaps = sink.subscribe(self.server.gaps.as_str());
        self.server.within(gaps).await?;
        lock(&self.watch).reconnected();
        let every = |period| {
            let mut interval = tokio::time::interval(period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        };
        let ttl = Duration::from_millis(self.server.ttl_ms);
        Ok(Connected {
            link,
            sink,
            pointers,
            ping: every(PING_EVERY),
            read_all: every(READ_ALL_EVERY.min(ttl / 4).max(Duration::from_millis(100))),
            messages: outage.messages(ROUND_MESSAGES),
            pointed: Vec::new(),
            gap_pointed: true,
        })
    }
}

impl Home for Hub {
    fn more(&self, key: &Arc<str>, listener: u64) {
        lock(&self.watch).more(key, listener);
        self.wake.notify_one();
    }

    fn leave(&self, key: &Arc<str>, listener: u64) {
        if lock(&self.watch).leave(key, listener) {
            self.wake.notify_one();
        }
    }
}

/// Both connections.
struct Connected {
    link: Link,
    sink: PubSubSink,
    pointers: PubSubStream,
    ping: Interval,
    read_all: Interval,
    /// Messages to read in one round; fewer after one took too long.
    messages: usize,
    /// Pointers received and not looked at.
    pointed: Vec<Msg>,
    /// There is a gap that was not read.
    gap_pointed: bool,
}

impl Connected {
    /// Reads what there is to read until something fails.
    async fn serve(mut self, hub: &Hub, outage: &mut Outage) -> RedisError {
        loop {
            let result = self.step(hub).await;
            match result {
                Ok(()) => {
                    hub.up.store(true, Ordering::Relaxed);
                    if outage.over() {
                        *lock(&hub.problem) = None;
                    }
                }
                Err(error) => return error,
            }
        }
    }

    /// Does what there is to do; waits if there is nothing.
    async fn step(&mut self, hub: &Hub) -> Result<(), RedisError> {
        while self.pointed.len() < ROUND_MESSAGES
            && let Some(pointer) = self.pointers.next().now_or_never()
        {
            self.pointed.push(received(pointer)?);
        }
        self.follow(hub);
        let work = lock(&hub.watch).has_work();
        if work || std::mem::take(&mut self.gap_pointed) {
            self.settle_pointers(hub).await?;
            return self.round(hub).await;
        }
        tokio::select! {
            pointer = self.pointers.next() => self.pointed.push(received(pointer)?),
            () = hub.wake.notified() => {}
            _ = self.ping.tick() => {
                let _: Value = hub.server.within(self.sink.ping()).await?;
            }
            _ = self.read_all.tick() => lock(&hub.watch).mark_all(),
        }
        Ok(())
    }

    /// Gives out what the pointers brought, and notes what is to be read.
    fn follow(&mut self, hub: &Hub) {
        let mut watch = lock(&hub.watch);
        for run in self
            .pointed
            .chunk_by(|a, b| a.get_channel_name() == b.get_channel_name())
        {
            let key = run[0].get_channel_name();
            if key == hub.server.gaps {
                self.gap_pointed = true;
            } else if self.gap_pointed {
                // The gap comes first, and with it the channel is read.
                watch.mark(key);
            } else {
                watch.push(
                    key,
                    run.iter().map(|msg| Pushed::parse(msg.get_payload_bytes())),
                );
            }
        }
        self.pointed.clear();
    }

    /// Receives the pointers of the channels that are listened to, and no others.
    async fn settle_pointers(&mut self, hub: &Hub) -> Result<(), RedisError> {
        let left = lock(&hub.watch).take_left();
        for keys in left.chunks(256) {
            let keys: Vec<&str> = keys.iter().map(AsRef::as_ref).collect();
            hub.server.within(self.sink.unsubscribe(keys)).await?;
        }
        let fresh = lock(&hub.watch).take_fresh();
        if !fresh.is_empty() {
            let keys: Vec<&str> = fresh.iter().map(AsRef::as_ref).collect();
            hub.server.within(self.sink.subscribe(keys)).await?;
            lock(&hub.watch).subscribed(&fresh);
        }
        Ok(())
    }

    /// Reads once.
    async fn round(&mut self, hub: &Hub) -> Result<(), RedisError> {
        let asks = lock(&hub.watch).plan(self.messages);
        let answers = match read::read(&hub.server, &mut self.link, &asks).await {
            Ok(answers) => answers,
            Err(error) => {
                lock(&hub.watch).put_back(asks);
                return Err(error);
            }
        };
        let soon = {
            let mut watch = lock(&hub.watch);
            let new_gap = watch.note_gap(answers.gap);
            let soon = is_now(watch.gap(), answers.now_ms);
            if new_gap || soon {
                watch.put_back(asks);
            } else {
                watch.apply(asks, answers);
            }
            soon
        };
        if soon {
            // Within the gap's own millisecond no cursor could be told to lie after it.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}

fn received(pointer: Option<Msg>) -> Result<Msg, RedisError> {
    pointer.ok_or_else(|| value::unexpected("connection closed"))
}

/// What is remembered of failures in a row: said once, and tried again ever less often.
#[derive(Debug, Default)]
struct Outage {
    failures: u32,
    timed_out: u32,
    /// It was said that this Redis is none we can use.
    unusable: bool,
}

impl Outage {
    fn failed(&mut self, error: &RedisError) {
        // A Redis that is put right may come up in its old version at first.
        let unusable = error.kind() == ErrorKind::Client && !self.unusable;
        if self.failures == 0 || unusable {
            tracing::warn!(%error, "live delivery: Redis is not available; trying again");
        }
        self.unusable |= unusable;
        self.failures = self.failures.saturating_add(1);
        if error.is_timeout() {
            self.timed_out = (self.timed_out + 1).min(6);
        }
    }

    /// Says whether there was one.
    fn over(&mut self) -> bool {
        let was = self.failures > 0;
        if was {
            tracing::info!(attempts = self.failures, "live delivery: Redis is back");
        }
        *self = Self::default();
        was
    }

    /// After a round that took too long, the next one reads less.
    fn messages(&self, full: usize) -> usize {
        full >> self.timed_out
    }

    /// Doubles up to the longest, and differs from process to process.
    fn pause(&self) -> Duration {
        let longest = Duration::from_millis(25 << self.failures.min(10)).min(LONGEST_PAUSE);
        // Whatever the standard library has for randomness is good enough to keep processes apart.
        let dice = RandomState::new().hash_one(self.failures) % 512;
        longest.mul_f64(0.5 + dice as f64 / 1024.0)
    }
}
