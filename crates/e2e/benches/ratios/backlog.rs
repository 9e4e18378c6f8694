//! A backlog in Kafka → PostgreSQL, exact and counted, against COPY of the same rows, prebuilt,
//! into the same table and indexes, with the same batch size and as many connections as writers.

use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use domain::EventStatus;
use futures_util::SinkExt;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use store::write::{self, FrozenRows, Rows};
use store::{Database, DatabaseConfig, migrate};
use testkit::{Parts, TestService};
use time::OffsetDateTime;

use crate::report::{Report, median, thousands};
use crate::{Options, events as bench_events};

/// Rows of one transaction, of both sides.
const BATCH: usize = 5_000;

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

/// The limit: rows per second of plain COPY.
async fn copy(parts: &Parts, options: &Options, writers: usize) -> anyhow::Result<f64> {
    let database = parts.fresh_database().await;
    let db = Database::new(&DatabaseConfig {
        url: database.url.clone(),
        schema: "event".to_owned(),
        pool_size: 2,
        verify_tls: false,
        application_name: "bench".to_owned(),
    })?;
    migrate::run(&db).await?;
    let now = OffsetDateTime::now_utc();

    let mut shares: Vec<Vec<FrozenRows>> = vec![Vec::new(); writers];
    let mut rows = Rows::default();
    let mut batches = 0;
    for n in 0..options.events {
        rows.push(&bench_events::event(n, 1, now), EventStatus::Processed, now);
        if rows.len() == BATCH || n + 1 == options.events {
            shares[batches % writers].push(std::mem::take(&mut rows).freeze());
            batches += 1;
        }
    }
    database
        .connect()
        .await?
        .batch_execute("checkpoint")
        .await?;
    let mut tasks = tokio::task::JoinSet::new();
    let mut clients = Vec::new();
    for _ in 0..writers {
        let client = db.connect().await?;
        let statement = client.prepare(write::COPY).await?;
        clients.push((client, statement));
    }
    let started = Instant::now();
    for ((client, statement), share) in clients.into_iter().zip(shares) {
        tasks.spawn(async move {
            for rows in share {
                let sink = client.copy_in(&statement).await?;
                futures_util::pin_mut!(sink);
                sink.feed(Bytes::from_static(write::HEADER)).await?;
                sink.feed(rows.all()).await?;
                sink.feed(Bytes::from_static(write::TRAILER)).await?;
                sink.finish().await?;
            }
            Ok::<_, tokio_postgres::Error>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(options.events as f64 / started.elapsed().as_secs_f64())
}

/// Ours: rows per second between the first commit and the last, seen in the counts, of a processor
/// with these roles.
pub(crate) async fn backlog(
    parts: &Parts,
    options: &Options,
    writers: usize,
    roles: &str,
) -> anyhow::Result<f64> {
    let database = parts.fresh_database().await;
    let prefix = testkit::topic_prefix();
    let environment = |name: &str| {
        TestService::builder(name)
            .parts(parts)
            .database(&database)
            .env("KAFKA_TOPIC_PREFIX", &prefix)
            .env("KAFKA_GROUP_ID", format!("{prefix}bench"))
            .env("PROCESSOR_ROLES", roles)
            .env("BRIDGE_GROUP_ID", format!("{prefix}bridge"))
            .env("SSE_PREFIX", format!("{prefix}sse:user:"))
            .env("WRITERS", writers)
            .env("BATCH_SIZE", BATCH)
            .env("LOG_LEVEL", "WARN")
    };
    // The first start makes schema and topics.
    let mut first = environment("processor")
        .env("PROCESSOR_ROLES", "store")
        .start()
        .await;
    first.terminate().await;
    produce(
        parts,
        &format!("{prefix}{}", domain::subject::BACKEND),
        options.events,
    )?;
    let client = database.connect().await?;
    client.batch_execute("checkpoint").await?;

    let _processor = environment("processor").spawn();
    let deadline = Instant::now() + Duration::from_secs(600);
    let (mut first, mut seen) = (None, 0_i64);
    let total = i64::try_from(options.events)?;
    while seen < total {
        anyhow::ensure!(
            Instant::now() < deadline,
            "only {seen} of {total} stored in ten minutes"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
        let row = client
            .query_one(
                "select coalesce(sum(count), 0)::int8 from aggregated_events",
                &[],
            )
            .await?;
        seen = row.get(0);
        if first.is_none() && seen > 0 {
            first = Some((Instant::now(), seen));
        }
    }
    let (started, before) = first.context("nothing was stored")?;
    Ok((total - before) as f64 / started.elapsed().as_secs_f64())
}

/// Fills the topic.
fn produce(parts: &Parts, topic: &str, events: u64) -> anyhow::Result<()> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &parts.kafka_brokers)
        .set("compression.type", "lz4")
        .set("linger.ms", "20")
        .create()?;
    let now = OffsetDateTime::now_utc();
    for n in 0..events {
        let event = bench_events::event(n, 1, now);
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
