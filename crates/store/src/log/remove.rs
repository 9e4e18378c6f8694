//! Removing what is stored: the fence of the exactly-once write.

use std::collections::HashSet;

use tokio_postgres::{Client, Statement, Transaction};

use super::partition::LogPosition;
use crate::error::Error;

const REMOVE: &str = "delete from event_log l using unnest($1::int2[], $2::int8[]) u(partition, id) \
    where l.partition = u.partition and l.id = u.id";

const LEFT: &str = "select l.partition, l.id from unnest($1::int2[], $2::int8[]) u(partition, id) \
    join event_log l on l.partition = u.partition and l.id = u.id";

pub(crate) async fn prepare(client: &Client) -> Result<Statement, Error> {
    Ok(client.prepare(REMOVE).await?)
}

/// Removes the rows, which must be distinct. Where another transaction is removing one of them, waits
/// for its end.
///
/// # Errors
/// [`Error::Removed`] if some are gone already: look which are [`left`].
pub(crate) async fn remove(
    tx: &Transaction<'_>,
    statement: &Statement,
    positions: &[LogPosition],
) -> Result<(), Error> {
    if positions.is_empty() {
        return Ok(());
    }
    let (partitions, ids) = columns(positions);
    let removed = tx.execute(statement, &[&partitions, &ids]).await?;
    let removed = usize::try_from(removed).unwrap_or(usize::MAX);
    if removed == positions.len() {
        Ok(())
    } else {
        Err(Error::Removed {
            expected: positions.len(),
            found: removed,
        })
    }
}

/// Which of these rows are still in the log.
///
/// # Errors
/// The database does not answer.
pub async fn left(
    client: &Client,
    positions: &[LogPosition],
) -> Result<HashSet<LogPosition>, Error> {
    let (partitions, ids) = columns(positions);
    let rows = client.query(LEFT, &[&partitions, &ids]).await?;
    Ok(rows
        .iter()
        .map(|row| LogPosition {
            partition: row.get(0),
            offset: row.get(1),
        })
        .collect())
}

fn columns(positions: &[LogPosition]) -> (Vec<i16>, Vec<i64>) {
    positions
        .iter()
        .map(|position| (position.partition, position.offset))
        .unzip()
}
