//! How soon after its answer an event can be read.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use testkit::{Parts, TestService};

use crate::Options;
use crate::latency::percentiles;
use crate::live::event;
use crate::report::{Report, thousands};

/// The newest events.
const RECENT: &str = "/api/v1/events/recent";
/// Events of a round, one after the other.
const EVENTS: u64 = 100;
/// The goal.
const GOAL: f64 = 200_000.0;

/// From the answer of POST to the first GET that tells of the event, by its id and among the newest, asked
/// every two milliseconds.
pub(crate) async fn measure(
    parts: &Parts,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    println!("POST answered → readable");
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
    let query = service("query").start().await;
    let http = reqwest::Client::new();
    for (what, path) in [("readable", None), ("in recent", Some(RECENT))] {
        let (mut p50, mut p99) = (vec![], vec![]);
        for round in 0..=options.rounds {
            let (half, most) = percentiles(took(&http, &ingest, &query, path).await?);
            // The first round warms up.
            if round > 0 {
                println!(
                    "  round {round}: {what}, p50 {} µs, p99 {} µs",
                    thousands(half),
                    thousands(most)
                );
                p50.push(half);
                p99.push(most);
            }
        }
        for (which, all, goal) in [("p50", &p50, None), ("p99", &p99, Some(1.0))] {
            let what = format!("POST → {what}, {which}");
            report.add_cost(&what, all, "the goal", &[GOAL], "µs", goal);
        }
    }
    Ok(())
}

/// How long each event of a round took until this path told of it; that of the event itself without one.
async fn took(
    http: &reqwest::Client,
    ingest: &TestService,
    query: &TestService,
    path: Option<&str>,
) -> anyhow::Result<Vec<Duration>> {
    let mut took = Vec::new();
    for n in 0..EVENTS {
        let post = http.post(ingest.url("/api/v1/events/create"));
        let answer = post.json(&event("reader", n, "a note")).send().await?;
        let created: Value = answer.error_for_status()?.json().await?;
        let answered = Instant::now();
        let id = created["event_id"].as_str().context("no id")?;
        let own = format!("/api/v1/events/{id}");
        let url = query.url(path.unwrap_or(&own));
        while !holds(http, &url, id).await? {
            tokio::time::sleep(Duration::from_millis(2)).await;
            ensure!(answered.elapsed() < Duration::from_secs(60), "{id}");
        }
        took.push(answered.elapsed());
    }
    Ok(took)
}

/// Whether an answer tells of that event.
async fn holds(http: &reqwest::Client, url: &str, id: &str) -> anyhow::Result<bool> {
    let answer = http.get(url).send().await?;
    match answer.status().as_u16() {
        200 => Ok(answer.text().await?.contains(id)),
        404 => Ok(false),
        other => bail!("{other}"),
    }
}
