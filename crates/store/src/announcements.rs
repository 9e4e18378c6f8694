//! Announcements that are due: noted in the transaction that stores the events, taken when Kafka has
//! acknowledged them. For events of the Postgres log, whose rows cannot be read again after a crash.

use domain::json::Json;
use domain::{Event, EventCategory, EventSource, TenantId};
use tokio_postgres::{Client, Row, Statement, Transaction};
use uuid::Uuid;

use crate::error::Error;
use crate::log::locks::{CLASS, OUTBOX};
use crate::pool::Database;

const INSERT: &str = "insert into announcements_due (tenant_id, event_id, timestamp) \
    select * from unnest($1::text[], $2::uuid[], $3::timestamptz[])";

/// Events that are gone by now (retention) are taken and not returned.
const TAKE: &str = "with taken as (delete from announcements_due d using ( \
        select id from announcements_due order by id limit $1 \
    ) first where d.id = first.id returning d.*) \
    select e.event_id, e.tenant_id, e.event_type, e.event_source, e.event_category, e.user_id, \
        e.session_id, e.organization_id, e.device_id, e.aggregate_type, e.aggregate_id, \
        e.data::text, e.timestamp, e.received_at, e.version, e.schema_version \
    from taken t join events e on e.tenant_id = t.tenant_id and e.timestamp = t.timestamp \
        and e.event_id = t.event_id order by t.id";

pub(crate) async fn prepare(client: &Client) -> Result<Statement, Error> {
    Ok(client.prepare(INSERT).await?)
}

/// Notes that these events are to be announced.
pub(crate) async fn insert(
    tx: &Transaction<'_>,
    statement: &Statement,
    events: &[&Event],
) -> Result<(), Error> {
    if events.is_empty() {
        return Ok(());
    }
    let tenants: Vec<&str> = events.iter().map(|e| e.tenant_id.as_str()).collect();
    let ids: Vec<Uuid> = events.iter().map(|e| e.event_id).collect();
    let times: Vec<time::OffsetDateTime> = events.iter().map(|e| e.timestamp).collect();
    tx.execute(statement, &[&tenants, &ids, &times]).await?;
    Ok(())
}

/// What [`announce`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// Nothing is due, or another processor is at it.
    Nothing,
    /// Some were announced; there may be more.
    Some,
    /// They could not be announced now and stay due.
    NotNow,
}

/// Hands the next `limit` events that are due to `publish`, oldest first, and notes them as
/// announced if it returns true. One processor at a time does this.
///
/// # Errors
/// The database does not answer. If it fails at the end they are announced again.
pub async fn announce(
    db: &Database,
    limit: i64,
    publish: impl AsyncFnOnce(Vec<Event>) -> bool,
) -> Result<Announced, Error> {
    let mut client = db.client().await?;
    let waiting = "select exists (select from announcements_due)";
    if !client.query_one(waiting, &[]).await?.get::<_, bool>(0) {
        return Ok(Announced::Nothing);
    }
    let tx = client.transaction().await?;
    let lock = format!("select pg_try_advisory_xact_lock({CLASS}, $1)");
    if !tx.query_one(&lock, &[&OUTBOX]).await?.get::<_, bool>(0) {
        return Ok(Announced::Nothing);
    }
    // Few keys of a large table, see `write::Writer::connect`.
    tx.batch_execute(
        "set local enable_seqscan = off; set local enable_hashjoin = off; \
         set local enable_mergejoin = off; set local idle_in_transaction_session_timeout = '60s'",
    )
    .await?;
    let rows = tx.query(TAKE, &[&limit]).await?;
    let mut events = Vec::with_capacity(rows.len());
    for row in &rows {
        match event(row)? {
            Ok(event) => events.push(event),
            // To wait for it would hold up the others for ever; to guess would tell the wrong ones.
            Err(what) => tracing::error!(
                event_id = %row.try_get::<_, Uuid>(0)?,
                what,
                "a stored event cannot be read, it is not announced"
            ),
        }
    }
    drop(rows);
    if events.is_empty() || publish(events).await {
        tx.commit().await?;
        return Ok(Announced::Some);
    }
    tx.rollback().await?;
    Ok(Announced::NotNow)
}

/// As much of the event as an announcement tells, or the column whose value means nothing.
fn event(row: &Row) -> Result<Result<Event, &'static str>, tokio_postgres::Error> {
    let (tenant, source, category) = (row.try_get(1)?, row.try_get(3)?, row.try_get(4)?);
    let Some(tenant_id) = TenantId::parse(tenant) else {
        return Ok(Err("tenant_id"));
    };
    let Some(event_source) = EventSource::parse(source) else {
        return Ok(Err("event_source"));
    };
    let Some(event_category) = EventCategory::parse(category) else {
        return Ok(Err("event_category"));
    };
    Ok(Ok(Event {
        event_id: row.try_get(0)?,
        client_event_id: None,
        tenant_id,
        event_type: row.try_get(2)?,
        event_source,
        event_category,
        user_id: row.try_get(5)?,
        session_id: row.try_get(6)?,
        organization_id: row.try_get(7)?,
        device_id: row.try_get(8)?,
        correlation_id: None,
        aggregate_type: row.try_get(9)?,
        aggregate_id: row.try_get(10)?,
        expected_version: None,
        data: Json::from_stored(row.try_get(11)?),
        metadata: Json::default(),
        context: Json::default(),
        properties: Json::default(),
        timestamp: row.try_get(12)?,
        received_at: row.try_get(13)?,
        version: row.try_get(14)?,
        schema_version: row.try_get(15)?,
    }))
}
