//! Keeps the tables small that every event passes through.

use super::locks::{CLASS, VACUUM};
use crate::error::Error;
use crate::pool::Database;

/// Vacuums the log's tables on a connection of its own, unless another process
/// does so now: then false.
///
/// # Errors
/// The database does not answer or refuses.
pub async fn vacuum(db: &Database) -> Result<bool, Error> {
    let client = db.connect().await?;
    client
        .batch_execute("set statement_timeout = '600s'")
        .await?;
    let mine = format!("select pg_try_advisory_lock({CLASS}, $1)");
    if !client.query_one(&mine, &[&VACUUM]).await?.get::<_, bool>(0) {
        return Ok(false);
    }
    // Removed pages at the end go back to the system as far as nobody waits for the table. The lock
    // ends with the connection.
    client.batch_execute("vacuum event_log").await?;
    client.batch_execute("vacuum outbox").await?;
    Ok(true)
}
