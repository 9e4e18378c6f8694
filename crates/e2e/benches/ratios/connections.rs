//! Memory of idle streams, beside nchan where that is installed.

use std::time::Duration;

use testkit::Parts;

use crate::live::{Live, open_many};
use crate::nchan::Nchan;
use crate::report::{Report, thousands};

const IDLE: usize = 5_000;

/// Bytes of resident memory for each of five thousand idle streams, of as many users.
pub(crate) async fn measure(parts: &Parts, report: &mut Report) -> anyhow::Result<()> {
    println!("{} idle streams", thousands(IDLE as f64));
    let live = Live::start(parts).await;
    let path = |n| format!("/api/v1/sse/users/user-{n}");
    let per_stream = |before: u64, after: u64| after.saturating_sub(before) as f64 / IDLE as f64;
    // The first hundred bring what a process needs once.
    let first = open_many(live.query.port(), 100, |n| path(1_000_000 + n)).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = live.query.memory().rss;
    let streams = open_many(live.query.port(), IDLE, path).await?;
    // Some heartbeats pass.
    tokio::time::sleep(Duration::from_secs(35)).await;
    let ours = per_stream(before, live.query.memory().rss);
    println!("  query: {} bytes", thousands(ours));
    drop((first, streams));
    report.add_cost(
        "an idle stream of 5,000",
        &[ours],
        "the goal",
        &[10_240.0],
        "bytes",
        Some(1.0),
    );
    if let Some(nchan) = Nchan::start(&parts.redis_url).await? {
        let first = open_many(nchan.port(), 100, |n| format!("/sub/{}", 1_000_000 + n)).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = nchan.memory()?;
        let streams = open_many(nchan.port(), IDLE, |n| format!("/sub/{n}")).await?;
        tokio::time::sleep(Duration::from_secs(35)).await;
        let theirs = per_stream(before, nchan.memory()?);
        println!("  nchan: {} bytes", thousands(theirs));
        drop((first, streams));
        report.add_cost(
            "an idle stream of 5,000",
            &[ours],
            "nchan on Redis",
            &[theirs],
            "bytes",
            None,
        );
    }
    Ok(())
}
