//! How much is waiting, and keeping the table small.

use std::time::Duration;

use tokio_postgres::Client;

use super::{LANES, LOCK_CLASS, LOCK_VACUUM};
use crate::error::Error;
use crate::pool::Database;

/// What waits in the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Records appended and not yet stored.
    pub records: i64,
    /// Age of the oldest of them; `None` when there is none.
    pub oldest: Option<Duration>,
}

/// What waits in the whole log. Counts rows, which takes a tenth of a second per million: ask every
/// few seconds, not for every request.
///
/// # Errors
/// The database does not answer, or the schema is not there yet.
pub async fn backlog(client: &Client) -> Result<Backlog, Error> {
    let records = depths(client).await?.iter().map(|(_, rows)| rows).sum();
    Ok(Backlog {
        records,
        oldest: oldest(client).await?,
    })
}

/// How many rows each lane has; lanes without rows are left out.
///
/// # Errors
/// The database does not answer, or the schema is not there yet.
pub async fn depths(client: &Client) -> Result<Vec<(i16, i64)>, Error> {
    let rows = client
        .query(
            "select lane, count(*) from event_log group by lane order by lane",
            &[],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// The age of the oldest row, from the first one of each lane.
///
/// # Errors
/// The database does not answer, or the schema is not there yet.
pub async fn oldest(client: &Client) -> Result<Option<Duration>, Error> {
    let row = client
        .query_one(
            "select extract(epoch from clock_timestamp() - min(first.created_at))::float8 \
             from generate_series(0, $1::int2 - 1) n cross join lateral ( \
                 select created_at from event_log l where l.lane = n::int2 order by l.id limit 1 \
             ) first",
            &[&LANES],
        )
        .await?;
    let seconds: Option<f64> = row.get(0);
    // A clock set back makes it negative.
    Ok(seconds.map(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default()))
}

/// Vacuums the log's tables on a connection of its own, unless somebody else is at it. False then.
///
/// # Errors
/// The database does not answer or refuses.
pub async fn vacuum(db: &Database) -> Result<bool, Error> {
    let client = db.connect().await?;
    client
        .batch_execute("set statement_timeout = '600s'")
        .await?;
    let mine = format!("select pg_try_advisory_lock({LOCK_CLASS}, $1)");
    if !client
        .query_one(&mine, &[&LOCK_VACUUM])
        .await?
        .get::<_, bool>(0)
    {
        return Ok(false);
    }
    // Removed pages at the end go back to the system as far as nobody waits for the table. The lock
    // ends with the connection.
    client.batch_execute("vacuum event_log").await?;
    client.batch_execute("vacuum announcements_due").await?;
    Ok(true)
}
