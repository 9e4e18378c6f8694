//! The partitions of `events` as they are.

use time::OffsetDateTime;
use tokio_postgres::Client;

use crate::error::Error;

/// A partition of a range of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its table.
    pub name: String,
    /// Its first moment; `None` for the one that holds everything older.
    pub from: Option<OffsetDateTime>,
    /// The first moment after it; `None` only where an operator made one without end.
    pub to: Option<OffsetDateTime>,
}

/// The partitions with a range, the oldest first; the default one is not among them.
///
/// # Errors
/// The database does not answer.
pub async fn ranges(client: &Client) -> Result<Vec<Partition>, Error> {
    let rows = client
        .query(
            "select c.relname::text, (regexp_match(b, 'FROM \\(''([^'']+)'))[1]::timestamptz, \
                 (regexp_match(b, 'TO \\(''([^'']+)'))[1]::timestamptz \
             from pg_inherits join pg_class c on c.oid = inhrelid \
             cross join lateral pg_get_expr(c.relpartbound, c.oid) b \
             where inhparent = 'events'::regclass and b <> 'DEFAULT' order by 2 nulls first",
            &[],
        )
        .await?;
    let partition = |row: &tokio_postgres::Row| {
        Ok(Partition {
            name: row.try_get(0)?,
            from: row.try_get(1)?,
            to: row.try_get(2)?,
        })
    };
    Ok(rows
        .iter()
        .map(partition)
        .collect::<Result<_, tokio_postgres::Error>>()?)
}

/// Where one partition ends and the next begins, the oldest first.
///
/// # Errors
/// The database does not answer.
pub async fn edges(client: &Client) -> Result<Vec<OffsetDateTime>, Error> {
    let ranges = ranges(client).await?;
    Ok(ranges.into_iter().filter_map(|range| range.to).collect())
}
