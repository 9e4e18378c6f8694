//! Removes old events with their ids, and what is counted of single users; the other counts stay.
//!
//! Partitions that end before the cut leave the table in one short transaction, then their ids are
//! deleted in small ones, then they are dropped. What is older than the cut in the partition that
//! holds everything old is deleted in small transactions. Whatever ends it half-way, the next run
//! goes on.

use std::time::Duration;

use time::{OffsetDateTime, Time};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, GenericClient};

use super::ahead::{attach, draft};
use super::layout::{Partition, ranges};
use super::lock;
use crate::error::Error;
use crate::pool::Database;
use crate::user_counts;

/// Pages of a table that one small transaction goes through: about 8,000 events.
const PAGES: i64 = 500;
/// Attempts to get the locks, a moment each, before it is left to a later run.
const ATTEMPTS: usize = 20;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(250);

/// What a run would remove.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Events before this are removed: a full hour, UTC.
    pub cut: OffsetDateTime,
    /// The partitions that are dropped, the oldest first, with their rows.
    pub partitions: Vec<(Partition, i64)>,
    /// Rows deleted from the partition that holds everything old.
    pub rows: i64,
    /// Days of which the counts stay although their events go.
    pub counted_days: i64,
    /// The events counted on them, of all tenants.
    pub counted_events: i64,
}

/// What a run removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// The partitions.
    pub partitions: Vec<String>,
    /// Rows deleted from the partition that holds everything old.
    pub rows: u64,
    /// Ids deleted, of both.
    pub ids: u64,
}

/// The cut of events kept for that long.
#[must_use]
pub fn cut(now: OffsetDateTime, keep: time::Duration) -> OffsetDateTime {
    let at = now.saturating_sub(keep).to_offset(time::UtcOffset::UTC);
    Time::from_hms(at.hour(), 0, 0).map_or(at, |hour| at.replace_time(hour))
}

/// Looks what would be removed; changes nothing. Counts the rows one by one.
///
/// # Errors
/// The database does not answer.
pub async fn plan(db: &Database, cut: OffsetDateTime) -> Result<Plan, Error> {
    let client = db.connect().await?;
    let mut plan = Plan {
        cut,
        partitions: Vec::new(),
        rows: 0,
        counted_days: 0,
        counted_events: 0,
    };
    for range in ranges(&client).await? {
        let sql = format!("select count(*) from {} where timestamp < $1", range.name);
        if is_before(&range, cut) {
            let rows = client.query_one(&sql, &[&cut]).await?.try_get(0)?;
            plan.partitions.push((range, rows));
        } else if range.from.is_none() {
            plan.rows = client.query_one(&sql, &[&cut]).await?.try_get(0)?;
        }
    }
    let sql = "select count(distinct date), coalesce(sum(count), 0)::int8 from aggregated_events \
        where date < $1";
    let row = client.query_one(sql, &[&cut.date()]).await?;
    (plan.counted_days, plan.counted_events) = (row.try_get(0)?, row.try_get(1)?);
    Ok(plan)
}

/// Since when events are kept; `None` if none were removed yet.
///
/// # Errors
/// The database does not answer.
pub async fn kept_from(client: &Client) -> Result<Option<OffsetDateTime>, Error> {
    let row = client
        .query_one("select max(kept_from) from retention", &[])
        .await?;
    Ok(row.try_get(0)?)
}

/// Removes the events before the cut.
///
/// # Errors
/// The database does not answer, another process is altering partitions, or a transaction of
/// another transaction keeps a lock; what is done stays done.
pub async fn apply(db: &Database, cut: OffsetDateTime) -> Result<Removed, Error> {
    let Some(mut client) = lock::acquire(db).await? else {
        return Err(Error::Pool(
            "another process is making or dropping partitions".to_owned(),
        ));
    };
    if !lock::may_alter(&client).await? {
        return Err(Error::Pool(
            "this role may not drop partitions: it does not own the table events".to_owned(),
        ));
    }
    let mut removed = Removed::default();
    finish(&client, &mut removed).await?;
    let mut attempt = 0;
    while let Err(error) = retire(&mut client, cut).await {
        attempt += 1;
        if !error.is_lock_timeout() || attempt == ATTEMPTS {
            return Err(error);
        }
        tokio::time::sleep(PAUSE).await;
    }
    finish(&client, &mut removed).await?;
    for range in ranges(&client).await? {
        if range.from.is_none() && range.to.is_none_or(|to| to > cut) {
            let old = format!(
                "delete from {} where {PART} and timestamp < $3 returning event_id, tenant_id, timestamp",
                range.name
            );
            let (rows, ids) = delete_ids(&client, &range.name, &old, &[&cut]).await?;
            removed.rows += rows;
            removed.ids += ids;
        }
    }
    user_counts::retire(&client, cut.date()).await?;
    Ok(removed)
}

fn is_before(range: &Partition, cut: OffsetDateTime) -> bool {
    range.to.is_some_and(|to| to <= cut)
}

/// The rows between two places of a table.
const PART: &str = "ctid >= $1::text::tid and ctid < $2::text::tid";

/// Deletes the ids of the events that a statement gives, part by part of the table; returns the
/// numbers of both. `more` are its parameters from the third on.
async fn delete_ids(
    client: &Client,
    table: &str,
    gone: &str,
    more: &[&(dyn ToSql + Sync)],
) -> Result<(u64, u64), Error> {
    let delete = client
        .prepare(&format!(
            "with gone as ({gone}), ids as (delete from event_ids i using gone g \
             where i.event_id = g.event_id and i.tenant_id = g.tenant_id returning 1), \
             results as (delete from processing_results r using gone g \
             where r.event_id = g.event_id and r.tenant_id = g.tenant_id), \
             found as (delete from event_search s using gone g where s.tenant = g.tenant_id \
             and s.timestamp = g.timestamp and s.event_id = g.event_id) \
             select (select count(*) from gone), (select count(*) from ids)"
        ))
        .await?;
    let sql = "select pg_relation_size($1::text::regclass) / current_setting('block_size')::int8";
    let pages: i64 = client.query_one(sql, &[&table]).await?.try_get(0)?;
    let (mut all, mut ids) = (0, 0);
    let mut page = 0;
    while page < pages {
        let (from, to) = (format!("({page},0)"), format!("({},0)", page + PAGES));
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&from, &to];
        parameters.extend(more);
        let row = client.query_one(&delete, &parameters).await?;
        all += row.try_get::<_, i64>(0)?.unsigned_abs();
        ids += row.try_get::<_, i64>(1)?.unsigned_abs();
        page += PAGES;
    }
    Ok((all, ids))
}

/// Takes the partitions before the cut out of `events`. Older events that still come have their
/// place again at once.
async fn retire(client: &mut Client, cut: OffsetDateTime) -> Result<(), Error> {
    let before: Vec<Partition> = ranges(client)
        .await?
        .into_iter()
        .filter(|range| is_before(range, cut))
        .collect();
    let Some(end) = before.last().and_then(|last| last.to) else {
        return keep_from(&*client, cut).await;
    };
    draft(client).await?;
    let tx = client.transaction().await?;
    for Partition { name, .. } in &before {
        tx.batch_execute(&format!(
            "alter table events detach partition {name}; \
             alter table {name} rename to retired_{name}"
        ))
        .await?;
    }
    let past = attach("events_next", "events_past", "minvalue", end);
    tx.batch_execute(&past).await?;
    keep_from(&tx, cut.max(end)).await?;
    Ok(tx.commit().await?)
}

async fn keep_from(client: &impl GenericClient, at: OffsetDateTime) -> Result<(), Error> {
    client
        .execute(
            "insert into retention (kept_from) values ($1) on conflict (one) \
             do update set kept_from = greatest(retention.kept_from, excluded.kept_from)",
            &[&at],
        )
        .await?;
    Ok(())
}

/// Deletes the ids of the partitions that were taken out, and drops them.
async fn finish(client: &Client, removed: &mut Removed) -> Result<(), Error> {
    let rows = client
        .query(
            "select relname::text from pg_class where relnamespace = current_schema()::regnamespace \
             and relkind = 'r' and relname like 'retired\\_events\\_%' and not relispartition",
            &[],
        )
        .await?;
    for row in rows {
        let name: String = row.try_get(0)?;
        let all = format!("select event_id, tenant_id, timestamp from {name} where {PART}");
        removed.ids += delete_ids(client, &name, &all, &[]).await?.1;
        client.batch_execute(&format!("drop table {name}")).await?;
        removed
            .partitions
            .push(name.trim_start_matches("retired_").to_owned());
    }
    Ok(())
}
