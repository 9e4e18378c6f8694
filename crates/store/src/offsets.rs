//! How far each partition of the log has been stored: the fence of the exactly-once write (C40).

use tokio_postgres::{Client, Statement, Transaction};

use crate::error::Error;

const ADVANCE: &str = "update log_offsets o set next_offset = u.until, updated_at = now() \
    from unnest($1::text[], $2::int4[], $3::int8[], $4::int8[]) u(topic, partition, start, until) \
    where o.topic = u.topic and o.partition = u.partition and o.next_offset = u.start";

/// One partition's step from the offset that was next to the one that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advance {
    /// Full topic name.
    pub topic: String,
    /// Partition of the topic.
    pub partition: i32,
    /// The offset that must still be next.
    pub from: i64,
    /// The offset that is next afterwards.
    pub to: i64,
}

pub(crate) async fn prepare(client: &Client) -> Result<Statement, Error> {
    Ok(client.prepare(ADVANCE).await?)
}

/// Moves the offsets, all or (by the caller's rollback) none.
pub(crate) async fn advance(
    tx: &Transaction<'_>,
    statement: &Statement,
    advances: &[Advance],
) -> Result<(), Error> {
    let topics: Vec<&str> = advances.iter().map(|a| a.topic.as_str()).collect();
    let partitions: Vec<i32> = advances.iter().map(|a| a.partition).collect();
    let from: Vec<i64> = advances.iter().map(|a| a.from).collect();
    let to: Vec<i64> = advances.iter().map(|a| a.to).collect();
    let moved = tx
        .execute(statement, &[&topics, &partitions, &from, &to])
        .await?;
    match advances.first() {
        Some(first) if usize::try_from(moved).ok() != Some(advances.len()) => Err(Error::Fenced {
            topic: first.topic.clone(),
            partition: first.partition,
            expected: first.from,
        }),
        _ => Ok(()),
    }
}

/// The next offset of a partition; the first time, `first` becomes it.
///
/// # Errors
/// The database does not answer.
pub async fn open(client: &Client, topic: &str, partition: i32, first: i64) -> Result<i64, Error> {
    client
        .execute(
            "insert into log_offsets (topic, partition, next_offset) values ($1, $2, $3) \
             on conflict do nothing",
            &[&topic, &partition, &first],
        )
        .await?;
    let row = client
        .query_one(
            "select next_offset from log_offsets where topic = $1 and partition = $2",
            &[&topic, &partition],
        )
        .await?;
    Ok(row.get(0))
}

/// Sets a partition back to `to`, if it still stands at `from`: for a topic that was deleted and
/// made again, whose offsets began anew. True if it did.
///
/// # Errors
/// The database does not answer.
pub async fn reset(
    client: &Client,
    topic: &str,
    partition: i32,
    from: i64,
    to: i64,
) -> Result<bool, Error> {
    let moved = client
        .execute(
            "update log_offsets set next_offset = $4, updated_at = now() \
             where topic = $1 and partition = $2 and next_offset = $3",
            &[&topic, &partition, &from, &to],
        )
        .await?;
    Ok(moved == 1)
}
