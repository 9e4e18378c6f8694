//! What the tests share: both kinds of channels behind one fixture, and listening step by step.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use config::Secret;
use domain::TenantId;
use live::local::LocalChannels;
use live::redis::{RedisChannels, RedisConfig};
use live::{
    Batch, Channel, Channels, Delivery, Entry, Message, Outcome, Position, Publication, Reset,
    Resume, Retention, StreamId, Subscription,
};
use testkit::{LIMIT, Parts, eventually};

/// Room enough for everything a test queues.
pub(crate) const ROOMY: usize = 8 << 20;

/// One kind of channels.
pub(crate) trait Fixture: Sized {
    async fn new(retention: Retention) -> Self;

    fn channels(&self) -> &Arc<dyn Channels>;

    /// Comes back when the channel has been quiet for its time and is gone.
    async fn expire(&self, channel: &Channel);
}

pub(crate) struct Local {
    channels: Arc<dyn Channels>,
    ahead: Arc<AtomicU64>,
    retention: Retention,
}

impl Fixture for Local {
    async fn new(retention: Retention) -> Self {
        let ahead = Arc::new(AtomicU64::new(0));
        let clock = {
            let ahead = Arc::clone(&ahead);
            let start = std::time::Instant::now();
            move || {
                let run = start.elapsed().as_millis();
                1_700_000_000_000 + u64::try_from(run).expect("time") + ahead.load(Ordering::SeqCst)
            }
        };
        Self {
            channels: Arc::new(LocalChannels::with_clock(retention, clock)),
            ahead,
            retention,
        }
    }

    fn channels(&self) -> &Arc<dyn Channels> {
        &self.channels
    }

    async fn expire(&self, _: &Channel) {
        self.ahead
            .fetch_add(self.retention.ttl_seconds * 1_000 + 50, Ordering::SeqCst);
    }
}

pub(crate) struct InRedis {
    channels: Arc<dyn Channels>,
    pub(crate) config: RedisConfig,
}

impl InRedis {
    /// Channels of a prefix of their own in that Redis.
    pub(crate) fn at(url: &str, retention: Retention) -> Self {
        let unique = uuid::Uuid::new_v4().simple();
        Self::with(RedisConfig {
            url: Secret::new(url.to_owned()),
            prefix: format!("test:{unique}:"),
            retention,
            // A machine that stands still for a moment is no outage.
            timeout: Duration::from_secs(20),
        })
    }

    /// With less patience, for a test of a Redis that hangs.
    pub(crate) fn impatient(self) -> Self {
        Self::with(RedisConfig {
            timeout: Duration::from_secs(1),
            ..self.config
        })
    }

    fn with(config: RedisConfig) -> Self {
        Self {
            channels: Arc::new(RedisChannels::new(config.clone()).expect("configuration")),
            config,
        }
    }

    /// What another process with the same configuration has.
    pub(crate) fn other(&self) -> Self {
        Self::with(self.config.clone())
    }

    /// The port of that Redis.
    pub(crate) fn port(&self) -> u16 {
        let (_, rest) = self.config.url.expose().rsplit_once(':').expect("a port");
        let port = rest.split('/').next().expect("a port");
        port.parse().expect(port)
    }

    /// What a process has that reaches the same Redis over that port.
    pub(crate) fn over(&self, port: u16) -> Self {
        let real = format!(":{}", self.port());
        let url = self.config.url.expose().replace(&real, &format!(":{port}"));
        Self::with(RedisConfig {
            url: Secret::new(url),
            ..self.config.clone()
        })
    }

    /// A plain connection.
    pub(crate) async fn plain(&self) -> ::redis::aio::MultiplexedConnection {
        let client = ::redis::Client::open(self.config.url.expose()).expect("url");
        eventually("a plain connection", LIMIT, || {
            client.get_multiplexed_async_connection()
        })
        .await
    }

    pub(crate) fn key(&self, channel: &Channel) -> String {
        channel.key(&self.config.prefix)
    }
}

impl Fixture for InRedis {
    async fn new(retention: Retention) -> Self {
        Self::at(&Parts::shared().await.redis_url, retention)
    }

    fn channels(&self) -> &Arc<dyn Channels> {
        &self.channels
    }

    async fn expire(&self, channel: &Channel) {
        let plain = self.plain().await;
        eventually("the channel expires", LIMIT, || {
            let mut plain = plain.clone();
            let mut exists = ::redis::cmd("EXISTS");
            exists.arg(self.key(channel));
            async move {
                match exists.query_async::<u64>(&mut plain).await {
                    Ok(0) => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            }
        })
        .await;
    }
}

pub(crate) fn user(name: &str) -> Channel {
    Channel::new(TenantId::default(), name)
}

/// Message `n` for that channel.
pub(crate) fn numbered(channel: &Channel, n: usize) -> Publication {
    Publication {
        channel: channel.clone(),
        event_id: uuid::Uuid::new_v4(),
        message: Message {
            event: "test.numbered".to_owned(),
            data: format!("{{\"n\":{n}}}").into(),
        },
        position: None,
    }
}

/// The same from a place in the log.
pub(crate) fn placed(channel: &Channel, offset: i64, timestamp_ms: i64) -> Publication {
    let n = usize::try_from(offset).expect("offset");
    Publication {
        position: Some(Position {
            partition: "topic/0".into(),
            offset,
            timestamp_ms,
        }),
        ..numbered(channel, n)
    }
}

pub(crate) fn number(entry: &Entry) -> usize {
    assert_eq!(entry.message.event, "test.numbered");
    let text = std::str::from_utf8(&entry.message.data).expect("text");
    let digits = text.trim_start_matches("{\"n\":").trim_end();
    digits.trim_end_matches('}').parse().expect(text)
}

/// Publishes, in batches of up to 100; returns the ids.
pub(crate) async fn publish(
    channels: &Arc<dyn Channels>,
    publications: &[Publication],
) -> Vec<StreamId> {
    let mut ids = Vec::new();
    for batch in publications.chunks(100) {
        for outcome in channels.publish(batch).await.expect("published") {
            match outcome {
                Outcome::Published(id) => ids.push(id),
                other => panic!("{other:?}"),
            }
        }
    }
    ids
}

/// Publishes messages `range` to that channel.
pub(crate) async fn publish_numbers(
    channels: &Arc<dyn Channels>,
    channel: &Channel,
    range: std::ops::Range<usize>,
) -> Vec<StreamId> {
    let publications: Vec<_> = range.map(|n| numbered(channel, n)).collect();
    publish(channels, &publications).await
}

/// Has that channel listened to for a moment: what is published to it is kept from now on.
pub(crate) async fn heard(channels: &Arc<dyn Channels>, channel: &Channel) {
    Listener::begun(channels, channel, Resume::Live).await;
}

/// What Redis itself answers to that command.
pub(crate) async fn ask<T: ::redis::FromRedisValue>(fixture: &InRedis, command: &[&str]) -> T {
    let mut cmd = ::redis::cmd(command[0]);
    cmd.arg(&command[1..]);
    let mut plain = fixture.plain().await;
    cmd.query_async(&mut plain).await.expect(command[0])
}

/// A listener that checks the order of all it is given.
pub(crate) struct Listener {
    subscription: Subscription,
    /// Where it can resume after all it was given.
    pub(crate) cursor: StreamId,
    /// Where it can resume after all that was asked for.
    pub(crate) read: StreamId,
    /// Received and not asked for yet.
    entries: std::collections::VecDeque<Entry>,
}

impl Listener {
    pub(crate) fn new(channels: &Arc<dyn Channels>, channel: &Channel, resume: Resume) -> Self {
        Self::bounded(channels, channel, resume, ROOMY)
    }

    pub(crate) fn bounded(
        channels: &Arc<dyn Channels>,
        channel: &Channel,
        resume: Resume,
        bytes: usize,
    ) -> Self {
        Self {
            subscription: channels.subscribe(channel.clone(), resume, bytes),
            cursor: StreamId::default(),
            read: StreamId::default(),
            entries: [].into(),
        }
    }

    /// A listener that has begun.
    pub(crate) async fn begun(
        channels: &Arc<dyn Channels>,
        channel: &Channel,
        resume: Resume,
    ) -> Self {
        let mut listener = Self::new(channels, channel, resume);
        listener.expect_begun().await;
        listener
    }

    /// The next delivery; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Delivery> {
        tokio::time::timeout(LIMIT, self.subscription.next())
            .await
            .expect("nothing is delivered")
    }

    /// Whether there is nothing for a while: only ever makes a test fail that should.
    pub(crate) async fn silent(&mut self) -> bool {
        let next = tokio::time::timeout(Duration::from_millis(300), self.subscription.next());
        self.entries.is_empty() && next.await.is_err()
    }

    pub(crate) async fn expect_begun(&mut self) -> StreamId {
        match self.next().await {
            Some(Delivery::Begun { cursor }) => {
                self.forget(cursor);
                cursor
            }
            other => panic!("{other:?} instead of the beginning"),
        }
    }

    /// Goes on from there, whatever was given before.
    pub(crate) fn forget(&mut self, cursor: StreamId) {
        self.entries.clear();
        (self.cursor, self.read) = (cursor, cursor);
    }

    pub(crate) async fn expect_reset(&mut self, expected: Reset) -> StreamId {
        match self.next().await {
            Some(Delivery::Reset { reason, cursor }) => {
                assert!(self.entries.is_empty(), "messages that were not asked for");
                assert_eq!(reason, expected);
                self.forget(cursor);
                cursor
            }
            other => panic!("{other:?} instead of a reset, {expected:?}"),
        }
    }

    /// A reset for that reason, or several in a row, and then those numbers.
    pub(crate) async fn expect_after_resets(
        &mut self,
        expected: Reset,
        numbers: std::ops::Range<usize>,
    ) {
        self.expect_reset(expected).await;
        loop {
            match self.next().await {
                Some(Delivery::Reset { reason, cursor }) => {
                    assert_eq!(reason, expected);
                    self.forget(cursor);
                }
                Some(Delivery::Messages(batch)) => break self.receive(&batch),
                other => panic!("{other:?} instead of {numbers:?}"),
            }
        }
        self.expect(numbers).await;
    }

    fn receive(&mut self, batch: &Batch) {
        for entry in batch.entries() {
            assert!(
                entry.id > self.cursor,
                "{} after {}: twice, or out of order",
                entry.id,
                self.cursor
            );
            self.cursor = entry.id;
            self.entries.push_back(entry.clone());
        }
    }

    /// The next messages, that many.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<Entry> {
        while self.entries.len() < count {
            match self.next().await {
                Some(Delivery::Messages(batch)) => self.receive(&batch),
                other => panic!("{other:?} after {:?}", self.entries.back()),
            }
        }
        let taken: Vec<_> = self.entries.drain(..count).collect();
        self.read = taken.last().map_or(self.read, |entry| entry.id);
        taken
    }

    /// Receives exactly these numbers, in that order.
    pub(crate) async fn expect(&mut self, numbers: std::ops::Range<usize>) -> Vec<StreamId> {
        let entries = self.take(numbers.len()).await;
        let received: Vec<_> = entries.iter().map(number).collect();
        assert_eq!(received, numbers.collect::<Vec<_>>());
        entries.iter().map(|entry| entry.id).collect()
    }
}
