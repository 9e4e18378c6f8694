//! How far the index of an engine is.

use time::OffsetDateTime;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row, Transaction};
use uuid::Uuid;

use crate::error::Error;
use crate::event_reads::StoredEvent;
use crate::event_reads::row::EVENT;
use crate::lease::{FREE, LEASED};
use crate::partitions::retention;
use crate::sql::{Fetched, Sql};
use crate::write::dead_letters::{self, DeadLetter};

/// The advisory lock that indexers share, and a removal has alone: what is removed is not put
/// back by one who had read it before.
const LOCK: i64 = 0x7469_6465_7365_6172;

const COLUMNS: &str = "engine, at, id, again_at, again_id, again_from, again_until, generation, indexed, \
    refused, kept_from, problem, leased_until > now()";

/// How far the index of an engine is.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// The engine.
    pub engine: String,
    /// It has what was stored before this.
    pub at: OffsetDateTime,
    id: Uuid,
    /// How far what was stored before is put in (once more); `None` when that is done.
    pub again_at: Option<OffsetDateTime>,
    again_id: Uuid,
    /// Where that began.
    pub again_from: Option<OffsetDateTime>,
    /// Where that ends.
    pub again_until: Option<OffsetDateTime>,
    /// One more with each reindexing.
    pub generation: i64,
    /// Events put in.
    pub indexed: i64,
    /// Events that the engine refused.
    pub refused: i64,
    /// Since when events are kept, as far as the engine knows.
    pub kept_from: Option<OffsetDateTime>,
    /// Why it is not getting on.
    pub problem: Option<String>,
    /// Whether a processor works on it.
    pub is_worked_on: bool,
}

/// Which events come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Those that were stored last.
    New,
    /// Those of before.
    Again,
}

/// A part of time to be read, by the storing.
#[derive(Debug, Clone, Copy)]
pub struct Begin {
    /// Which events.
    pub part: Part,
    /// Up to this, exclusive.
    pub until: OffsetDateTime,
}

impl Progress {
    fn from_row(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            engine: row.try_get(0)?,
            at: row.try_get(1)?,
            id: row.try_get(2)?,
            again_at: row.try_get(3)?,
            again_id: row.try_get(4)?,
            again_from: row.try_get(5)?,
            again_until: row.try_get(6)?,
            generation: row.try_get(7)?,
            indexed: row.try_get(8)?,
            refused: row.try_get(9)?,
            kept_from: row.try_get(10)?,
            problem: row.try_get(11)?,
            is_worked_on: row.try_get::<_, Option<bool>>(12)?.unwrap_or_default(),
        })
    }

    /// Where that part is; `None` if there is nothing of it.
    fn place(&self, part: Part) -> Option<(OffsetDateTime, Uuid)> {
        match part {
            Part::New => Some((self.at, self.id)),
            Part::Again => Some((self.again_at?, self.again_id)),
        }
    }
}

/// Notes that there is an index of that engine: what is stored from `horizon` on follows, and what is stored
/// already is put in beside.
///
/// # Errors
/// The database does not answer.
pub async fn begin(client: &Client, engine: &str, horizon: OffsetDateTime) -> Result<(), Error> {
    let known = "select from search_progress where engine = $1";
    if client.query_opt(known, &[&engine]).await?.is_some() {
        return Ok(());
    }
    let sql = "insert into search_progress (engine, at, again_at, again_from, again_until) \
        select $1, $2, first, first, case when first is not null then $2 end \
        from (select min(created_at) as first from events where created_at < $2) stored \
        on conflict do nothing";
    client.execute(sql, &[&engine, &horizon]).await?;
    Ok(())
}

/// Has all that is stored put into the indexes again. Returns how far each is.
///
/// # Errors
/// The database does not answer.
pub async fn reindex(client: &Client) -> Result<Vec<Progress>, Error> {
    let sql = format!(
        "with stored as (select min(created_at) as first from events) \
         update search_progress set again_at = first, again_from = first, again_until = at, \
         again_id = '00000000-0000-0000-0000-000000000000', generation = generation + 1, problem = null \
         from stored where first is not null returning {COLUMNS}"
    );
    progress(client.query(&sql, &[]).await?.as_slice())
}

/// How far each index is.
///
/// # Errors
/// The database does not answer.
pub async fn all(client: &Client) -> Result<Vec<Progress>, Error> {
    let sql = format!("select {COLUMNS} from search_progress order by engine");
    progress(client.query(&sql, &[]).await?.as_slice())
}

fn progress(rows: &[Row]) -> Result<Vec<Progress>, Error> {
    Ok(rows
        .iter()
        .map(Progress::from_row)
        .collect::<Result<_, _>>()?)
}

/// Takes the index of an engine, or keeps it; `None` if another processor has it.
///
/// # Errors
/// The database does not answer.
pub async fn claim(client: &Client, engine: &str, owner: Uuid) -> Result<Option<Progress>, Error> {
    let sql = format!(
        "update search_progress set {LEASED} where engine = $2 \
         and (leased_by = $1 or {FREE}) returning {COLUMNS}"
    );
    let row = client.query_opt(&sql, &[&owner, &engine]).await?;
    Ok(row.as_ref().map(Progress::from_row).transpose()?)
}

/// Gives it back.
///
/// # Errors
/// The database does not answer.
pub async fn release(client: &Client, engine: &str, owner: Uuid) -> Result<(), Error> {
    let sql = "update search_progress set leased_until = null where engine = $2 and leased_by = $1";
    client.execute(sql, &[&owner, &engine]).await?;
    Ok(())
}

/// Notes why an index is not getting on.
///
/// # Errors
/// The database does not answer.
pub async fn problem(client: &Client, engine: &str, why: &str) -> Result<(), Error> {
    let sql = "update search_progress set problem = $2, updated_at = now() where engine = $1";
    client.execute(sql, &[&engine, &why]).await?;
    Ok(())
}

/// The next events to be put in, at most `limit` and about `max_bytes` of them. In the transaction nobody
/// removes events from the index.
///
/// # Errors
/// The database does not answer.
pub async fn next(
    tx: &Transaction<'_>,
    progress: &Progress,
    begin: Begin,
    limit: i64,
    max_bytes: usize,
) -> Result<Fetched<StoredEvent>, Error> {
    tx.execute("select pg_advisory_xact_lock_shared($1)", &[&LOCK])
        .await?;
    let Some((at, id)) = progress.place(begin.part) else {
        return Ok(Fetched::default());
    };
    let mut sql = Sql::new(EVENT);
    sql.push(" from events e where e.created_at >= ")
        .bind(at, Type::TIMESTAMPTZ)
        .push(" and e.created_at < ")
        .bind(begin.until, Type::TIMESTAMPTZ)
        .push(" and (e.created_at, e.event_id) > (")
        .bind(at, Type::TIMESTAMPTZ)
        .push(", ")
        .bind(id, Type::UUID)
        .push(") order by e.created_at, e.event_id limit ")
        .bind(limit, Type::INT8);
    sql.fetch(
        tx.client(),
        max_bytes,
        StoredEvent::from_row,
        StoredEvent::weight,
    )
    .await
}

/// Notes, in the transaction of [`next`], how far that part is: after `last`, or without it at `until`.
/// Returns false if another processor has it now.
///
/// # Errors
/// The database does not answer.
pub async fn advance(
    tx: &Transaction<'_>,
    owner: Uuid,
    progress: &Progress,
    begin: Begin,
    last: Option<&StoredEvent>,
    (indexed, refused): (i64, &[DeadLetter]),
) -> Result<bool, Error> {
    let (at, id) = last.map_or((begin.until, Uuid::nil()), |last| {
        (last.created_at, last.event.event_id)
    });
    let part = match begin.part {
        Part::New => "at = $3, id = $4",
        Part::Again => "again_at = $3, again_id = $4",
    };
    let count = i64::try_from(refused.len()).unwrap_or(i64::MAX);
    let sql = format!(
        "update search_progress set {LEASED}, {part}, indexed = indexed + $5, \
         refused = refused + $6, problem = null, updated_at = now() \
         where engine = $2 and leased_by = $1 and generation = $7"
    );
    let engine = &progress.engine;
    let generation = &progress.generation;
    let changed = tx
        .execute(
            &sql,
            &[&owner, engine, &at, &id, &indexed, &count, generation],
        )
        .await?;
    if !refused.is_empty() && changed == 1 {
        let statement = tx.prepare(dead_letters::INSERT).await?;
        let refused: Vec<&DeadLetter> = refused.iter().collect();
        dead_letters::insert(tx, &statement, &refused).await?;
    }
    Ok(changed == 1)
}

/// Notes that all that was stored before is in.
///
/// # Errors
/// The database does not answer.
pub async fn end_again(client: &Client, owner: Uuid, progress: &Progress) -> Result<(), Error> {
    let sql = "update search_progress set again_at = null, updated_at = now() \
        where engine = $1 and leased_by = $2 and generation = $3";
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
        [&progress.engine, &owner, &progress.generation];
    client.execute(sql, &parameters).await?;
    Ok(())
}

/// An event that is to be removed from an engine beside PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// Whose event.
    pub tenant: String,
    /// Its id.
    pub event_id: Uuid,
}

/// Removes events, with their times, from the indexes: at once on PostgreSQL, soon from an engine beside it. To
/// be called in the transaction that removes the events. It waits for an indexer, a moment.
///
/// # Errors
/// The database does not answer.
pub async fn remove(
    tx: &Transaction<'_>,
    tenant: &str,
    ids: &[Uuid],
    times: &[OffsetDateTime],
) -> Result<(), Error> {
    tx.execute("select pg_advisory_xact_lock($1)", &[&LOCK])
        .await?;
    let beside = "insert into search_removals select $1::text, unnest($2::uuid[]) \
        where exists (select from search_progress where engine <> 'postgres') on conflict do nothing";
    tx.execute(beside, &[&tenant, &ids]).await?;
    let sql = "delete from event_search s using unnest($2::uuid[], $3::timestamptz[]) u(event_id, timestamp) \
        where s.tenant = $1::text and s.timestamp = u.timestamp and s.event_id = u.event_id";
    tx.execute(sql, &[&tenant, &ids, &times]).await?;
    Ok(())
}

/// What is to be removed from an engine beside PostgreSQL, and since when events are kept.
///
/// # Errors
/// The database does not answer.
pub async fn removals(client: &Client) -> Result<(Vec<Removal>, Option<OffsetDateTime>), Error> {
    let sql = "select tenant, event_id from search_removals limit 1000";
    let rows = client.query(sql, &[]).await?;
    let removals = rows.iter().map(|row| {
        Ok(Removal {
            tenant: row.try_get(0)?,
            event_id: row.try_get(1)?,
        })
    });
    let removals: Result<_, tokio_postgres::Error> = removals.collect();
    Ok((removals?, retention::kept_from(client).await?))
}

/// Notes that these are removed, and what was there before `kept_from`.
///
/// # Errors
/// The database does not answer.
pub async fn removed(
    client: &Client,
    engine: &str,
    removals: &[Removal],
    kept_from: Option<OffsetDateTime>,
) -> Result<(), Error> {
    let tenants: Vec<&str> = removals.iter().map(|one| one.tenant.as_str()).collect();
    let ids: Vec<Uuid> = removals.iter().map(|one| one.event_id).collect();
    let done = "delete from search_removals r using unnest($1::text[], $2::uuid[]) u(tenant, event_id) \
        where r.tenant = u.tenant and r.event_id = u.event_id";
    client.execute(done, &[&tenants, &ids]).await?;
    let sql = "update search_progress set kept_from = $2 where engine = $1";
    client.execute(sql, &[&engine, &kept_from]).await?;
    Ok(())
}
