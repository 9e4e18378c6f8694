//! What goes on beside the storing: what search and audits cost it, and what the cache saves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use testkit::{Database, Parts, TestService};
use tokio::task::JoinSet;

use crate::Options;
use crate::report::{Report, thousands};
use crate::shapes::{self, batch};

/// Readers who ask the same.
const READERS: usize = 200;

/// The split shape, storing.
struct Storing {
    database: Database,
    ingest: TestService,
    query: TestService,
    _processor: TestService,
}

impl Storing {
    async fn start(parts: &Parts, env: &[(&str, &str)]) -> Self {
        let database = parts.fresh_database().await;
        let prefix = testkit::topic_prefix();
        let service = |name: &str| {
            let service = TestService::builder(name)
                .parts(parts)
                .database(&database)
                .env("KAFKA_TOPIC_PREFIX", &prefix)
                .env("KAFKA_GROUP_ID", format!("{prefix}bench"))
                .env("PROCESSOR_ROLES", "store")
                .env("LOG_LEVEL", "WARN");
            env.iter()
                .fold(service, |service, (name, value)| service.env(name, value))
        };
        Self {
            _processor: service("processor").start().await,
            ingest: service("ingest").start().await,
            query: service("query").start().await,
            database,
        }
    }

    /// Events a second from the first request until all are in the counts.
    async fn store(&self, batches: &Arc<[Bytes]>) -> anyhow::Result<f64> {
        shapes::run(&self.ingest, &self.database, batches, 0).await
    }
}

fn batches(first: u64, events: u64) -> Arc<[Bytes]> {
    (first..first + events / shapes::PER_BATCH)
        .map(batch)
        .collect()
}

/// Storing with search on PostgreSQL beside it, and without.
pub(crate) async fn search(
    parts: &Parts,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    let total = options.events / 4;
    println!("{} events stored, search beside", thousands(total as f64));
    let all = batches(0, total);
    let (mut with, mut without) = (vec![], vec![]);
    for round in 0..options.rounds {
        for (search, rates) in [("off", &mut without), ("postgres", &mut with)] {
            let storing = Storing::start(parts, &[("SEARCH", search)]).await;
            rates.push(storing.store(&all).await?);
        }
        println!(
            "  round {round}: with search {} events/s, without {} events/s",
            thousands(with[round]),
            thousands(without[round])
        );
    }
    report.add(
        "storing with search on PostgreSQL",
        &with,
        "search off",
        &without,
        "events/s",
        Some(0.95),
    );
    Ok(())
}

/// Storing while an audit goes over what was stored, and without.
pub(crate) async fn audit(
    parts: &Parts,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    let total = options.events / 4;
    println!("{} events stored, an audit beside", thousands(total as f64));
    let before = batches(0, total);
    let more = batches(total / shapes::PER_BATCH, total);
    let (mut with, mut without) = (vec![], vec![]);
    for round in 0..options.rounds {
        for (audited, rates) in [(false, &mut without), (true, &mut with)] {
            let storing = Storing::start(parts, &[("SEARCH", "off")]).await;
            storing.store(&before).await?;
            let ended = Arc::new(AtomicBool::new(!audited));
            let (url, end) = (
                storing.query.url("/api/v1/admin/audits"),
                Arc::clone(&ended),
            );
            // One after the other, as long as it takes.
            let auditing = tokio::spawn(async move {
                let http = reqwest::Client::new();
                let mut audits = 0;
                while !end.load(Ordering::Relaxed) {
                    let made: serde_json::Value =
                        http.post(&url).body("{}").send().await?.json().await?;
                    let one = format!("{url}/{}", made["audit_id"].as_str().unwrap_or_default());
                    audits += 1;
                    loop {
                        let now: serde_json::Value = http.get(&one).send().await?.json().await?;
                        if now["state"] != "running" || end.load(Ordering::Relaxed) {
                            break;
                        }
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
                Ok::<_, reqwest::Error>(audits)
            });
            // The totals that are waited for are of both parts.
            rates.push(shapes::run(&storing.ingest, &storing.database, &more, total).await?);
            ended.store(true, Ordering::Relaxed);
            let audits = auditing.await??;
            anyhow::ensure!(!audited || audits > 0, "no audit was begun");
        }
        println!(
            "  round {round}: with audits {} events/s, without {} events/s",
            thousands(with[round]),
            thousands(without[round])
        );
    }
    report.add(
        "storing beside an audit",
        &with,
        "without",
        &without,
        "events/s",
        Some(0.9),
    );
    Ok(())
}

/// Statistics a second for readers who ask the same, kept for a second and not at all.
pub(crate) async fn cache(
    parts: &Parts,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    println!("{READERS} readers of the statistics");
    let (mut kept, mut fresh) = (vec![], vec![]);
    let mut reads = [0.0; 2];
    for round in 0..options.rounds {
        for (at, (ttl, rates)) in [("1000", &mut kept), ("0", &mut fresh)]
            .into_iter()
            .enumerate()
        {
            let storing = Storing::start(parts, &[("CACHE_STATISTICS_MS", ttl)]).await;
            storing.store(&batches(0, 20_000)).await?;
            let before = statistics_reads(&storing.query).await?;
            rates.push(ask(&storing.query, options.seconds).await?);
            let read = statistics_reads(&storing.query).await? - before;
            reads[at] = read / options.seconds as f64;
        }
        println!(
            "  round {round}: kept {} answers/s, PostgreSQL read {:.1} times a second; not kept {}, {:.1} times",
            thousands(kept[round]),
            reads[0],
            thousands(fresh[round]),
            reads[1],
        );
    }
    report.add(
        format!("statistics for {READERS} readers, kept for a second"),
        &kept,
        "read for each",
        &fresh,
        "answers/s",
        Some(1.0),
    );
    Ok(())
}

async fn ask(query: &TestService, seconds: u64) -> anyhow::Result<f64> {
    let url = query.url("/api/v1/events/stats");
    let answers = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let until = started + Duration::from_secs(seconds);
    let http = reqwest::Client::new();
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let (http, url, answers) = (http.clone(), url.clone(), Arc::clone(&answers));
        readers.spawn(async move {
            while Instant::now() < until {
                let answer = http.get(&url).send().await?.error_for_status()?;
                answer.bytes().await?;
                answers.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, reqwest::Error>(())
        });
    }
    while let Some(done) = readers.join_next().await {
        done??;
    }
    Ok(answers.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64())
}

/// How often they were read from PostgreSQL.
async fn statistics_reads(query: &TestService) -> anyhow::Result<f64> {
    let metrics = reqwest::get(query.url("/metrics")).await?.text().await?;
    let name = "tidegate_query_read_duration_seconds_count{read=\"statistics\"} ";
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    Ok(line.map_or(Ok(0.0), str::parse)?)
}
