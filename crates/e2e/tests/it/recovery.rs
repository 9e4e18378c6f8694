//! Beginnings and ends: dependencies that are down, topics that were made anew, migrations by
//! many, draining, wrong settings.

use std::collections::{BTreeMap, HashSet};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::json;
use testkit::{LIMIT, Part, Parts, TestService, eventually, eventually_eq};
use uuid::Uuid;

use crate::direct::{Record, create_topic, delete_topic, produce};
use crate::ledger::{announcements, assert_counts, everything_on_the_log, wait_worked_off};
use crate::world::{
    BACKEND, PARTITIONS, PATIENCE, World, beside_others, probe, run, wait_assigned,
};

/// That many events for one partition; `anonymous` ones have no id of their own.
fn events(partition: i32, count: usize, anonymous: bool) -> Vec<Record> {
    let event = |n| {
        let mut event = json!({"event_type": "recovered", "data": {"n": n}});
        if !anonymous {
            event["event_id"] = json!(Uuid::now_v7());
        }
        Record::new(partition, "k", event.to_string())
    };
    (0..count).map(event).collect()
}

async fn wait_stored(world: &World, count: i64) {
    eventually_eq("stored events", count, || world.database.count("event_ids")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_is_read_from_its_beginning() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let mut processor = world.start_processor().await;
    produce(&world, BACKEND, &events(0, 500, false)).await;
    wait_stored(&world, 500).await;
    assert!(processor.terminate().await.success());

    // The processor makes it itself, and the stored offset lies beyond its end.
    delete_topic(&world, BACKEND).await;
    processor.restart().await;
    wait_assigned(&world, &[&processor]).await;
    produce(&world, BACKEND, &events(0, 20, false)).await;
    wait_stored(&world, 520).await;
    assert_counts(&world, 520).await;
    let next: i64 = world
        .database
        .scalar(
            "select stored from log_positions where topic = $1 and partition = 0",
            &[&world.topic(BACKEND)],
        )
        .await
        .unwrap();
    assert_eq!(next, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_under_a_running_processor_is_read_from_its_beginning() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let _processor = world.start_processor().await;
    produce(&world, BACKEND, &events(0, 500, false)).await;
    wait_stored(&world, 500).await;
    delete_topic(&world, BACKEND).await;
    create_topic(&world, BACKEND, PARTITIONS).await;
    wait_topic(&world).await;
    produce(&world, BACKEND, &events(0, 20, false)).await;
    wait_stored(&world, 520).await;
    assert_counts(&world, 520).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_that_has_outgrown_the_stored_offset_loses_nothing() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let mut processor = world.start_processor().await;
    produce(&world, BACKEND, &events(0, 100, false)).await;
    wait_stored(&world, 100).await;
    assert!(processor.terminate().await.success());

    // Its offsets 0 to 99 have been stored once already, but those were other events.
    delete_topic(&world, BACKEND).await;
    create_topic(&world, BACKEND, PARTITIONS).await;
    wait_topic(&world).await;
    produce(&world, BACKEND, &events(0, 300, false)).await;
    processor.restart().await;
    wait_worked_off(&world, &everything_on_the_log(&world).await).await;
    wait_stored(&world, 400).await;
    assert_counts(&world, 400).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dependencies_that_are_down_at_the_start_are_waited_for() {
    let _turn = beside_others().await;
    let world = World::private().await;

    // No PostgreSQL: what comes is on the log, and stored as soon as there is one.
    world.parts.stop(Part::Postgres).await;
    let mut processor = world.processor().spawn();
    let mut query = world.service("query").spawn();
    assert_unready(&processor, "postgres").await;
    assert_unready(&query, "postgres").await;
    wait_topic(&world).await;
    produce(&world, BACKEND, &events(0, 100, false)).await;
    world.parts.start(Part::Postgres).await;
    processor.wait_ready().await;
    query.wait_ready().await;
    wait_stored(&world, 100).await;

    // It goes while all run, and comes back.
    world.parts.stop_postgres_immediately().await;
    assert_unready(&processor, "postgres").await;
    assert_unready(&query, "postgres").await;
    produce(&world, BACKEND, &events(0, 100, false)).await;
    world.parts.start(Part::Postgres).await;
    processor.wait_ready().await;
    query.wait_ready().await;
    wait_stored(&world, 200).await;
    processor.kill();

    // No Kafka.
    world.parts.kill(Part::Kafka).await;
    let mut processor = world.processor().spawn();
    let mut ingest = world.service("ingest").env("SPILL", "off").spawn();
    assert_unready(&processor, "kafka").await;
    assert_unready(&ingest, "kafka").await;
    let answer = crate::sender::client()
        .post(ingest.url("/api/v1/events/create"))
        .json(&testkit::event::backend("early").json())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 503);
    world.parts.start(Part::Kafka).await;
    processor.wait_ready().await;
    ingest.wait_ready().await;
    produce(&world, BACKEND, &events(0, 100, false)).await;
    eventually("all are stored", PATIENCE, || async {
        match world
            .database
            .count("events where event_type = 'recovered'")
            .await
        {
            Ok(300) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    for service in [&mut processor, &mut ingest, &mut query] {
        assert_eq!(service.exited(), None);
        assert!(!service.log().contains("panicked"));
    }
}

/// The processor makes it, with or without a database.
async fn wait_topic(world: &World) {
    let topic = world.topic(BACKEND);
    eventually("the topic is there", LIMIT, || world.kcat.consume(&topic)).await;
}

/// It lives, but says what it lacks.
async fn assert_unready(service: &TestService, check: &str) {
    eventually("unready, with the reason", LIMIT, || async {
        let (status, ready) = probe(service, "/ready")
            .await
            .map_err(|e| format!("{e:#}"))?;
        let check = &ready["checks"][check];
        let detail = check["detail"].as_str().unwrap_or_default();
        if status == 503 && check["ok"] == json!(false) && !detail.is_empty() {
            Ok(())
        } else {
            Err(ready.to_string())
        }
    })
    .await;
    assert_eq!(probe(service, "/health").await.unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_by_command_may_run_at_the_same_time_and_again() {
    let _turn = beside_others().await;
    let database = Parts::shared().await.fresh_database().await;
    let migrate = {
        let url = database.url.clone();
        move || {
            let output = run("processor", &["migrate"], &[("DATABASE_URL", &url)]);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(
                output.status.success(),
                "{text} {}",
                String::from_utf8_lossy(&output.stderr)
            );
            text.lines()
                .filter(|line| line.starts_with("applied "))
                .map(str::to_owned)
                .collect()
        }
    };
    let at_once: Vec<_> = (0..4)
        .map(|_| {
            let migrate = migrate.clone();
            std::thread::spawn(move || -> Vec<String> { migrate() })
        })
        .collect();
    let applied: Vec<String> = at_once
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
        .collect();
    let distinct: HashSet<&String> = applied.iter().collect();
    assert!(!applied.is_empty());
    assert_eq!(distinct.len(), applied.len(), "applied twice: {applied:?}");
    let again: Vec<String> = migrate();
    assert!(again.is_empty(), "{again:?}");
    assert_eq!(database.count("event.events").await.unwrap(), 0);
    let recorded = database
        .count("event.refinery_schema_history")
        .await
        .unwrap();
    assert_eq!(usize::try_from(recorded).unwrap(), applied.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_drains() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    // Little of the backlog fits into the buffer, so that it is stopped in the middle.
    let mut processor = world
        .processor()
        .env("BATCH_SIZE", 200)
        .env("WRITERS", 2)
        .env("BUFFER_BYTES", 512 << 10)
        .start()
        .await;
    wait_assigned(&world, &[&processor]).await;
    assert_eq!(processor.terminate().await.code(), Some(0));
    let mut records = Vec::new();
    for partition in 0..PARTITIONS {
        records.extend(events(partition, 4_000, false));
    }
    for record in &mut records {
        // JSON does not mind.
        record.payload.as_mut().unwrap().resize(1_000, b' ');
    }
    produce(&world, BACKEND, &records).await;
    let database = world.database.connect().await.unwrap();
    processor.restart().await;
    eventually("events are being stored", PATIENCE, || async {
        let row = database
            .query_one("select exists (select from event_ids)", &[])
            .await
            .unwrap();
        if row.get(0) { Ok(()) } else { Err("none") }
    })
    .await;
    let status = processor.terminate().await;
    assert_eq!(status.code(), Some(0), "{status}");

    // What it took it stored, announced and acknowledged to the group.
    let stored = world.database.count("event_ids").await.unwrap();
    println!("{stored} of {} stored at the end", records.len());
    let rows = world
        .database
        .rows(
            "select topic, partition, stored from log_positions where topic not like '%:%'",
            &[],
        )
        .await
        .unwrap();
    let in_database: BTreeMap<(String, i32), i64> = rows
        .iter()
        .map(|row| ((row.get(0), row.get(1)), row.get(2)))
        .collect();
    assert_eq!(in_database.values().sum::<i64>(), stored);
    assert_eq!(committed(&world, in_database.keys()), in_database);
    assert_eq!(
        announcements(&world).await.len(),
        usize::try_from(stored).unwrap()
    );

    // So the next one repeats nothing: no announcement is there twice.
    processor.restart().await;
    wait_worked_off(&world, &everything_on_the_log(&world).await).await;
    assert_counts(&world, records.len()).await;
    let status = processor.terminate().await;
    assert_eq!(status.code(), Some(0), "{status}");
    assert_eq!(announcements(&world).await.len(), records.len());
}

/// What the processors' group has acknowledged to Kafka.
fn committed<'a>(
    world: &World,
    partitions: impl Iterator<Item = &'a (String, i32)>,
) -> BTreeMap<(String, i32), i64> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &world.parts.kafka_brokers)
        .set("group.id", world.topic("processor"))
        .create()
        .unwrap();
    let mut wanted = TopicPartitionList::new();
    for (topic, partition) in partitions {
        wanted.add_partition(topic, *partition);
    }
    let found = tokio::task::block_in_place(|| consumer.committed_offsets(wanted, LIMIT)).unwrap();
    let offset = |offset: Offset| match offset {
        Offset::Offset(offset) => offset,
        _ => 0,
    };
    let elements = found.elements();
    elements
        .iter()
        .map(|e| ((e.topic().to_owned(), e.partition()), offset(e.offset())))
        .collect()
}

#[test]
fn invalid_settings_are_named_and_refused() {
    for (binary, settings) in [
        ("processor", &[("PROCESSOR_PORT", "http")][..]),
        ("processor", &[("BATCH_SIZE", "0"), ("WRITERS", "many")]),
        ("processor", &[("PARTITION_INTERVAL", "week")]),
        ("processor", &[("DATABASE_URL", "mysql://u:hush@h/d")]),
        ("processor", &[("DB_SCHEMA", "a; drop table b")]),
        (
            "processor",
            &[("KAFKA_COMPRESSION", "rar"), ("MIGRATE_ON_START", "maybe")],
        ),
        ("processor", &[("MAX_EVENT_BYTES", "a lot")]),
        ("ingest", &[("INGEST_PORT", "70000")]),
        (
            "ingest",
            &[("MAX_BODY_BYTES", "-1"), ("TRUSTED_PROXIES", "everyone")],
        ),
        ("ingest", &[("KAFKA_MESSAGE_TIMEOUT_MS", "soon")]),
        ("query", &[("QUERY_PORT", "-8208")]),
        (
            "query",
            &[
                ("DB_POOL_SIZE", "0"),
                ("DATABASE_URL", "postgresql://u:hush@h:port/d"),
            ],
        ),
    ] {
        let output = run(binary, &[], settings);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{binary} {settings:?}: {errors}"
        );
        for (variable, _) in settings {
            assert!(
                errors.contains(variable),
                "{binary} does not name {variable}: {errors}"
            );
        }
        assert!(!errors.contains("hush"), "a password is shown: {errors}");
    }
}
