//! Replays: which events are run again, for whom, and how far that is (S4-32 to S4-38).
//!
//! What a replay selects is fixed when it is asked for, in an order in which each stream keeps its own.

mod select;

use domain::TenantId;
use serde_json::Value;
use time::OffsetDateTime;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row, Transaction};
use uuid::Uuid;

use crate::error::Error;
use crate::event_reads::{self, StoredEvent};
use crate::lease::{FREE, LEASED};
use crate::outbox::Announce;
use crate::pool::Database;
use crate::write::announce;
use select::select;
pub use select::{Request, Selection};

/// Events of one replay.
pub const MAX_EVENTS: i64 = 1_000_000;

const COLUMNS: &str = "id, tenant_id, selection, target_service, projections, processors, rate, state, events, \
    replayed, failed, problem, created_at, started_at, ended_at, live";

/// A replay as it stands.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "explained in Request and in the migration")]
pub struct Replay {
    pub id: Uuid,
    pub tenant_id: TenantId,
    pub selection: Value,
    pub target_service: Option<String>,
    pub projections: Option<Vec<String>>,
    pub processors: Option<Vec<String>>,
    pub live: bool,
    pub rate: i32,
    pub state: String,
    pub events: i64,
    pub replayed: i64,
    pub failed: i64,
    pub problem: Option<String>,
    pub created_at: OffsetDateTime,
    pub started_at: Option<OffsetDateTime>,
    pub ended_at: Option<OffsetDateTime>,
}

impl Replay {
    fn from_row(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            id: row.try_get(0)?,
            tenant_id: TenantId::parse(row.try_get(1)?).unwrap_or_default(),
            selection: row.try_get(2)?,
            target_service: row.try_get(3)?,
            projections: row.try_get(4)?,
            processors: row.try_get(5)?,
            rate: row.try_get(6)?,
            state: row.try_get(7)?,
            events: row.try_get(8)?,
            replayed: row.try_get(9)?,
            failed: row.try_get(10)?,
            problem: row.try_get(11)?,
            created_at: row.try_get(12)?,
            started_at: row.try_get(13)?,
            ended_at: row.try_get(14)?,
            live: row.try_get(15)?,
        })
    }

    /// The events that are dealt with.
    #[must_use]
    pub fn done(&self) -> i64 {
        self.replayed + self.failed
    }
}

/// What a replay would be about: how many events, and the first of them in its order.
///
/// # Errors
/// The database does not answer in time.
pub async fn preview(
    client: &Client,
    request: &Request,
    shown: i64,
) -> Result<(i64, Vec<StoredEvent>), Error> {
    let mut sql = select(request, MAX_EVENTS + 1);
    sql.surround(
        "with s as materialized (",
        ") select count(*) over (), event_id, timestamp from s order by n limit ",
    );
    sql.bind(shown, Type::INT8);
    let rows = sql.rows(client).await?;
    let count = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
    let places: Vec<_> = rows.iter().map(|row| (row.get(2), row.get(1))).collect();
    Ok((
        count,
        event_reads::at(client, &request.tenant_id, &places).await?,
    ))
}

/// Begins a replay; `None` if there is nothing to replay, or more than [`MAX_EVENTS`].
///
/// # Errors
/// The database does not answer.
pub async fn begin(db: &Database, request: &Request) -> Result<Result<Replay, i64>, Error> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    let patience = "set local statement_timeout = '60s'";
    tx.batch_execute(patience).await?;
    let insert = format!(
        "insert into replays (tenant_id, selection, target_service, projections, processors, rate, live) \
         values ($1, $2, $3, $4, $5, $6, $7) returning {COLUMNS}"
    );
    let Request {
        asked,
        target_service,
        projections,
        processors,
        rate,
        live,
        ..
    } = request;
    let tenant = request.tenant_id.as_str();
    let values: [&(dyn ToSql + Sync); 7] = [
        &tenant,
        asked,
        target_service,
        projections,
        processors,
        rate,
        live,
    ];
    let row = tx.query_one(&insert, &values).await?;
    let mut replay = Replay::from_row(&row)?;
    let mut sql = select(request, MAX_EVENTS + 1);
    let insert = ") insert into replay_events (replay, event_id, timestamp, n) select ";
    sql.surround("with s as (", insert);
    sql.bind(replay.id, Type::UUID).push(", * from s");
    let selected = tx.client().execute_typed(sql.text(), &sql.params()).await?;
    replay.events = i64::try_from(selected).unwrap_or(i64::MAX);
    if !(1..=MAX_EVENTS).contains(&replay.events) {
        tx.rollback().await?;
        return Ok(Err(replay.events));
    }
    let count = "update replays set events = $2 where id = $1";
    tx.execute(count, &[&replay.id, &replay.events]).await?;
    tx.commit().await?;
    Ok(Ok(replay))
}

/// The replays of a tenant, the newest first, or the one of an id.
///
/// # Errors
/// The database does not answer.
pub async fn list(
    client: &Client,
    tenant: &TenantId,
    id: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Replay>, Error> {
    let sql = format!(
        "select {COLUMNS} from replays where tenant_id = $1 and ($2::uuid is null or id = $2) \
         order by created_at desc, id limit $3"
    );
    let rows = client.query(&sql, &[&tenant.as_str(), &id, &limit]).await?;
    Ok(rows
        .iter()
        .map(Replay::from_row)
        .collect::<Result<_, _>>()?)
}

/// Moves a replay from one of these states into another; `None` if it is in none of them.
///
/// # Errors
/// The database does not answer.
pub async fn change(
    client: &Client,
    tenant: &TenantId,
    id: Uuid,
    from: &[&str],
    to: &str,
) -> Result<Option<Replay>, Error> {
    let sql = format!(
        "update replays set state = $4::text, leased_until = null, \
         ended_at = case when $4::text = 'cancelled' then now() end \
         where tenant_id = $1 and id = $2 and state = any($3::text[]) returning {COLUMNS}"
    );
    let values: [&(dyn ToSql + Sync); 4] = [&tenant.as_str(), &id, &from, &to];
    let row = client.query_opt(&sql, &values).await?;
    Ok(row.as_ref().map(Replay::from_row).transpose()?)
}

/// Takes a running replay that nobody works on. One that begins tells so with the message of `started`.
///
/// # Errors
/// The database does not answer.
pub async fn claim(
    client: &mut Client,
    owner: Uuid,
    started: Announce<Replay>,
) -> Result<Option<Replay>, Error> {
    let tx = client.transaction().await?;
    let sql = format!(
        "update replays set {LEASED} where id = (select id from replays where state = 'running' \
         and {FREE} order by created_at limit 1 \
         for update skip locked) returning {COLUMNS}"
    );
    let Some(row) = tx.query_opt(&sql, &[&owner]).await? else {
        return Ok(None);
    };
    let replay = Replay::from_row(&row)?;
    if replay.started_at.is_none() {
        let begin = "update replays set started_at = now() where id = $1";
        tx.execute(begin, &[&replay.id]).await?;
        announce_state(&tx, started, &replay).await?;
    }
    tx.commit().await?;
    Ok(Some(replay))
}

/// The next events of a replay, in its order, with how many of it they stand for: what retention or
/// erasure has removed meanwhile is passed over.
///
/// # Errors
/// The database does not answer.
pub async fn next(
    client: &Client,
    replay: &Replay,
    limit: i64,
) -> Result<(i64, Vec<StoredEvent>), Error> {
    let sql = "select timestamp, event_id from replay_events where replay = $1 and n > $2 \
        order by n limit $3";
    let rows = client
        .query(sql, &[&replay.id, &replay.done(), &limit])
        .await?;
    let places: Vec<_> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let count = i64::try_from(places.len()).unwrap_or(i64::MAX);
    Ok((
        count,
        event_reads::at(client, &replay.tenant_id, &places).await?,
    ))
}

/// Notes how far a replay is; at its end it is completed. False if another has it, or it was paused or
/// cancelled.
///
/// # Errors
/// The database does not answer.
pub async fn advance(
    client: &mut Client,
    owner: Uuid,
    replay: &Replay,
    completed: Announce<Replay>,
) -> Result<bool, Error> {
    let tx = client.transaction().await?;
    let ended = replay.done() >= replay.events;
    let sql = format!(
        "update replays set {LEASED}, replayed = $3, failed = $4, problem = $5, \
         state = case when $6::bool then 'completed' else state end, \
         ended_at = case when $6::bool then now() end \
         where id = $2 and leased_by = $1 and state = 'running'"
    );
    let (id, counts) = (&replay.id, (&replay.replayed, &replay.failed));
    let values: [&(dyn ToSql + Sync); 6] =
        [&owner, id, counts.0, counts.1, &replay.problem, &ended];
    if tx.execute(&sql, &values).await? == 0 {
        return Ok(false);
    }
    if ended {
        tx.execute("delete from replay_events where replay = $1", &[id])
            .await?;
        announce_state(&tx, completed, replay).await?;
    }
    tx.commit().await?;
    Ok(true)
}

/// Ends a replay that cannot be run.
///
/// # Errors
/// The database does not answer.
pub async fn fail(client: &Client, replay: &Replay, problem: &str) -> Result<(), Error> {
    let sql = "update replays set state = 'failed', ended_at = now(), problem = $2 where id = $1";
    client.execute(sql, &[&replay.id, &problem]).await?;
    Ok(())
}

async fn announce_state(
    tx: &Transaction<'_>,
    how: Announce<Replay>,
    replay: &Replay,
) -> Result<(), Error> {
    announce(tx, &how.messages(std::iter::once(replay)), how.to).await
}
