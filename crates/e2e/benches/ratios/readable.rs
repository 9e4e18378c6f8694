//! How soon after its answer an event can be read.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use testkit::{Parts, TestService};

use crate::Options;
use crate::latency::percentiles;
use crate::live::event;
use crate::report::{Report, thousands};

/// Events of a round, one after the other.
const EVENTS: u64 = 100;
/// The goal.
const GOAL: f64 = 200_000.0;

/// From the answer of POST to the first 200 of GET, asked every two milliseconds.
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
    let (mut p50, mut p99) = (vec![], vec![]);
    for round in 0..=options.rounds {
        let mut took = Vec::new();
        for n in 0..EVENTS {
            let post = http.post(ingest.url("/api/v1/events/create"));
            let answer = post.json(&event("reader", n, "a note")).send().await?;
            let created: Value = answer.error_for_status()?.json().await?;
            let answered = Instant::now();
            let id = created["event_id"].as_str().context("no id")?;
            let url = query.url(&format!("/api/v1/events/{id}"));
            loop {
                match http.get(&url).send().await?.status().as_u16() {
                    200 => break,
                    404 => tokio::time::sleep(Duration::from_millis(2)).await,
                    other => bail!("{other}"),
                }
                ensure!(answered.elapsed() < Duration::from_secs(60), "{id}");
            }
            took.push(answered.elapsed());
        }
        let (half, most) = percentiles(took);
        // The first round warms up.
        if round > 0 {
            println!(
                "  round {round}: p50 {} µs, p99 {} µs",
                thousands(half),
                thousands(most)
            );
            p50.push(half);
            p99.push(most);
        }
    }
    let against = "the goal";
    report.add_cost("POST → readable, p50", &p50, against, &[GOAL], "µs", None);
    report.add_cost(
        "POST → readable, p99",
        &p99,
        against,
        &[GOAL],
        "µs",
        Some(1.0),
    );
    Ok(())
}
