//! How far it is judged. The processor that has the lease moves it in the transaction that writes what
//! was found, so each alert is announced once, whichever process dies.

use time::OffsetDateTime;
use tokio_postgres::Client;
use uuid::Uuid;

use super::alerts::{self, StoredAlert};
use crate::error::Error;
use crate::lease::{FREE, LEASED};
use crate::log::NewRow;
use crate::outbox::{Message, Sinks};
use crate::pool::Database;
use crate::write::announce;

/// What was found up to a time.
#[derive(Debug)]
pub struct Judged<'a> {
    /// How far it was judged before.
    pub from: Option<OffsetDateTime>,
    /// How far it is now.
    pub until: OffsetDateTime,
    /// The alerts that changed, as they are now; what is resolved first.
    pub alerts: &'a [StoredAlert],
    /// What is announced.
    pub messages: &'a [Message],
    /// Where.
    pub to: Sinks,
    /// The events that tell of it, for the log.
    pub events: &'a [NewRow<'a>],
}

/// Takes or renews the lease: how far it is judged, which is nothing the first time; `None` while another
/// processor has it.
///
/// # Errors
/// The database does not answer.
pub async fn claim(client: &Client, owner: Uuid) -> Result<Option<Option<OffsetDateTime>>, Error> {
    let sql = format!(
        "update anomaly_clock set {LEASED} \
         where leased_by = $1 or {FREE} returning judged_until"
    );
    let row = client.query_opt(&sql, &[&owner]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// Writes what was found, whole or not at all; false if another processor was faster.
///
/// # Errors
/// The database does not answer. Where the commit fails it may have been written all the same.
pub async fn record(db: &Database, owner: Uuid, judged: &Judged<'_>) -> Result<bool, Error> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    let advance = "update anomaly_clock set judged_until = $3 \
        where leased_by = $1 and judged_until is not distinct from $2";
    let moved = tx
        .execute(advance, &[&owner, &judged.from, &judged.until])
        .await?;
    if moved == 0 {
        return Ok(false);
    }
    for alert in judged.alerts {
        alerts::save(&tx, alert).await?;
    }
    announce(&tx, judged.messages, judged.to).await?;
    // Last, for who appends to the log waits for the commit.
    crate::log::append_with(&tx, judged.events).await?;
    tx.commit().await?;
    Ok(true)
}

/// Removes counts by the minute from before that time, some at a time; true if there may be more.
///
/// # Errors
/// The database does not answer.
pub async fn forget(client: &Client, before: OffsetDateTime) -> Result<bool, Error> {
    let sql = "delete from event_minutes where ctid = any(array( \
        select ctid from event_minutes where minute < $1 limit 20000))";
    Ok(client.execute(sql, &[&before]).await? == 20_000)
}
