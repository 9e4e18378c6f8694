//! The step `positions`: how far each partition of a log is stored (`log_positions`). They are the
//! fence of the exactly-once write (C40), and what tells whether a commit happened.

use std::collections::HashMap;

use tokio_postgres::{Client, Statement, Transaction};
use uuid::Uuid;

use super::dead_letters::{self, DeadLetter};
use crate::error::Error;
use crate::log::LOG;
use crate::pool::Database;

const ADVANCE: &str = "update log_positions p \
    set stored = u.until, live = coalesce(u.live, p.live), updated_at = now() \
    from unnest($1::text[], $2::int4[], $3::int8[], $4::int8[], $5::int8[]) \
        u(topic, partition, start, until, live) \
    where p.topic = u.topic and p.partition = u.partition and p.stored = u.start \
        and p.owner is not distinct from $6::uuid";

/// Deletes the rows of these steps; returns the partitions that had another number of them.
const DELETE: &str = "with step as materialized ( \
        select * from unnest($1::int2[], $2::int8[], $3::int8[], $4::int8[]) \
            u(partition, start, until, records) \
    ), deleted as ( \
        delete from event_log l using step s \
        where l.partition = s.partition and l.id >= s.start and l.id < s.until \
        returning l.partition \
    ), counted as (select partition, count(partition) as found from deleted group by partition) \
    select s.partition, s.records, coalesce(c.found, 0) \
    from step s left join counted c on c.partition = s.partition \
    where s.records <> coalesce(c.found, 0)";

/// One partition's step from the offset that was stored next to the one that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advance {
    /// Full name of the topic, or [`LOG`].
    pub topic: String,
    /// Partition of the topic.
    pub partition: i32,
    /// The offset that must still be the next to store.
    pub from: i64,
    /// The offset that is next afterwards.
    pub to: i64,
    /// The records of the batch between the two. In the Postgres log their rows are deleted, and
    /// there must be no others.
    pub records: i64,
    /// The offset up to which listeners have what is stored; `None` leaves it as it is.
    pub live: Option<i64>,
}

#[derive(Debug)]
pub(super) struct Statements {
    advance: Statement,
    delete: Statement,
}

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            advance: client.prepare(ADVANCE).await?,
            delete: client.prepare(DELETE).await?,
        })
    }
}

/// Moves the positions and deletes the rows between, all or (by the caller's rollback) none.
///
/// # Errors
/// [`Error::Conflict`] if a position is not where the batch began, if another consumer owns it, or
/// if the rows between are not the batch's records.
pub(super) async fn advance(
    tx: &Transaction<'_>,
    statements: &Statements,
    advances: &[Advance],
    owner: Option<Uuid>,
) -> Result<(), Error> {
    let Some(first) = advances.first() else {
        return Ok(());
    };
    let topics: Vec<&str> = advances.iter().map(|a| a.topic.as_str()).collect();
    let partitions: Vec<i32> = advances.iter().map(|a| a.partition).collect();
    let from: Vec<i64> = advances.iter().map(|a| a.from).collect();
    let to: Vec<i64> = advances.iter().map(|a| a.to).collect();
    let live: Vec<Option<i64>> = advances.iter().map(|a| a.live).collect();
    let moved = tx
        .execute(
            &statements.advance,
            &[&topics, &partitions, &from, &to, &live, &owner],
        )
        .await?;
    if usize::try_from(moved).ok() != Some(advances.len()) {
        let Advance {
            topic,
            partition,
            from,
            ..
        } = first;
        return Err(Error::Conflict(format!(
            "another consumer has stored {topic}/{partition} beyond offset {from}, or one of {} \
             other partitions",
            advances.len() - 1
        )));
    }
    delete(tx, &statements.delete, advances).await
}

async fn delete(
    tx: &Transaction<'_>,
    statement: &Statement,
    advances: &[Advance],
) -> Result<(), Error> {
    let steps: Vec<&Advance> = advances.iter().filter(|a| a.topic == LOG).collect();
    if steps.is_empty() {
        return Ok(());
    }
    // The log has 16 partitions.
    let number = |a: &&Advance| i16::try_from(a.partition).unwrap_or(-1);
    let partitions: Vec<i16> = steps.iter().map(number).collect();
    let from: Vec<i64> = steps.iter().map(|a| a.from).collect();
    let to: Vec<i64> = steps.iter().map(|a| a.to).collect();
    let records: Vec<i64> = steps.iter().map(|a| a.records).collect();
    let wrong = tx
        .query(statement, &[&partitions, &from, &to, &records])
        .await?;
    match wrong.first() {
        None => Ok(()),
        Some(row) => {
            let (partition, records, rows): (i16, i64, i64) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            Err(Error::Conflict(format!(
                "partition {partition} of the log has {rows} rows where the batch has {records}"
            )))
        }
    }
}

/// Where a partition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// The offset that is stored next.
    pub next: i64,
    /// The id of the topic; `None` if the log has none.
    pub topic_id: Option<Uuid>,
}

/// Where all partitions stand, by topic and partition.
///
/// # Errors
/// The database does not answer.
pub async fn all(client: &Client) -> Result<HashMap<(String, i32), Stored>, Error> {
    let all = "select topic, partition, stored, topic_id from log_positions";
    let rows = client.query(all, &[]).await?;
    let stored = |row: &tokio_postgres::Row| {
        let (next, topic_id) = (row.get(2), row.get(3));
        ((row.get(0), row.get(1)), Stored { next, topic_id })
    };
    Ok(rows.iter().map(stored).collect())
}

/// The offset of a partition that is stored next; `None` if the partition is not known.
///
/// # Errors
/// The database does not answer.
pub async fn next(client: &Client, topic: &str, partition: i32) -> Result<Option<i64>, Error> {
    let next = "select stored from log_positions where topic = $1 and partition = $2";
    let row = client.query_opt(next, &[&topic, &partition]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// Moves a partition without storing anything: one seen for the first time (`from` is `None`), or one
/// of which the log no longer has the position; then `letter` says what cannot be stored any more.
///
/// # Errors
/// [`Error::Conflict`] if the position is no longer `from`; [`Error::Database`] if the database does
/// not answer.
pub async fn replace(
    db: &Database,
    (topic, partition): (&str, i32),
    from: Option<i64>,
    to: Stored,
    letter: Option<&DeadLetter>,
) -> Result<(), Error> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    let Stored { next, topic_id } = to;
    let moved = match from {
        None => {
            let insert = "insert into log_positions (topic, partition, stored, topic_id) \
                values ($1, $2, $3, $4) on conflict do nothing";
            tx.execute(insert, &[&topic, &partition, &next, &topic_id])
                .await?
        }
        Some(from) => {
            let update = "update log_positions set stored = $4, topic_id = $5, updated_at = now() \
                where topic = $1 and partition = $2 and stored = $3";
            tx.execute(update, &[&topic, &partition, &from, &next, &topic_id])
                .await?
        }
    };
    if moved != 1 {
        return Err(Error::Conflict(format!(
            "another consumer has moved {topic}/{partition} from offset {from:?}"
        )));
    }
    if let Some(letter) = letter {
        let statement = tx.prepare(dead_letters::INSERT).await?;
        dead_letters::insert(&tx, &statement, &[letter]).await?;
    }
    tx.commit().await?;
    Ok(())
}
