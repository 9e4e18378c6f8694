//! Fills a database: the rows by COPY with all indexes in place, as they grow in use, then the ids and
//! the counts from them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::ensure;
use store::partitions::{self, Interval, Policy, TARGET_ROWS, make_ahead};
use store::write;
use testkit::Database;
use time::{Duration, OffsetDateTime, Time};
use tokio::task::JoinSet;
use tokio_postgres::Client;

use crate::backlog::{BATCH, built, migrated, send};
use crate::events;
use crate::report::thousands;

/// What else a writer stores with the rows; and that nobody behind the store has them to do still.
const BESIDE: &str = "
insert into log_partitions (topic, partition) values ('filled', 0);
insert into event_ids (event_id, tenant_id, timestamp, content_hash, log_partition, log_offset, by_gateway)
    select event_id, tenant_id, timestamp, hashtextextended(event_id::text, 0),
        (select id from log_partitions where topic = 'filled'), row_number() over (), true from events;
insert into aggregated_events (tenant_id, event_type, date, count)
    select tenant_id, event_type, (timestamp at time zone 'utc')::date, count(*) from events group by 1, 2, 3;
insert into aggregated_events_hourly (tenant_id, hour, event_type, event_source, event_category, count)
    select tenant_id, date_trunc('hour', timestamp), event_type, event_source, event_category, count(*)
    from events group by 1, 2, 3, 4, 5;
insert into event_minutes (tenant, minute, event_type, event_source, api, count)
    select tenant_id, date_trunc('minute', timestamp), event_type, event_source, '', count(*)
    from events group by 1, 2, 3, 4, 5;
update user_counting set counted_until = now();
";

/// Users of so many events.
pub(super) fn users(events: u64) -> u64 {
    (events / 50).max(1)
}

/// Fills an empty database with events of this month so far, in partitions as the processor makes them
/// where so many come.
pub(super) async fn fill(database: &Database, rows: u64) -> anyhow::Result<()> {
    let started = Instant::now();
    let db = migrated(database).await?;
    let admin = database.connect().await?;
    admin.batch_execute("set synchronous_commit = off").await?;
    let now = OffsetDateTime::now_utc() - Duration::hours(1);
    let month = now.replace_day(1)?.replace_time(Time::MIDNIGHT);
    partition(&db, &admin, rows, now - month).await?;
    let step = (now - month).max(Duration::hours(1)) / i32::try_from(rows / 1_000)?;
    let next = std::sync::Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..2 {
        let client = db.connect().await?;
        // Nothing is measured yet.
        client.batch_execute("set synchronous_commit = off").await?;
        let statement = client.prepare(write::COPY).await?;
        let next = std::sync::Arc::clone(&next);
        tasks.spawn(async move {
            let event = |n: u64| {
                let at = month + step * (n as f64 / 1_000.0);
                events::arrived(n, rows, at, users(rows))
            };
            loop {
                let first = next.fetch_add(BATCH as u64, Ordering::Relaxed);
                if first >= rows {
                    return anyhow::Ok(());
                }
                for rows in built(event, first..rows.min(first + BATCH as u64)) {
                    send(&client, &statement, rows).await?;
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    admin.batch_execute(BESIDE).await?;
    admin.batch_execute("vacuum (analyze)").await?;
    println!(
        "  filled with {} rows in {:.0} s",
        thousands(rows as f64),
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Replaces the months that the migrations made by what the processor makes at that rate.
async fn partition(
    db: &store::Database,
    admin: &Client,
    rows: u64,
    time: Duration,
) -> anyhow::Result<()> {
    let days = time.as_seconds_f64() / Duration::DAY.as_seconds_f64();
    let interval = Interval::for_rate((rows as f64 / days.max(1.0)) as i64, TARGET_ROWS);
    for month in partitions::ranges(admin).await? {
        if month.from.is_some() {
            let sql = format!("drop table {}", month.name);
            admin.batch_execute(&sql).await?;
        }
    }
    let policy = Policy {
        interval: Some(interval),
        target_rows: TARGET_ROWS,
        ahead: Duration::DAY,
        horizon: Duration::ZERO,
        keep: None,
    };
    let done = make_ahead(db, &policy, OffsetDateTime::now_utc()).await?;
    ensure!(
        done.obstacle.is_none(),
        "partitions were not made: {done:?}"
    );
    Ok(())
}
