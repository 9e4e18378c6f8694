//! Both shapes with the same events on the same machine: posted in batches, stored, counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use testkit::{Database, Parts, TestService};
use tokio::task::JoinSet;

use crate::report::{Report, thousands};
use crate::{Options, events, sets};

const CONNECTIONS: usize = 16;
pub(crate) const PER_BATCH: u64 = 50;
/// How long storing may take before something is wrong.
const LIMIT: Duration = Duration::from_secs(600);

/// Events a second from the first request until all are in the counts.
pub(crate) async fn measure(
    parts: &Parts,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    let total = options.events / 4 / PER_BATCH * PER_BATCH;
    println!(
        "{} events in batches of {PER_BATCH} until stored, {CONNECTIONS} connections",
        thousands(total as f64)
    );
    let batches: Arc<[Bytes]> = (0..total / PER_BATCH).map(batch).collect();
    let (mut one, mut split) = (vec![], vec![]);
    for round in 0..options.rounds {
        split.push(three_services(parts, &batches).await?);
        one.push(one_process(parts, &batches).await?);
        println!(
            "  round {round}: all-in-one {} events/s, split {} events/s",
            thousands(one[round]),
            thousands(split[round])
        );
    }
    report.add(
        "all-in-one, POST 50 events until stored",
        &one,
        "split shape",
        &split,
        "events/s",
        None,
    );
    Ok(())
}

/// The n-th batch.
pub(crate) fn batch(number: u64) -> Bytes {
    let first = number * PER_BATCH;
    let bodies: Vec<String> = (first..first + PER_BATCH)
        .map(|n| events::body(n, "", ""))
        .collect();
    format!("[{}]", bodies.join(",")).into()
}

/// Ingest and processor on Kafka; nobody listens live, so Redis has nothing to do in either shape.
async fn three_services(parts: &Parts, batches: &Arc<[Bytes]>) -> anyhow::Result<f64> {
    let database = parts.fresh_database().await;
    let prefix = testkit::topic_prefix();
    let service = |name: &str| {
        TestService::builder(name)
            .parts(parts)
            .database(&database)
            .env("KAFKA_TOPIC_PREFIX", &prefix)
            .env("KAFKA_GROUP_ID", format!("{prefix}bench"))
            .env("SSE_PREFIX", format!("{prefix}sse:user:"))
            .env("LOG_LEVEL", "WARN")
    };
    let _processor = service("processor").start().await;
    let ingest = service("ingest").start().await;
    run(&ingest, &database, batches, 0).await
}

/// `tidegate serve` on PostgreSQL alone.
async fn one_process(parts: &Parts, batches: &Arc<[Bytes]>) -> anyhow::Result<f64> {
    let (database, tidegate) = sets::one_process(parts).await;
    run(&tidegate, &database, batches, 0).await
}

/// Events a second from the first request until all are in the counts, beside those that were there before.
pub(crate) async fn run(
    service: &TestService,
    database: &Database,
    batches: &Arc<[Bytes]>,
    before: u64,
) -> anyhow::Result<f64> {
    let client = database.connect().await?;
    client.batch_execute("checkpoint").await?;
    let total = i64::try_from(batches.len() as u64 * PER_BATCH)?;
    let url = service.url("/api/v1/events/batch");
    let http = reqwest::Client::new();
    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let mut senders = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (http, url, next) = (http.clone(), url.clone(), Arc::clone(&next));
        let batches = Arc::clone(batches);
        senders.spawn(async move {
            while let Some(body) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                http.post(&url)
                    .header("content-type", "application/json")
                    .body(body.clone())
                    .send()
                    .await?
                    .error_for_status()?;
            }
            Ok::<_, reqwest::Error>(())
        });
    }
    while let Some(sent) = senders.join_next().await {
        sent??;
    }
    loop {
        let row = client
            .query_one(
                "select coalesce(sum(count), 0)::int8 from aggregated_events",
                &[],
            )
            .await?;
        let stored = row.get::<_, i64>(0) - i64::try_from(before)?;
        if stored == total {
            return Ok(total as f64 / started.elapsed().as_secs_f64());
        }
        anyhow::ensure!(
            started.elapsed() < LIMIT,
            "only {stored} of {total} were stored in ten minutes"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
