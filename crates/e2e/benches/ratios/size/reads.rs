//! What reading costs beside millions of rows, and beside few.

use std::time::{Duration, Instant};

use testkit::{Database, Parts, TestService};

use crate::latency::percentiles;
use crate::report::{Report, median};

/// Requests of a kind, one after the other.
const REQUESTS: i64 = 2_000;
/// Statistics are fewer: each reads what counts there are of a month.
const STATISTICS: usize = 50;

/// Microseconds of one database.
struct Times {
    by_id: (f64, f64),
    history: (f64, f64),
    statistics: f64,
}

/// Compares a database that is full with one of few rows.
pub(super) async fn measure(
    parts: &Parts,
    (full, rows): (&Database, u64),
    (few, less): (&Database, u64),
    report: &mut Report,
) -> anyhow::Result<()> {
    let full = times(parts, full, rows).await?;
    let few = times(parts, few, less).await?;
    let against = format!("{} k rows", less / 1_000);
    let mut add = |what: &str, full: f64, few: f64, goal: f64| {
        let what = format!("{what} at {} M rows", rows / 1_000_000);
        report.add_cost(what, &[full], &against, &[few], "µs", Some(goal));
    };
    add("GET by id, p50", full.by_id.0, few.by_id.0, 2.0);
    add("GET by id, p99", full.by_id.1, few.by_id.1, 2.0);
    add("30 days of a user, p50", full.history.0, few.history.0, 2.0);
    add("30 days of a user, p99", full.history.1, few.history.1, 2.0);
    add("30-day statistics", full.statistics, few.statistics, 1.5);
    Ok(())
}

async fn times(parts: &Parts, database: &Database, rows: u64) -> anyhow::Result<Times> {
    let query = TestService::builder("query")
        .parts(parts)
        .database(database)
        .env("CACHE_STATISTICS_MS", 0)
        .env("CACHE_RECENT_MS", 0)
        .env("LOG_LEVEL", "WARN")
        .start()
        .await;
    let share = (300_000.0 / rows as f64).min(100.0);
    let sql = format!(
        "select event_id::text, user_id from (select event_id, user_id from events tablesample system ({share}) \
         where user_id is not null) sampled \
         where exists (select from event_ids i where i.event_id = sampled.event_id) order by random() limit {REQUESTS}"
    );
    let some = database.rows(&sql, &[]).await?;
    let (mut ids, mut users) = (vec![], vec![]);
    for row in &some {
        ids.push(format!("/api/v1/events/{}", row.try_get::<_, String>(0)?));
        let user: String = row.try_get(1)?;
        users.push(format!("/api/v1/events/user/{user}?started_at={}", month()));
    }
    let statistics = vec![format!("/api/v1/events/statistics?start_time={}", month()); STATISTICS];
    let by_id = ask(&query, &ids).await?;
    let history = ask(&query, &users).await?;
    let statistics = ask(&query, &statistics).await?;
    let micros = |times: &[Duration]| -> Vec<f64> {
        times.iter().map(|time| time.as_secs_f64() * 1e6).collect()
    };
    Ok(Times {
        statistics: median(&micros(&statistics)),
        by_id: percentiles(by_id),
        history: percentiles(history),
    })
}

/// Thirty days ago.
fn month() -> time::Date {
    (time::OffsetDateTime::now_utc() - time::Duration::days(30)).date()
}

/// How long each answer takes.
async fn ask(query: &TestService, paths: &[String]) -> anyhow::Result<Vec<Duration>> {
    let http = reqwest::Client::new();
    let mut times = vec![];
    for round in 0..2 {
        // The first tenth warms connections and plans.
        let paths = if round == 0 {
            &paths[..paths.len() / 10]
        } else {
            paths
        };
        times.clear();
        for path in paths {
            let started = Instant::now();
            let answer = http.get(query.url(path)).send().await?.error_for_status()?;
            answer.bytes().await?;
            times.push(started.elapsed());
        }
    }
    Ok(times)
}
