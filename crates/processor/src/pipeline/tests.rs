//! The pipeline of the Postgres log on a real PostgreSQL, and Kafka where announcements go.

use std::collections::BTreeSet;
use std::time::Duration;

use domain::Limits;
use eventlog::kafka::{Consumer, KafkaConfig, Producer, TopicSpec, topics};
use eventlog::postgres::{Handle, PostgresLog, PostgresLogConfig, PostgresSource};
use eventlog::{Chunk, Outgoing};
use prometheus::Registry;
use store::{DatabaseConfig, migrate};
use testkit::{LIMIT, Part, Parts, eventually, eventually_eq, topic_prefix};
use uuid::Uuid;

use super::*;
use crate::pipeline::decode::Content;

mod delivery;
mod stale;

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

    fn records(&self) -> RecordDecoder {
        RecordDecoder::postgres(Limits::default(), &self.prefix)
    }

    fn drain(&self, producer: Option<Arc<Producer>>) -> (Handle, JoinSet<()>) {
        self.drain_to(producer, None)
    }

    fn drain_to(
        &self,
        producer: Option<Arc<Producer>>,
        input: Option<DirectInput>,
    ) -> (Handle, JoinSet<()>) {
        let (source, queues) = PostgresSource::start(&self.db, 2, 4 << 20, input.is_some());
        let pipeline = Pipeline {
            db: self.db.clone(),
            source: Arc::new(source.clone()),
            records: self.records(),
            after: After::Deliver {
                input,
                producer: producer.map(|producer| producer as Arc<dyn Publisher>),
            },
            announcements: crate::pipeline::announcement::Announcements {
                topic: format!("{}{}", self.prefix, domain::subject::ANNOUNCEMENTS).into(),
                format: domain::cloudevent::Format::default(),
                nats: false,
            },
            nats: None,
            detour: Detour::new(&self.db),
            batch: BatchLimits {
                records: 300,
                bytes: 1 << 20,
            },
            types_a_day: 1_000,
            rules: RuleCache::new(&self.db, vec![]),
            instrumentation: None,
            extensions: Arc::default(),
            metrics: Self::metrics(),
        };
        let tasks = pipeline.start(queues);
        (source, tasks)
    }

    async fn stop((source, mut tasks): (Handle, JoinSet<()>)) {
        source.shutdown(LIMIT).await;
        while let Some(task) = tasks.join_next().await {
            task.unwrap();
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
async fn two_processors_store_once_and_keep_what_cannot_be_stored_as_dead_letters() {
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
    assert_eq!(world.count("outbox").await, 0, "nobody will announce");
    World::stop(drains.0).await;
    World::stop(drains.1).await;
}

#[tokio::test]
async fn what_another_processor_stored_is_not_stored_again() {
    let world = World::new(&Parts::shared().await).await;
    let records: Vec<_> = (1..=200).map(|n| world.event(n, "a.b")).collect();
    world.publish(&records[..150]).await;
    // One takes the rows and freezes.
    let (frozen, mut queues) = PostgresSource::start(&world.db, 1, 4 << 20, false);
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
    let (source, mut queues) = PostgresSource::start(&world.db, 1, 4 << 20, false);
    while chunks.iter().map(|c| c.records.len()).sum::<usize>() < 200 {
        chunks.push(queues[0].recv().await.unwrap());
    }
    let rules = RuleCache::new(&world.db, vec![]);
    let decoded = Decoder::new(world.records()).decode(chunks, &*rules.current().await);
    assert!(
        decoded
            .items
            .iter()
            .all(|item| matches!(item.content, Content::Event { .. }))
    );
    let stage = WriteStage::new(
        world.db.clone(),
        Arc::new(source.clone()),
        store::outbox::Announce::nowhere(),
        1_000,
        rules,
        Arc::default(),
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
    // Those that are stored already are announced again: the other one may not have come to that.
    assert_eq!(ids, (1..=200).collect());
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
    assert_eq!(world.count("outbox").await, 2_000);
    World::stop(down).await;

    let config = kafka(&parts.kafka_brokers);
    let topic = TopicSpec::new(&config, domain::subject::ANNOUNCEMENTS);
    topics::ensure(&config, std::slice::from_ref(&topic), LIMIT)
        .await
        .unwrap();
    let up = world.drain(producer(&parts.kafka_brokers));
    world.publish(&records[2_000..]).await;
    let due = || world.fresh.count("outbox");
    eventually_eq("messages in the outbox", 0, due).await;
    world.wait_until_empty().await;
    eventually_eq("messages in the outbox", 0, due).await;

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

/// A transaction that appended past the lock of the log becomes visible between the reading and the
/// storing of what comes after it: nothing is passed over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_becomes_visible_late_is_stored_with_those_after_it() {
    let world = World::new(&Parts::shared().await).await;
    let partition = store::log::partition_of(b"user:7");
    let mut hidden = world.fresh.connect().await.unwrap();
    let row = hidden.transaction().await.unwrap();
    let late = world.event(7, "a.b");
    row.execute(
        "insert into event_log (partition, topic, key, headers, payload) \
         values ($1, $2, $3, ''::bytea, $4)",
        &[&partition, &&*late.topic, &late.key, &late.payload.as_ref()],
    )
    .await
    .unwrap();
    // Storing waits, reading does not.
    let mut blocker = world.fresh.connect().await.unwrap();
    let lock = blocker.transaction().await.unwrap();
    lock.batch_execute("lock table event_ids in exclusive mode")
        .await
        .unwrap();
    let records: Vec<_> = (1..=3).map(|n| world.event(7 + 50 * n, "a.b")).collect();
    world.publish(&records).await;
    let drain = world.drain(None);
    eventually("a transaction that waits", LIMIT, || async {
        let sql = "select count(*) from pg_locks where not granted \
            and relation = 'event.event_ids'::regclass";
        let waiting: i64 = world.fresh.scalar(sql, &[]).await.unwrap();
        if waiting > 0 { Ok(()) } else { Err("none") }
    })
    .await;
    row.commit().await.unwrap();
    lock.commit().await.unwrap();
    world.wait_until_empty().await;
    assert_eq!(world.count("events").await, 4);
    assert_eq!(world.counted().await, 4);
    World::stop(drain).await;
}

/// Connections end at any moment, also in the middle of a commit, and partitions are lost and won
/// back: the positions tell what happened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_break_lose_and_double_nothing() {
    const EVENTS: u128 = 6_000;
    let world = Arc::new(World::new(&Parts::shared().await).await);
    let drains = (world.drain(None), world.drain(None));
    let client = world.fresh.connect().await.unwrap();
    let sending = tokio::spawn({
        let world = Arc::clone(&world);
        async move {
            for first in (1..EVENTS).step_by(50) {
                let events = first..first + 50;
                let records: Vec<_> = events.map(|n| world.event(n, "a.b")).collect();
                // Again under the same ids, until it is acknowledged.
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
            }
        }
    });
    let mut ended = 0_i64;
    while !sending.is_finished() || ended == 0 {
        let sql = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
            where datname = current_database() and pid <> pg_backend_pid() \
            and query ~ '^(copy|update log|insert into aggr|commit|select pg_try)'";
        ended += client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    sending.await.unwrap();
    world.wait_until_empty().await;
    let events = i64::try_from(EVENTS).unwrap();
    assert_eq!(world.count("events").await, events);
    assert_eq!(world.counted().await, events);
    assert_eq!(world.count("dead_letters").await, 0);
    World::stop(drains.0).await;
    World::stop(drains.1).await;
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
                // As a client does: again and again under the same ids, until it is acknowledged.
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

/// "cached plan must not change result type": for ever, on the connection that has the plan.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_altered_under_a_writer_stops_nothing() {
    let world = World::new(&Parts::shared().await).await;
    let drain = world.drain(None);
    let records: Vec<_> = (1..=200).map(|n| world.event(n, "a.b")).collect();
    world.publish(&records[..100]).await;
    world.wait_until_empty().await;
    // With the same event once more, so that the ids are looked at.
    world.publish(&records[..100]).await;
    world.wait_until_empty().await;
    let client = world.fresh.connect().await.unwrap();
    let alter = "drop policy own_tenants on event_ids; \
        alter table event_ids alter column tenant_id type varchar(80)";
    client.batch_execute(alter).await.unwrap();
    world.publish(&records).await;
    world.wait_until_empty().await;
    assert_eq!(
        (world.count("events").await, world.counted().await),
        (200, 200)
    );
    World::stop(drain).await;
}
