//! For those who follow the storing at their own pace: whether there is more, and up to where all of it is seen.

use time::OffsetDateTime;
use tokio_postgres::Client;

use crate::error::Error;

/// A transaction that begins while it is looked for open ones has begun no earlier than this before.
const MARGIN: &str = "interval '250 milliseconds'";

/// How much was stored so far, as a number that grows with it, and the time of the database.
///
/// # Errors
/// The database does not answer.
pub async fn stored(client: &Client) -> Result<(i64, OffsetDateTime), Error> {
    let sql = "select coalesce(sum(stored), 0)::int8, clock_timestamp() from log_positions";
    let row = client.query_one(sql, &[]).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Until when all that was stored is to be seen: no open transaction of a processor began before. Asked of
/// a connection that has a processor's name.
///
/// # Errors
/// The database does not answer.
pub async fn horizon(client: &Client) -> Result<OffsetDateTime, Error> {
    let sql = format!(
        "select least(clock_timestamp() - {MARGIN}, min(xact_start)) from pg_stat_activity \
         where datname = current_database() and pid <> pg_backend_pid() \
         and application_name = current_setting('application_name')"
    );
    Ok(client.query_one(&sql, &[]).await?.try_get(0)?)
}
