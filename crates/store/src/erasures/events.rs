//! The events of a user, page by page, each page with all that hangs on its events in one transaction.

use domain::TenantId;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Transaction};
use uuid::Uuid;

use super::counts;
use super::requests::Erasure;
use crate::error::Error;
use crate::event_reads::StoredEvent;
use crate::event_reads::row::EVENT;
use crate::projections::definitions;
use crate::search;

/// Events of one transaction.
const PAGE: i64 = 500;

/// The user's own events, and those of the aggregate that stands for the user.
const OF_USER: &str = "from events e where e.tenant_id = $1::text and (e.user_id = $2::text \
    or e.aggregate_id = $2::text and e.aggregate_type = 'user')";

/// What hangs on events, in the order in which others lock it.
const HANGING: [(&str, &str); 6] = [
    (
        "work",
        "delete from work where event_id = any($1) and tenant_id = $2",
    ),
    (
        "processing_results",
        "delete from processing_results where event_id = any($1) and tenant_id = $2",
    ),
    (
        "webhook_attempts",
        "delete from webhook_attempts where event_id = any($1) and tenant_id = $2",
    ),
    (
        "dead_letters",
        "delete from dead_letters where event_id = any($1) and tenant_id = $2",
    ),
    (
        "event_duplicates",
        "delete from event_duplicates where event_id = any($1) and tenant_id = $2",
    ),
    (
        "event_ids",
        "delete from event_ids where event_id = any($1) and tenant_id = $2",
    ),
];

const LATE: &str = "update event_projections p set late = true \
    from unnest($1::int8[], $2::text[]) u(definition, entity_id) \
    where p.definition = u.definition and p.entity_id = u.entity_id and not p.late";

/// How many events there are of a user.
///
/// # Errors
/// The database does not answer.
pub async fn count(client: &Client, tenant: &TenantId, user: &str) -> Result<i64, Error> {
    let sql = format!("select count(*) {OF_USER}");
    let row = client.query_one(&sql, &[&tenant.as_str(), &user]).await?;
    Ok(row.try_get(0)?)
}

/// Erases the next events, and marks the states that they were folded into to be refolded; returns
/// their ids, none at the end. `None` if another has the erasure.
///
/// # Errors
/// The database does not answer; nothing of the page is erased.
pub async fn events(
    client: &mut Client,
    owner: Uuid,
    erasure: &mut Erasure,
) -> Result<Option<Vec<Uuid>>, Error> {
    let mut next = erasure.clone();
    let tenant = next.tenant.as_str().to_owned();
    let tx = client.transaction().await?;
    let sql = format!("{EVENT} {OF_USER} and e.received_at <= $3 limit {PAGE}");
    let rows = tx
        .query(&sql, &[&tenant, &next.user(), &next.until])
        .await?;
    let events: Vec<StoredEvent> =
        (rows.iter().map(StoredEvent::from_row)).collect::<Result<_, _>>()?;
    let ids: Vec<Uuid> = events.iter().map(|one| one.event.event_id).collect();
    for (place, sql) in HANGING {
        next.add(place, tx.execute(sql, &[&ids, &tenant]).await?);
    }
    next.add("projections", refolded(&tx, &next.tenant, &events).await?);
    let times: Vec<_> = events.iter().map(|one| one.event.timestamp).collect();
    let (first, last) = (times.iter().min(), times.iter().max());
    if let (Some(first), Some(last)) = (first, last) {
        let sql = "delete from events e using unnest($1::uuid[], $2::timestamptz[]) u(event_id, timestamp) \
            where e.event_id = u.event_id and e.timestamp = u.timestamp and e.tenant_id = $3::text \
            and e.timestamp between $4 and $5";
        let values: [&(dyn ToSql + Sync); 5] = [&ids, &times, &tenant, first, last];
        next.add("events", tx.execute(sql, &values).await?);
        search::remove(&tx, &tenant, &ids, &times).await?;
    }
    if next.counts {
        let counted: Vec<_> = events.iter().map(|one| &one.event).collect();
        next.add("counts", counts::subtract(&tx, &tenant, &counted).await?);
    }
    if !next.note(&tx, owner).await? {
        return Ok(None);
    }
    tx.commit().await?;
    *erasure = next;
    Ok(Some(ids))
}

/// Marks the states of the entities of these events; returns how many there are.
async fn refolded(
    tx: &Transaction<'_>,
    tenant: &TenantId,
    events: &[StoredEvent],
) -> Result<u64, Error> {
    let (mut ids, mut entities) = (vec![], vec![]);
    for of in definitions::list(tx, Some(tenant)).await? {
        for StoredEvent { event, .. } in events {
            if let Some(entity) = of.definition.entity(event)
                && of.definition.takes(&event.event_type)
            {
                ids.push(of.id);
                entities.push(entity);
            }
        }
    }
    Ok(tx.execute(LATE, &[&ids, &entities]).await?)
}
