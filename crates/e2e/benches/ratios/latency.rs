//! POST → SSE against the bare way there.

use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::StreamExt as _;
use rdkafka::ClientConfig;
use rdkafka::Message as _;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::Value;
use testkit::{Parts, SseStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::Options;
use crate::live::{Live, event};
use crate::report::{Report, thousands};

const LISTENERS: usize = 100;
const PACE: Duration = Duration::from_millis(5);

/// Microseconds that half and 99 of 100 deliveries took at most.
pub(crate) fn percentiles(mut took: Vec<Duration>) -> (f64, f64) {
    took.sort_unstable();
    let micros = |at: usize| took.get(at).map_or(f64::NAN, |d| d.as_secs_f64() * 1e6);
    (micros(took.len() / 2), micros(took.len() * 99 / 100))
}

/// See the module. Both ways carry the same number of events a second, in turn.
pub(crate) async fn measure(
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
    for round in 0..=options.rounds {
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
        if round == 0 {
            // The consumer's group has only just come together.
            continue;
        }
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
