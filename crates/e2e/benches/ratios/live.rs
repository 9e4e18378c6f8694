//! Live delivery: POST → SSE against the bare way there, memory of idle streams, and one channel
//! to a thousand listeners, beside nchan where that is installed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::StreamExt as _;
use rdkafka::ClientConfig;
use rdkafka::Message as _;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::{Value, json};
use testkit::{Parts, SseStream, TestService};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::Options;
use crate::nchan::Nchan;
use crate::report::{Report, thousands};

/// Of the latency measurement.
const LISTENERS: usize = 100;
const PACE: Duration = Duration::from_millis(5);
/// Of the memory measurement.
const IDLE: usize = 5_000;
/// Of the fan-out.
const AUDIENCE: usize = 1_000;
/// Messages under way: so many that they are delivered together, but too few for anyone's queue to
/// overflow; and so few that each is nearly alone.
const WINDOWS: [u64; 2] = [500, 10];
/// Stands once in every message of the fan-out, and nowhere else.
const MARK: u8 = b'~';

/// The services that live delivery needs.
struct Live {
    ingest: TestService,
    query: TestService,
    bridge: TestService,
}

impl Live {
    async fn start(parts: &Parts) -> Self {
        let prefix = testkit::topic_prefix();
        let service = |name: &str| {
            TestService::builder(name)
                .parts(parts)
                .env("KAFKA_TOPIC_PREFIX", &prefix)
                .env("BRIDGE_GROUP_ID", format!("{prefix}bridge"))
                .env("SSE_PREFIX", format!("{prefix}sse:user:"))
                .env("SSE_MAX_CONNECTIONS_PER_USER", 10_000)
                .env("PROCESSOR_ROLES", "bridge")
                .env("LOG_LEVEL", "WARN")
        };
        let bridge = service("processor").start().await;
        Self {
            ingest: service("ingest").start().await,
            query: service("query").start().await,
            bridge,
        }
    }

    /// The mean of a histogram of the bridge's, in microseconds.
    async fn mean(&self, histogram: &str) -> anyhow::Result<f64> {
        let text = reqwest::get(self.bridge.url("/metrics"))
            .await?
            .text()
            .await?;
        let value = |suffix: &str| {
            let name = format!("{histogram}_{suffix} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&name));
            line.and_then(|value| value.parse::<f64>().ok())
                .unwrap_or(f64::NAN)
        };
        Ok(value("sum") / value("count") * 1e6)
    }

    fn stream(&self, user: &str) -> String {
        self.query.url(&format!("/api/v1/sse/users/{user}"))
    }
}

fn event(user: &str, n: u64, note: &str) -> Value {
    json!({
        "event_type": "bench.live", "event_source": "backend", "event_category": "user_action",
        "user_id": user,
        "data": {"n": n, "product_id": "p-1234", "price": 12.5, "currency": "EUR", "note": note},
    })
}

/// Microseconds that half and 99 of 100 deliveries took at most.
fn percentiles(mut took: Vec<Duration>) -> (f64, f64) {
    took.sort_unstable();
    let micros = |at: usize| took.get(at).map_or(f64::NAN, |d| d.as_secs_f64() * 1e6);
    (micros(took.len() / 2), micros(took.len() * 99 / 100))
}

/// See the module. Both ways carry the same number of events a second, in turn.
pub(crate) async fn latency(
    parts: &Parts,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    println!(
        "POST → SSE, {} events/s, {LISTENERS} listeners",
        1_000 / PACE.as_millis()
    );
    let live = Live::start(parts).await;
    let bare = Bare::start(parts).await?;
    let count = options.seconds * 1_000 / u64::try_from(PACE.as_millis())?;
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let mut listeners = JoinSet::new();
    for user in 0..LISTENERS {
        let mut stream = SseStream::open(&live.stream(&format!("user-{user}")), None).await?;
        stream.wait_cursor().await?;
        let arrived = arrived.clone();
        listeners.spawn(async move {
            while let Ok(Some(event)) = stream.next().await {
                let at = Instant::now();
                let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
                let _ = arrived.send((data["payload"]["n"].as_u64(), at));
            }
        });
    }
    let http = reqwest::Client::new();
    let url = live.ingest.url("/api/v1/events");
    let (mut p50, mut p99, mut bare50, mut bare99) = (vec![], vec![], vec![], vec![]);
    for round in 0..options.rounds {
        // Connections, caches and fetches warm up in the first fifth, which does not count.
        let first = round as u64 * count;
        let mut sent = Vec::new();
        let mut pace = tokio::time::interval(PACE);
        let mut posts = JoinSet::new();
        for n in first..first + count {
            pace.tick().await;
            let body = event(&format!("user-{}", n % LISTENERS as u64), n, "a note");
            sent.push(Instant::now());
            posts.spawn(http.post(&url).json(&body).send());
        }
        for answer in posts.join_all().await {
            answer?.error_for_status()?;
        }
        let ours = collect(&mut arrivals, &sent, first).await?;
        let limit = bare.round(count).await?;
        let counted = |took: Vec<Duration>| percentiles(took[took.len() / 5..].to_vec());
        let ((a, b), (c, d)) = (counted(ours), counted(limit));
        println!(
            "  round {round}: p50 {} µs, p99 {} µs; bare p50 {} µs, p99 {} µs",
            thousands(a),
            thousands(b),
            thousands(c),
            thousands(d)
        );
        p50.push(a);
        p99.push(b);
        bare50.push(c);
        bare99.push(d);
    }
    for histogram in [
        "eventbridge_kafka_consume_latency_seconds",
        "eventbridge_processing_seconds",
        "eventbridge_redis_publish_seconds",
    ] {
        println!(
            "  {histogram}: {} µs on average",
            thousands(live.mean(histogram).await?)
        );
    }
    let against = "produce→consume, publish→receive";
    report.add_cost("POST → SSE, p50", &p50, against, &bare50, "µs", None);
    report.add_cost("POST → SSE, p99", &p99, against, &bare99, "µs", Some(2.0));
    Ok(())
}

/// How long each event took, in the order in which they were sent.
async fn collect(
    arrivals: &mut mpsc::UnboundedReceiver<(Option<u64>, Instant)>,
    sent: &[Instant],
    first: u64,
) -> anyhow::Result<Vec<Duration>> {
    let mut took = vec![Duration::ZERO; sent.len()];
    for _ in 0..sent.len() {
        let arrival = tokio::time::timeout(Duration::from_secs(60), arrivals.recv()).await;
        let (n, at) = arrival
            .context("an event did not arrive")?
            .context("closed")?;
        let index = usize::try_from(n.context("no number")?.checked_sub(first).context("old")?)?;
        took[index] = at - sent[index];
    }
    Ok(took)
}

/// The same way without a product: a producer, a consumer that publishes what it gets, a
/// subscriber.
struct Bare {
    producer: FutureProducer,
    topic: String,
    arrivals: tokio::sync::Mutex<mpsc::UnboundedReceiver<(Option<u64>, Instant)>>,
    _tasks: JoinSet<()>,
}

impl Bare {
    async fn start(parts: &Parts) -> anyhow::Result<Self> {
        let topic = format!("{}bare", testkit::topic_prefix());
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &parts.kafka_brokers);
        let admin: AdminClient<DefaultClientContext> = config.create()?;
        let new = NewTopic::new(&topic, 6, TopicReplication::Fixed(1));
        admin.create_topics([&new], &AdminOptions::new()).await?;
        let producer: FutureProducer = config
            .clone()
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("linger.ms", "0")
            .create()?;
        let consumer: StreamConsumer = config
            .clone()
            .set("group.id", &topic)
            .set("auto.offset.reset", "earliest")
            .create()?;
        consumer.subscribe(&[&topic])?;

        let client = redis::Client::open(parts.redis_url.as_str())?;
        let mut subscriber = client.get_async_pubsub().await?;
        subscriber.subscribe(&topic).await?;
        let mut publisher = client.get_multiplexed_async_connection().await?;
        let (arrived, arrivals) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut messages = subscriber.into_on_message();
            while let Some(message) = messages.next().await {
                let at = Instant::now();
                let data: Value =
                    serde_json::from_slice(message.get_payload_bytes()).unwrap_or_default();
                let _ = arrived.send((data["data"]["n"].as_u64(), at));
            }
        });
        let channel = topic.clone();
        tasks.spawn(async move {
            while let Ok(message) = consumer.recv().await {
                let payload = message.payload().unwrap_or_default();
                let sent: redis::RedisResult<i64> = redis::cmd("PUBLISH")
                    .arg(&channel)
                    .arg(payload)
                    .query_async(&mut publisher)
                    .await;
                if sent.is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            producer,
            topic,
            arrivals: tokio::sync::Mutex::new(arrivals),
            _tasks: tasks,
        })
    }

    async fn round(&self, count: u64) -> anyhow::Result<Vec<Duration>> {
        let mut sent = Vec::new();
        let mut pace = tokio::time::interval(PACE);
        let mut waiting = Vec::new();
        for n in 0..count {
            pace.tick().await;
            let user = format!("user-{}", n % LISTENERS as u64);
            let payload = event(&user, n, "a note").to_string();
            sent.push(Instant::now());
            let record = FutureRecord::to(&self.topic).key(&user).payload(&payload);
            let delivery = self.producer.send_result(record);
            waiting.push(delivery.map_err(|(error, _)| error)?);
        }
        for delivery in waiting {
            delivery.await?.map_err(|(error, _)| error)?;
        }
        collect(&mut *self.arrivals.lock().await, &sent, 0).await
    }
}

/// Sends the request for a stream and reads up to the end of the answer's head.
async fn open(address: (&str, u16), path: &str) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    ensure!(
        head.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&head)
    );
    Ok(stream)
}

async fn open_many(
    port: u16,
    count: usize,
    path: impl Fn(usize) -> String,
) -> anyhow::Result<Vec<TcpStream>> {
    let mut streams = Vec::with_capacity(count);
    for first in (0..count).step_by(100) {
        let mut opening = JoinSet::new();
        for n in first..(first + 100).min(count) {
            let path = path(n);
            opening.spawn(async move { open(("127.0.0.1", port), &path).await });
        }
        for stream in opening.join_all().await {
            streams.push(stream?);
        }
    }
    Ok(streams)
}

/// Bytes of resident memory for each of five thousand idle streams, of as many users.
pub(crate) async fn connections(parts: &Parts, report: &mut Report) -> anyhow::Result<()> {
    println!("{} idle streams", thousands(IDLE as f64));
    let live = Live::start(parts).await;
    let path = |n| format!("/api/v1/sse/users/user-{n}");
    let per_stream = |before: u64, after: u64| after.saturating_sub(before) as f64 / IDLE as f64;
    // The first hundred bring what a process needs once.
    let first = open_many(live.query.port(), 100, |n| path(1_000_000 + n)).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = live.query.memory().rss;
    let streams = open_many(live.query.port(), IDLE, path).await?;
    // Some heartbeats pass.
    tokio::time::sleep(Duration::from_secs(35)).await;
    let ours = per_stream(before, live.query.memory().rss);
    println!("  query: {} bytes", thousands(ours));
    drop((first, streams));
    report.add_cost(
        "an idle stream of 5,000",
        &[ours],
        "the design's goal",
        &[10_240.0],
        "bytes",
        Some(1.0),
    );
    if let Some(nchan) = Nchan::start(&parts.redis_url).await? {
        let first = open_many(nchan.port(), 100, |n| format!("/sub/{}", 1_000_000 + n)).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = nchan.memory()?;
        let streams = open_many(nchan.port(), IDLE, |n| format!("/sub/{n}")).await?;
        tokio::time::sleep(Duration::from_secs(35)).await;
        let theirs = per_stream(before, nchan.memory()?);
        println!("  nchan: {} bytes", thousands(theirs));
        drop((first, streams));
        report.add_cost(
            "an idle stream of 5,000",
            &[ours],
            "nchan on Redis",
            &[theirs],
            "bytes",
            None,
        );
    }
    Ok(())
}

/// A thousand readers that count marks, and what they have all got.
struct Audience {
    counts: Arc<Vec<AtomicU64>>,
    readers: JoinSet<()>,
}

impl Audience {
    fn of(streams: Vec<TcpStream>) -> Self {
        let counts: Arc<Vec<AtomicU64>> =
            Arc::new(streams.iter().map(|_| AtomicU64::new(0)).collect());
        let mut readers = JoinSet::new();
        for (n, mut stream) in streams.into_iter().enumerate() {
            let counts = Arc::clone(&counts);
            readers.spawn(async move {
                let mut buffer = vec![0; 16 * 1_024];
                while let Ok(read) = stream.read(&mut buffer).await {
                    if read == 0 {
                        break;
                    }
                    let marks = buffer[..read].iter().filter(|byte| **byte == MARK).count();
                    counts[n].fetch_add(marks as u64, Ordering::Relaxed);
                }
            });
        }
        Self { counts, readers }
    }

    /// What the one who got least has got.
    fn least(&self) -> u64 {
        let counts = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        counts.min().unwrap_or(0)
    }

    fn sum(&self) -> u64 {
        self.counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }

    /// Deliveries a second, over so many seconds.
    async fn rate(
        &mut self,
        seconds: u64,
        sent: Arc<AtomicU64>,
        stop: Arc<AtomicBool>,
    ) -> anyhow::Result<f64> {
        // The first second does not count.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (before, started) = (self.sum(), Instant::now());
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let rate = (self.sum() - before) as f64 / started.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.least() < sent.load(Ordering::Relaxed) {
            ensure!(Instant::now() < deadline, "messages are missing");
            ensure!(
                self.readers.try_join_next().is_none(),
                "a listener was closed"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(rate)
    }

    /// Room in the window, as seen from outside.
    fn window(&self, window: u64) -> impl Fn(u64) -> bool + Send + 'static {
        let counts = Arc::clone(&self.counts);
        move |sent| {
            let least = counts
                .iter()
                .map(|count| count.load(Ordering::Relaxed))
                .min();
            sent < least.unwrap_or(0) + window
        }
    }
}

/// One channel to a thousand listeners: deliveries a second, listeners included.
pub(crate) async fn fanout(
    parts: &Parts,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    let live = Live::start(parts).await;
    let nchan = Nchan::start(&parts.redis_url).await?;
    if nchan.is_none() {
        println!("nchan (Debian's libnginx-mod-nchan) is not installed");
    }
    for window in WINDOWS {
        let what = format!("1 channel → {AUDIENCE} listeners, {window} messages under way");
        println!("{what}");
        let (mut ours, mut theirs) = (vec![], vec![]);
        for round in 0..options.rounds {
            let crowd = Crowd {
                name: format!("crowd{round}of{window}"),
                window,
                seconds: options.seconds,
            };
            ours.push(crowd.at_query(&live).await?);
            print!("  round {round}: {} deliveries/s", thousands(ours[round]));
            if let Some(nchan) = &nchan {
                theirs.push(crowd.at_nchan(nchan).await?);
                print!(", nchan {}", thousands(theirs[round]));
            }
            println!();
        }
        if nchan.is_some() {
            report.add(
                what,
                &ours,
                "nchan on Redis",
                &theirs,
                "deliveries/s",
                Some(1.0),
            );
        } else {
            report.add(
                what,
                &ours,
                "itself (no nchan)",
                &ours,
                "deliveries/s",
                None,
            );
        }
    }
    Ok(())
}

/// One measurement of the fan-out.
struct Crowd {
    name: String,
    window: u64,
    seconds: u64,
}

impl Crowd {
    async fn at_query(&self, live: &Live) -> anyhow::Result<f64> {
        let path = format!("/api/v1/sse/users/{}", self.name);
        let streams = open_many(live.query.port(), AUDIENCE, |_| path.clone()).await?;
        let url = live.ingest.url("/api/v1/events/batch");
        let per_post = self.window.min(50);
        let name = self.name.clone();
        let post = move |http: &reqwest::Client, first: u64| {
            let batch: Value = (first..first + per_post)
                .map(|n| message(&name, n))
                .collect();
            vec![http.post(&url).json(&batch)]
        };
        self.rate(streams, per_post, post).await
    }

    async fn at_nchan(&self, nchan: &Nchan) -> anyhow::Result<f64> {
        let path = format!("/sub/{}", self.name);
        let streams = open_many(nchan.port(), AUDIENCE, |_| path.clone()).await?;
        let url = nchan.url(&format!("/pub/{}", self.name));
        let name = self.name.clone();
        // What our listeners get as data; it takes one message a request, so ten requests at once.
        let post = move |http: &reqwest::Client, first: u64| {
            let one = |n| {
                let data = json!({
                    "event_id": uuid::Uuid::now_v7(), "event_type": "bench.live",
                    "user_id": name, "timestamp": "2026-11-21T10:15:57.123456Z",
                    "payload": message("", n)["data"],
                });
                http.post(&url).body(data.to_string())
            };
            (first..first + 10).map(one).collect()
        };
        self.rate(streams, 10, post).await
    }

    /// Keeps the window full, `step` messages at a time.
    async fn rate(
        &self,
        streams: Vec<TcpStream>,
        step: u64,
        post: impl Fn(&reqwest::Client, u64) -> Vec<reqwest::RequestBuilder> + Send + 'static,
    ) -> anyhow::Result<f64> {
        let mut audience = Audience::of(streams);
        let room = audience.window(self.window);
        let (sent, stop): (Arc<AtomicU64>, Arc<AtomicBool>) = (Arc::default(), Arc::default());
        let posting = tokio::spawn({
            let (sent, stop) = (Arc::clone(&sent), Arc::clone(&stop));
            async move {
                let http = reqwest::Client::new();
                while !stop.load(Ordering::Relaxed) {
                    let before = sent.load(Ordering::Relaxed);
                    if !room(before) {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        continue;
                    }
                    let mut posts = JoinSet::new();
                    for request in post(&http, before) {
                        posts.spawn(request.send());
                    }
                    for answer in posts.join_all().await {
                        answer?.error_for_status()?;
                    }
                    sent.fetch_add(step, Ordering::Relaxed);
                }
                anyhow::Ok(())
            }
        });
        let rate = audience.rate(self.seconds, Arc::clone(&sent), stop).await;
        posting.await??;
        rate
    }
}

fn message(user: &str, n: u64) -> Value {
    event(user, n, "a sentence of some length, as people write them ~")
}
