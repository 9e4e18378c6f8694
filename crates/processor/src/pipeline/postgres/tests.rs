//! The pipeline of the Postgres log on a real PostgreSQL, and Kafka where announcements go.

use std::collections::BTreeSet;
use std::time::Duration;

use eventlog::kafka::{Consumer, KafkaConfig, TopicSpec, topics};
use eventlog::postgres::{PostgresLog, PostgresLogConfig, PostgresSource};
use eventlog::{Chunk, Outgoing};
use prometheus::Registry;
use store::partitions::Interval;
use store::{DatabaseConfig, migrate};
use testkit::{LIMIT, Part, Parts, eventually, eventually_eq, topic_prefix};
use uuid::Uuid;

use super::*;
use crate::pipeline::decode::Content;

mod untold;

struct World {
    db: Database,
    fresh: testkit::Database,
    log: PostgresLog,
    prefix: String,
}

impl World {
    async fn new(parts: &Parts) -> Self {
        let fresh = parts.fresh_database().await;
        let db = Database::new(&DatabaseConfig {
            url: fresh.url.clone(),
            schema: "event".to_owned(),
            pool_size: 4,
            verify_tls: false,
            application_name: "pipeline tests".to_owned(),
        })
        .unwrap();
        migrate::run(&db).await.unwrap();
        let log = PostgresLog::new(&db, PostgresLogConfig::default(), &Registry::new()).unwrap();
        eventually("the log", LIMIT, || async {
            log.connected().then_some(()).ok_or("not connected")
        })
        .await;
        Self {
            db,
            fresh,
            log,
            prefix: topic_prefix(),
        }
    }

    /// An event with the id `n`, from 1 (the nil id is none); its type is `kind`.
    fn event(&self, n: u128, kind: &str) -> Outgoing {
        let id = Uuid::from_u128(n);
        self.record(
            &format!("user:{}", n % 50),
            format!(
                r#"{{"event_id":"{id}","event_type":"{kind}","user_id":"{}","data":{{"n":{n}}}}}"#,
                n % 50
            ),
        )
    }

    fn record(&self, key: &str, payload: impl Into<Vec<u8>>) -> Outgoing {
        Outgoing {
            topic: format!("{}events.backend.service", self.prefix).into(),
            key: key.as_bytes().to_vec(),
            headers: eventlog::Headers::default(),
            payload: payload.into().into(),
        }
    }

    async fn publish(&self, records: &[Outgoing]) {
        self.log.publish(records).unwrap().await.unwrap();
    }

    fn metrics() -> Arc<Metrics> {
        Arc::new(Metrics::register(&Registry::new()).unwrap())
    }

    fn partitions(&self) -> Partitions {
        Partitions::new(self.db.clone(), Interval::Month, 1)
    }

    fn drain(&self, producer: Option<Arc<Producer>>) -> (Handle, JoinSet<()>) {
        self.drain_telling(producer, None)
    }

    fn drain_telling(
        &self,
        producer: Option<Arc<Producer>>,
        live: Option<(DirectInput, Arc<Untold>)>,
    ) -> (Handle, JoinSet<()>) {
        let (feed, untold) = live.unzip();
        let (source, queues) = PostgresSource::start(&self.db, 2, 4 << 20);
        let pipeline = PostgresPipeline {
            db: self.db.clone(),
            source: source.clone(),
            producer,
            feed,
            untold,
            partitions: self.partitions(),
            batch: BatchLimits {
                records: 300,
                bytes: 1 << 20,
            },
            limits: Limits::default(),
            topic_prefix: self.prefix.clone(),
            metrics: Self::metrics(),
        };
        let lines = pipeline.start(queues);
        (source, lines)
    }

    async fn stop((source, mut lines): (Handle, JoinSet<()>)) {
        source.shutdown(LIMIT).await;
        while let Some(line) = lines.join_next().await {
            line.unwrap();
        }
    }

    async fn count(&self, from: &str) -> i64 {
        self.fresh.count(from).await.unwrap()
    }

    async fn counted(&self) -> i64 {
        let sql = "select coalesce(sum(count), 0)::int8 from aggregated_events";
        self.fresh.scalar(sql, &[]).await.unwrap()
    }

    async fn wait_until_empty(&self) {
        eventually_eq("rows left in the log", 0, || self.fresh.count("event_log")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processors_store_once_and_bury_what_cannot_be_stored() {
    let world = World::new(&Parts::shared().await).await;
    // What the database will refuse although everybody else finds it right.
    let client = world.fresh.connect().await.unwrap();
    client
        .batch_execute("alter table events add check (event_type <> 'poison')")
        .await
        .unwrap();
    let drains = (world.drain(None), world.drain(None));
    let mut events = 0;
    for first in (1..5_000_u128).step_by(500) {
        let mut records: Vec<_> = (first..first + 500)
            .map(|n| world.event(n, "order.placed"))
            .collect();
        events += records.len();
        records.insert(100, world.event(1_000_000 + first, "poison"));
        records.insert(200, world.record("user:1", format!("no json {first}")));
        // A retry, and a record that is nobody's.
        records.push(world.event(first + 7, "order.placed"));
        records.push(world.record("", r#"{"event_type":"order.placed","data":{}}"#));
        events += 1;
        world.publish(&records).await;
    }
    world.wait_until_empty().await;
    let events = i64::try_from(events).unwrap();
    assert_eq!(world.count("events").await, events);
    assert_eq!(world.counted().await, events);
    assert_eq!(world.count("dead_letters").await, 20);
    let sound = "dead_letters where topic like '%.events.backend.service' and partition between 0 and 15 and \
        (reason = 'database' and payload like '%poison%' or reason = 'invalid_json' and payload like 'no json %')";
    assert_eq!(world.count(sound).await, 20);
    assert_eq!(
        world.count("announcements_due").await,
        0,
        "nobody will announce"
    );
    World::stop(drains.0).await;
    World::stop(drains.1).await;
}

#[tokio::test]
async fn rows_another_processor_stored_are_left_alone() {
    let world = World::new(&Parts::shared().await).await;
    let records: Vec<_> = (1..=200).map(|n| world.event(n, "a.b")).collect();
    world.publish(&records[..150]).await;
    // One takes the rows and freezes.
    let (frozen, mut queues) = PostgresSource::start(&world.db, 1, 4 << 20);
    let mut chunks: Vec<Chunk> = Vec::new();
    while chunks.iter().map(|c| c.records.len()).sum::<usize>() < 150 {
        chunks.push(queues[0].recv().await.unwrap());
    }
    drop((frozen, queues));
    let other = world.drain(None);
    world.wait_until_empty().await;
    assert_eq!(world.counted().await, 150);
    World::stop(other).await;

    // It goes on with what it had in hand; some of its batch are new to everybody.
    world.publish(&records[150..]).await;
    let (source, mut queues) = PostgresSource::start(&world.db, 1, 4 << 20);
    while chunks.iter().map(|c| c.records.len()).sum::<usize>() < 200 {
        chunks.push(queues[0].recv().await.unwrap());
    }
    let decoder = Decoder::new(Limits::default(), world.prefix.clone(), Interval::Month);
    let decoded = decoder.of_postgres_log().decode(chunks);
    assert!(
        decoded
            .items
            .iter()
            .all(|item| matches!(item.content, Content::Event(..)))
    );
    let stage = WriteStage::new(
        world.db.clone(),
        Progress::rows(false),
        world.partitions(),
        World::metrics(),
    );
    let (input, to_write) = mpsc::channel(1);
    let (written, mut output) = mpsc::channel(1);
    input.send(decoded).await.unwrap();
    drop(input);
    stage.run(to_write, written).await;
    let stored = output.recv().await.unwrap();
    let ids: BTreeSet<u128> = stored
        .announce
        .iter()
        .map(|e| e.event_id.as_u128())
        .collect();
    assert_eq!(ids, (151..=200).collect());
    assert_eq!(world.count("event_log").await, 0);
    assert_eq!(
        (world.count("events").await, world.counted().await),
        (200, 200)
    );
    drop(stored);
    source.shutdown(LIMIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn announcements_wait_for_kafka_and_storing_does_not() {
    let parts = Parts::shared().await;
    let world = World::new(&parts).await;
    let kafka = |brokers: &str| KafkaConfig {
        brokers: brokers.to_owned(),
        topic_prefix: world.prefix.clone(),
        group_id: world.prefix.clone(),
        ..KafkaConfig::default()
    };
    let producer = |brokers: &str| {
        Some(Arc::new(
            Producer::new(&kafka(brokers), &Registry::new()).unwrap(),
        ))
    };
    let records: Vec<_> = (1..=2_500).map(|n| world.event(n, "a.b")).collect();
    let down = world.drain(producer("127.0.0.1:1"));
    world.publish(&records[..2_000]).await;
    world.wait_until_empty().await;
    assert_eq!(world.count("events").await, 2_000);
    assert_eq!(world.count("announcements_due").await, 2_000);
    World::stop(down).await;

    let config = kafka(&parts.kafka_brokers);
    let topic = TopicSpec::new(&config, domain::subject::ANNOUNCEMENTS);
    topics::ensure(&config, std::slice::from_ref(&topic), LIMIT)
        .await
        .unwrap();
    let up = world.drain(producer(&parts.kafka_brokers));
    world.publish(&records[2_000..]).await;
    let due = || world.fresh.count("announcements_due");
    eventually_eq("announcements due", 0, due).await;
    world.wait_until_empty().await;
    eventually_eq("announcements due", 0, due).await;

    let (consumer, mut queues) = Consumer::start(&config, &[topic.name], 1, 8 << 20).unwrap();
    let mut announced = BTreeSet::new();
    let reading = async {
        while announced.len() < 2_500 {
            for record in queues[0].recv().await.unwrap().records {
                let payload = record.payload.unwrap();
                let value: serde_json::Value = serde_json::from_slice(&payload).unwrap();
                let id = Uuid::parse_str(value["event_id"].as_str().unwrap()).unwrap();
                assert_eq!(value["data"]["n"], id.as_u128() as u64);
                let user = format!("user:{}", id.as_u128() % 50);
                assert_eq!(record.key.as_deref(), Some(user.as_bytes()));
                announced.insert(id.as_u128());
            }
        }
    };
    tokio::time::timeout(LIMIT, reading).await.unwrap();
    assert_eq!(announced, (1..=2_500).collect());
    consumer.shutdown(Duration::ZERO).await;
    World::stop(up).await;
}

/// PostgreSQL stopped without a checkpoint, twice, while events come in and are stored: every
/// acknowledged event is stored and counted, none twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_is_stored_is_counted_however_postgres_ends() {
    let parts = Parts::private_of(&[Part::Postgres]).await;
    let world = Arc::new(World::new(&parts).await);
    let drain = world.drain(None);
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut senders = JoinSet::new();
    for sender in 0..4_u128 {
        let (world, stop) = (Arc::clone(&world), Arc::clone(&stop));
        senders.spawn(async move {
            let mut acknowledged = 0;
            for n in 0_u128.. {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                let first = (n * 4 + sender) * 10 + 1;
                let records: Vec<_> = (first..first + 10).map(|n| world.event(n, "a.b")).collect();
                // As a client does: again and again under the same ids, until it is told.
                loop {
                    let published = match world.log.publish(&records) {
                        Ok(ack) => ack.await,
                        Err(error) => Err(error),
                    };
                    if published.is_ok() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                acknowledged += 10;
            }
            acknowledged
        });
    }
    let stored_more = async || {
        let before = world.fresh.count("events").await.unwrap_or(0);
        eventually("more events", LIMIT, || async {
            let now = world.fresh.count("events").await.unwrap_or(0);
            if now > before + 1_000 {
                Ok(())
            } else {
                Err(now)
            }
        })
        .await;
    };
    for _ in 0..2 {
        stored_more().await;
        parts.stop_postgres_immediately().await;
        parts.start(Part::Postgres).await;
    }
    stored_more().await;
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut acknowledged: i64 = 0;
    while let Some(sent) = senders.join_next().await {
        acknowledged += sent.unwrap();
    }
    world.wait_until_empty().await;
    assert_eq!(world.count("events").await, acknowledged);
    assert_eq!(world.counted().await, acknowledged);
    assert_eq!(world.count("dead_letters").await, 0);
    World::stop(drain).await;
}
