//! Makes partitions ahead of time, so that no writer has to.
//!
//! Ranges follow each other without a gap, from the one that holds everything old; what lies beyond
//! the last goes to the default partition. As long as that is empty or small, a new partition costs
//! the others nothing: an empty table is attached, under locks that are given up after a
//! moment. If it has grown (partitions could not be made for long), moving its rows or
//! reading it under a lock would stop everybody: it becomes the next partition itself, and an empty
//! one takes its place.

use time::{Duration, OffsetDateTime};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::interval::Interval;
use super::layout::ranges;
use super::lock;
use super::policy::Policy;
use crate::error::Error;
use crate::pool::Database;

/// So many rows move from the default partition to a new one in a moment.
const MOVABLE: i64 = 10_000;
/// Partitions are there for this long after what lies furthest in the future.
const MARGIN: Duration = Duration::DAY;
/// Where events may lie further in the future than this, no partitions are made for those.
const FURTHEST: Duration = Duration::days(7);

/// What [`make_ahead`] found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ahead {
    /// Names of the new partitions.
    pub made: Vec<String>,
    /// Partitions are there up to this moment.
    pub until: Option<OffsetDateTime>,
    /// Why not all are there that should be.
    pub obstacle: Option<Obstacle>,
}

/// Why partitions are not made; events are stored all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// This role may not create tables, or does not own `events`.
    NotAllowed,
    /// Another transaction holds a lock.
    Locked,
    /// Another process is at it.
    Busy,
}

/// Makes what is missing up to the time the policy wants.
///
/// # Errors
/// The database does not answer. That locks or rights are missing is an [`Obstacle`].
pub async fn make_ahead(
    db: &Database,
    policy: &Policy,
    now: OffsetDateTime,
) -> Result<Ahead, Error> {
    let mut done = Ahead::default();
    let Some(mut client) = lock::acquire(db).await? else {
        done.obstacle = Some(Obstacle::Busy);
        return Ok(done);
    };
    if !lock::may_alter(&client).await? {
        done.obstacle = Some(Obstacle::NotAllowed);
    }
    done.until = end(&client).await?;
    let wanted = now + policy.horizon.min(FURTHEST) + policy.ahead.max(MARGIN);
    while done.obstacle.is_none()
        && let Some(from) = done.until.filter(|until| *until < wanted)
    {
        match next(&mut client, policy, now, from).await {
            Ok(name) => done.made.push(name),
            Err(error) if error.is_lock_timeout() || is_overtaken(&error) => {
                done.obstacle = Some(Obstacle::Locked);
            }
            Err(error) => return Err(error),
        }
        done.until = end(&client).await?;
    }
    Ok(done)
}

/// Where the last range ends.
async fn end(client: &Client) -> Result<Option<OffsetDateTime>, Error> {
    Ok(ranges(client).await?.pop().and_then(|last| last.to))
}

/// Makes the partition that begins at `from`.
async fn next(
    client: &mut Client,
    policy: &Policy,
    now: OffsetDateTime,
    from: OffsetDateTime,
) -> Result<String, Error> {
    let interval = match policy.interval {
        Some(interval) => interval,
        None => Interval::for_rate(rows_a_day(client, now).await?, policy.target_rows),
    };
    let to = interval.end(from);
    let name = interval.name(from);
    let sql = format!(
        "select count(*) from (select from events_default limit {}) few",
        MOVABLE + 1
    );
    let waiting: i64 = client.query_one(&sql, &[]).await?.try_get(0)?;
    if waiting > MOVABLE {
        seal(client, &name, from, now + policy.horizon, interval).await?;
        return Ok(name);
    }
    draft(client).await?;
    let tx = client.transaction().await?;
    if waiting > 0 {
        // The parent too: who waits for it sees the new partition when his turn comes.
        tx.batch_execute(&format!(
            "lock table only events, events_default in access exclusive mode; \
             with moved as (delete from events_default \
                 where timestamp >= '{from}' and timestamp < '{to}' returning *) \
             insert into events_next select * from moved"
        ))
        .await?;
    }
    let attach = attach("events_next", &name, &format!("'{from}'"), to);
    tx.batch_execute(&attach).await?;
    tx.commit().await?;
    Ok(name)
}

/// An empty table like `events`, which is not part of it yet.
pub(super) async fn draft(client: &Client) -> Result<(), Error> {
    Ok(client
        .batch_execute(
            "drop table if exists events_next; create table events_next (like events including all)",
        )
        .await?)
}

/// Statements that make a table the partition `name`; `from` is an expression.
pub(super) fn attach(table: &str, name: &str, from: &str, to: OffsetDateTime) -> String {
    format!(
        "alter table {table} rename to {name}; \
         alter table events attach partition {name} for values from ({from}) to ('{to}')"
    )
}

/// Makes the default partition the one that begins at `from`, and an empty one the default.
///
/// Its end lies beyond every row it has and every row that a gateway lets pass. A check says so, is
/// validated while everybody reads and writes, and spares the scan when the table is attached.
async fn seal(
    client: &mut Client,
    name: &str,
    from: OffsetDateTime,
    latest: OffsetDateTime,
    interval: Interval,
) -> Result<(), Error> {
    let row = client
        .query_one("select max(timestamp) from events_default", &[])
        .await?;
    let last: Option<OffsetDateTime> = row.try_get(0)?;
    let to = interval.end(latest.max(last.unwrap_or(latest)) + MARGIN);
    client
        .batch_execute("alter table events_default drop constraint if exists events_bounds")
        .await?;
    client
        .batch_execute(&format!(
            "alter table events_default add constraint events_bounds \
             check (timestamp >= '{from}' and timestamp < '{to}') not valid"
        ))
        .await?;
    let swapped = swap(client, name, from, to).await;
    if swapped.is_err() {
        // Where even that cannot be had in time the check stays; it holds for all that is let pass.
        let drop = "alter table events_default drop constraint if exists events_bounds";
        if let Err(error) = client.batch_execute(drop).await {
            tracing::debug!(error = %error, "the default partition keeps its bounds until the next attempt");
        }
    }
    swapped
}

async fn swap(
    client: &mut Client,
    name: &str,
    from: OffsetDateTime,
    to: OffsetDateTime,
) -> Result<(), Error> {
    client
        .batch_execute("alter table events_default validate constraint events_bounds")
        .await?;
    draft(client).await?;
    let tx = client.transaction().await?;
    let attach = attach("events_default", name, &format!("'{from}'"), to);
    tx.batch_execute(&format!(
        "alter table events detach partition events_default; {attach}; \
         alter table {name} drop constraint events_bounds; \
         alter table events_next rename to events_default; \
         alter table events attach partition events_default default"
    ))
    .await?;
    Ok(tx.commit().await?)
}

/// How many events a day happen, by the last day and the last two hours. Tenant by tenant: the index
/// begins with it.
async fn rows_a_day(client: &Client, now: OffsetDateTime) -> Result<i64, Error> {
    let row = client
        .query_one(
            "with recursive tenants as ( \
                 select min(tenant_id) as tenant_id from aggregated_events_hourly union all \
                 select (select min(h.tenant_id) from aggregated_events_hourly h \
                     where h.tenant_id > t.tenant_id) \
                 from tenants t where t.tenant_id is not null \
             ) select greatest(coalesce(sum(count), 0), \
                 12 * coalesce(sum(count) filter (where hour > $1::timestamptz - interval '2 hours'), 0))::int8 \
             from tenants join aggregated_events_hourly using (tenant_id) \
             where hour > $1::timestamptz - interval '1 day' and hour <= $1::timestamptz",
            &[&now],
        )
        .await?;
    Ok(row.try_get(0)?)
}

/// Whether rows have come to the default partition that belong to the new one: look again.
fn is_overtaken(error: &Error) -> bool {
    matches!(error, Error::Database(error) if error.code() == Some(&SqlState::CHECK_VIOLATION))
}
