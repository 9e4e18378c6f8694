//! A backlog in Kafka → PostgreSQL, exact and counted, against COPY of the same rows, prebuilt,
//! into the same table and indexes, with the same batch size and as many connections as writers.

use std::ops::Range;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use domain::Event;
use futures_util::SinkExt;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;
use store::write::{self, Rows};
use store::{DatabaseConfig, migrate};
use testkit::{Database, LIMIT, Part, Parts, TestService, cpu, eventually};
use time::OffsetDateTime;
use tokio::task::JoinSet;
use tokio_postgres::{Client, Statement};

use crate::report::{Report, median, thousands};
use crate::{Options, events as bench_events};

/// Rows of one transaction, of both sides.
pub(crate) const BATCH: usize = 5_000;

pub(crate) async fn measure(
    parts: &Parts,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut one_writer = Vec::new();
    for writers in [1, 2, 4] {
        println!(
            "backlog of {} events, {writers} writers",
            thousands(options.events as f64)
        );
        let (mut ours, mut limit) = (vec![], vec![]);
        for round in 0..options.rounds {
            limit.push(copy(parts, options, writers).await?);
            // Storing alone, as what it is compared with.
            ours.push(backlog(parts, options, writers, "store").await?);
            println!(
                "  round {round}: processor {} rows/s, COPY {} rows/s",
                thousands(ours[round]),
                thousands(limit[round])
            );
        }
        let goal = (writers <= 2).then_some(0.8);
        report.add(
            format!("Kafka backlog → Postgres, {writers} writers"),
            &ours,
            format!("COPY over {writers} connections"),
            &limit,
            "rows/s",
            goal,
        );
        match writers {
            1 => one_writer = ours,
            _ => report.add(
                format!("{writers} writers"),
                &ours,
                "1 writer",
                &one_writer,
                "rows/s",
                None,
            ),
        }
    }
    println!("  one writer: {} rows/s", thousands(median(&one_writer)));
    Ok(())
}

/// Something that is defined before a backlog is stored: a path, and what is posted there.
pub(crate) type Definition = (&'static str, Value);

/// A backlog to be stored.
pub(crate) struct Load<'a> {
    pub(crate) database: &'a Database,
    pub(crate) events: u64,
    /// Makes event number `n`.
    pub(crate) event: &'a (dyn Fn(u64) -> Event + Sync),
    pub(crate) writers: usize,
    /// Roles of the processor.
    pub(crate) roles: &'a str,
    /// What is defined before.
    pub(crate) define: Option<&'a Definition>,
}

/// How fast it went, and what it cost.
pub(crate) struct Stored {
    /// Rows a second.
    pub(crate) rate: f64,
    /// Processor time by process, in microseconds an event.
    pub(crate) cpu: Vec<(&'static str, f64)>,
}

/// What events of a run are made of: the same ones for both sides.
fn event_of(n: u64) -> Event {
    static NOW: OnceLock<OffsetDateTime> = OnceLock::new();
    bench_events::event(n, 1, *NOW.get_or_init(OffsetDateTime::now_utc))
}

/// The limit: rows per second of plain COPY into an empty database.
async fn copy(parts: &Parts, options: &Options, writers: usize) -> anyhow::Result<f64> {
    let database = parts.fresh_database().await;
    let load = Load {
        database: &database,
        events: options.events,
        event: &event_of,
        writers,
        roles: "",
        define: None,
    };
    Ok(copy_into(parts, &load).await?.rate)
}

/// A database with its schema.
pub(crate) async fn migrated(database: &Database) -> anyhow::Result<store::Database> {
    let db = store::Database::new(&DatabaseConfig {
        url: database.url.clone(),
        schema: "event".to_owned(),
        pool_size: 2,
        verify_tls: false,
        application_name: "bench".to_owned(),
    })?;
    migrate::run(&db).await?;
    Ok(db)
}

/// Plain COPY of the load, of rows that are built before it begins.
pub(crate) async fn copy_into(parts: &Parts, load: &Load<'_>) -> anyhow::Result<Stored> {
    let db = migrated(load.database).await?;
    let mut shares: Vec<Vec<Bytes>> = vec![Vec::new(); load.writers];
    for (at, rows) in built(load.event, 0..load.events).enumerate() {
        shares[at % load.writers].push(rows);
    }
    let admin = load.database.connect().await?;
    admin.batch_execute("checkpoint").await?;
    let mut tasks = JoinSet::new();
    let mut clients = Vec::new();
    for _ in 0..load.writers {
        let client = db.connect().await?;
        let statement = client.prepare(write::COPY).await?;
        clients.push((client, statement));
    }
    let (started, before) = (Instant::now(), postgres(parts)?);
    for ((client, statement), share) in clients.into_iter().zip(shares) {
        tasks.spawn(async move {
            for rows in share {
                send(&client, &statement, rows).await?;
            }
            // Its processor time is counted while it is there.
            Ok::<_, tokio_postgres::Error>(client)
        });
    }
    let mut connected = vec![];
    while let Some(done) = tasks.join_next().await {
        connected.push(done??);
    }
    let took = started.elapsed();
    let used = (postgres(parts)? - before).as_secs_f64() * 1e6;
    Ok(Stored {
        rate: load.events as f64 / took.as_secs_f64(),
        cpu: vec![("PostgreSQL", used / load.events as f64)],
    })
}

/// The rows of these events, as many at a time as a transaction has.
pub(crate) fn built(
    event: impl Fn(u64) -> Event,
    numbers: Range<u64>,
) -> impl Iterator<Item = Bytes> {
    let now = OffsetDateTime::now_utc();
    let end = numbers.end;
    numbers.step_by(BATCH).map(move |first| {
        let mut rows = Rows::default();
        for n in first..end.min(first + BATCH as u64) {
            rows.push(&event(n), Some(now));
        }
        rows.take()
    })
}

/// One COPY.
pub(crate) async fn send(
    client: &Client,
    statement: &Statement,
    rows: Bytes,
) -> Result<(), tokio_postgres::Error> {
    let sink = client.copy_in(statement).await?;
    futures_util::pin_mut!(sink);
    sink.feed(Bytes::from_static(write::HEADER)).await?;
    sink.feed(rows).await?;
    sink.feed(Bytes::from_static(write::TRAILER)).await?;
    sink.finish().await?;
    Ok(())
}

fn postgres(parts: &Parts) -> anyhow::Result<Duration> {
    cpu(parts.pid(Part::Postgres))
}

/// Ours into an empty database: rows per second of a processor with these roles.
pub(crate) async fn backlog(
    parts: &Parts,
    options: &Options,
    writers: usize,
    roles: &str,
) -> anyhow::Result<f64> {
    let database = parts.fresh_database().await;
    let load = Load {
        database: &database,
        events: options.events,
        event: &event_of,
        writers,
        roles,
        define: None,
    };
    Ok(store(parts, &load).await?.rate)
}

/// Ours: rows per second between the first commit and the last, seen in the counts; of a processor
/// that has a bridge, until that has seen all of them too.
pub(crate) async fn store(parts: &Parts, load: &Load<'_>) -> anyhow::Result<Stored> {
    let prefix = testkit::topic_prefix();
    let environment = |name: &str| {
        TestService::builder(name)
            .parts(parts)
            .database(load.database)
            .env("KAFKA_TOPIC_PREFIX", &prefix)
            .env("KAFKA_GROUP_ID", format!("{prefix}bench"))
            .env("PROCESSOR_ROLES", load.roles)
            .env("BRIDGE_GROUP_ID", format!("{prefix}bridge"))
            .env("SSE_PREFIX", format!("{prefix}sse:user:"))
            .env("WRITERS", load.writers)
            .env("BATCH_SIZE", BATCH)
            // What it costs is measured by itself.
            .env("SEARCH", "off")
            .env("LOG_LEVEL", "WARN")
    };
    // The first start makes schema and topics.
    let mut first = environment("processor")
        .env("PROCESSOR_ROLES", "store")
        .start()
        .await;
    if let Some(what) = load.define {
        define(&environment("query").start().await, what).await;
    }
    first.terminate().await;
    let topic = format!("{prefix}{}", domain::subject::BACKEND);
    produce(parts, &topic, load)?;
    let client = load.database.connect().await?;
    client.batch_execute("checkpoint").await?;
    let there = counted(&client).await?;

    let own = |pid: u32| -> anyhow::Result<_> {
        Ok([
            ("processor", cpu(pid)?),
            ("PostgreSQL", postgres(parts)?),
            ("Kafka", cpu(parts.pid(Part::Kafka))?),
            ("Redis", cpu(parts.pid(Part::Redis))?),
        ])
    };
    let processor = environment("processor").spawn();
    let before = own(processor.pid())?;
    let deadline = Instant::now() + Duration::from_secs(600);
    let (mut first, mut seen) = (None, 0_i64);
    let total = i64::try_from(load.events)?;
    while seen < total {
        anyhow::ensure!(
            Instant::now() < deadline,
            "only {seen} of {total} stored in ten minutes"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
        seen = counted(&client).await? - there;
        if first.is_none() && seen > 0 {
            first = Some((Instant::now(), seen));
        }
    }
    if load.roles.contains("bridge") {
        while consumed(&processor).await? < load.events {
            anyhow::ensure!(Instant::now() < deadline, "the bridge has not seen all");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let (started, before_first) = first.context("nothing was stored")?;
    let took = started.elapsed();
    let after = own(processor.pid())?;
    let each = |at: usize| (after[at].1 - before[at].1).as_secs_f64() * 1e6 / load.events as f64;
    Ok(Stored {
        rate: (total - before_first) as f64 / took.as_secs_f64(),
        cpu: (0..after.len()).map(|at| (after[at].0, each(at))).collect(),
    })
}

/// Defines it while a processor runs, and waits until it works.
async fn define(query: &TestService, (path, what): &Definition) {
    let http = reqwest::Client::new();
    eventually("it is defined", LIMIT, || async {
        let answer = http.post(query.url(path)).json(what).send().await?;
        answer.error_for_status()
    })
    .await;
    eventually("it works", LIMIT, || async {
        let defined = http.get(query.url(path)).send().await;
        let defined = defined.map_err(|error| error.to_string())?.text().await;
        match defined.map_err(|error| error.to_string())? {
            building if building.contains(r#""building""#) => Err(building),
            _ => Ok(()),
        }
    })
    .await;
}

async fn counted(client: &Client) -> anyhow::Result<i64> {
    let sql = "select coalesce(sum(count), 0)::int8 from aggregated_events";
    Ok(client.query_one(sql, &[]).await?.try_get(0)?)
}

/// Events that the bridge is done with.
async fn consumed(processor: &TestService) -> anyhow::Result<u64> {
    let metrics = reqwest::get(processor.url("/metrics"))
        .await?
        .text()
        .await?;
    let done = metrics.lines().filter(|line| {
        line.starts_with("eventbridge_events_total{") && line.contains(r#"status="consumed""#)
    });
    let number = |line: &str| line.rsplit(' ').next()?.parse::<f64>().ok();
    Ok(done.filter_map(number).sum::<f64>() as u64)
}

/// Fills the topic.
fn produce(parts: &Parts, topic: &str, load: &Load<'_>) -> anyhow::Result<()> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &parts.kafka_brokers)
        .set("compression.type", "lz4")
        .set("linger.ms", "20")
        .create()?;
    for n in 0..load.events {
        let event = (load.event)(n);
        let (key, payload) = (domain::stream::log_key(&event), event.to_canonical());
        let mut record = BaseRecord::to(topic).key(&key).payload(&payload);
        while let Err((error, returned)) = producer.send(record) {
            anyhow::ensure!(
                error.rdkafka_error_code() == Some(rdkafka::types::RDKafkaErrorCode::QueueFull),
                "{error}"
            );
            record = returned;
            producer.poll(Duration::from_millis(10));
        }
    }
    producer.flush(Duration::from_secs(60))?;
    Ok(())
}
