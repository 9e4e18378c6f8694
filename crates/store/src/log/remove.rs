//! Removing what is stored: the fence of the exactly-once write.

use std::collections::HashSet;

use tokio_postgres::{Client, Statement, Transaction};

use super::Place;
use crate::error::Error;

const REMOVE: &str = "delete from event_log l using unnest($1::int2[], $2::int8[]) u(lane, id) \
    where l.lane = u.lane and l.id = u.id";

const LEFT: &str = "select l.lane, l.id from unnest($1::int2[], $2::int8[]) u(lane, id) \
    join event_log l on l.lane = u.lane and l.id = u.id";

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
    places: &[Place],
) -> Result<(), Error> {
    if places.is_empty() {
        return Ok(());
    }
    let (lanes, ids) = columns(places);
    let removed = tx.execute(statement, &[&lanes, &ids]).await?;
    let removed = usize::try_from(removed).unwrap_or(usize::MAX);
    if removed == places.len() {
        Ok(())
    } else {
        Err(Error::Removed {
            expected: places.len(),
            found: removed,
        })
    }
}

/// Which of these rows are still in the log.
///
/// # Errors
/// The database does not answer.
pub async fn left(client: &Client, places: &[Place]) -> Result<HashSet<Place>, Error> {
    let (lanes, ids) = columns(places);
    let rows = client.query(LEFT, &[&lanes, &ids]).await?;
    Ok(rows
        .iter()
        .map(|row| Place {
            lane: row.get(0),
            id: row.get(1),
        })
        .collect())
}

fn columns(places: &[Place]) -> (Vec<i16>, Vec<i64>) {
    places.iter().map(|place| (place.lane, place.id)).unzip()
}
