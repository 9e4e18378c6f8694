//! Reading events: one by its id, and pages of a listing under a filter.
//!
//! Listings run from the newest to the oldest by (timestamp, event_id), so a page can be continued
//! after its last event (keyset), whatever is stored in the meantime. No statement touches more than
//! few partitions ([`steps`]).

mod filter;
pub(crate) mod row;
mod steps;
mod total;

use domain::TenantId;
use time::OffsetDateTime;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use crate::error::Error;
use crate::sql::{Fetched, Sql};
pub use filter::{Filter, StatusFilter};
use row::{EVENT, TRACKED};
pub use row::{Position, StoredEvent, TrackedEvent};
pub use steps::{Step, steps};
pub use total::{Total, count_sql, total};

/// Which part of a listing.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Most events.
    pub limit: u32,
    /// How many to pass over first.
    pub offset: u32,
    /// Only what comes after this position.
    pub after: Option<Position>,
}

/// The event of that id, or `None`: the id leads to the time, the time to the one partition.
///
/// # Errors
/// The database does not answer.
pub async fn find(
    client: &Client,
    tenant: &TenantId,
    event_id: Uuid,
) -> Result<Option<StoredEvent>, Error> {
    let Some(row) = time_sql(tenant, event_id).rows(client).await?.pop() else {
        return Ok(None);
    };
    let found = find_sql(tenant, event_id, row.try_get(0)?)
        .rows(client)
        .await?;
    Ok(found.first().map(StoredEvent::from_row).transpose()?)
}

/// The event of the first of these ids that is stored, or `None`.
///
/// # Errors
/// The database does not answer.
pub async fn find_any(
    client: &Client,
    tenant: &TenantId,
    ids: &[Uuid],
) -> Result<Option<StoredEvent>, Error> {
    let id = match ids {
        [id] => *id,
        _ => {
            let sql = "select event_id from event_ids where event_id = any($1) and tenant_id = $2 \
                order by array_position($1, event_id) limit 1";
            let types = [
                (&ids as &(dyn ToSql + Sync), Type::UUID_ARRAY),
                (&tenant.as_str(), Type::TEXT),
            ];
            let rows = client.query_typed(sql, &types).await?;
            match rows.first() {
                Some(row) => row.try_get(0)?,
                None => return Ok(None),
            }
        }
    };
    find(client, tenant, id).await
}

/// The events at these times and of these ids, in that order, as far as they are there.
///
/// # Errors
/// The database does not answer.
pub async fn at(
    client: &Client,
    tenant: &TenantId,
    places: &[(OffsetDateTime, Uuid)],
) -> Result<Vec<StoredEvent>, Error> {
    let (times, ids): (Vec<_>, Vec<_>) = places.iter().copied().unzip();
    let (Some(first), Some(last)) = (times.iter().min(), times.iter().max()) else {
        return Ok(vec![]);
    };
    let mut sql = Sql::new(EVENT);
    sql.push(" from events e join unnest(")
        .bind(times.clone(), Type::TIMESTAMPTZ_ARRAY)
        .push(", ")
        .bind(ids, Type::UUID_ARRAY)
        .push(
            ") with ordinality p(timestamp, event_id, n) on e.timestamp = p.timestamp \
             and e.event_id = p.event_id where e.timestamp >= ",
        )
        .bind(*first, Type::TIMESTAMPTZ)
        .push(" and e.timestamp <= ")
        .bind(*last, Type::TIMESTAMPTZ)
        .push(" and e.tenant_id = ")
        .bind(tenant.as_str().to_owned(), Type::TEXT)
        .push(" order by p.n");
    let rows = sql.rows(client).await?;
    Ok(rows
        .iter()
        .map(StoredEvent::from_row)
        .collect::<Result<_, _>>()?)
}

/// The first statement of [`find`].
#[must_use]
pub fn time_sql(tenant: &TenantId, event_id: Uuid) -> Sql {
    let mut sql = Sql::new("select timestamp from event_ids where event_id = ");
    sql.bind(event_id, Type::UUID)
        .push(" and tenant_id = ")
        .bind(tenant.as_str().to_owned(), Type::TEXT);
    sql
}

/// The second: planned for that very time, it locks one partition.
#[must_use]
pub fn find_sql(tenant: &TenantId, event_id: Uuid, timestamp: OffsetDateTime) -> Sql {
    let mut sql = Sql::new(EVENT);
    sql.push(" from events e where e.tenant_id = ")
        .bind(tenant.as_str().to_owned(), Type::TEXT)
        .push(" and e.timestamp = ")
        .bind(timestamp, Type::TIMESTAMPTZ)
        .push(" and e.event_id = ")
        .bind(event_id, Type::UUID);
    sql
}

/// A page of whole events, at most about `max_bytes` of them. `edges` are where partitions meet
/// ([`crate::partitions::edges`]).
///
/// # Errors
/// The database does not answer.
pub async fn list(
    client: &Client,
    edges: &[OffsetDateTime],
    filter: &Filter,
    window: &Window,
    max_bytes: usize,
) -> Result<Fetched<StoredEvent>, Error> {
    let read = (
        StoredEvent::from_row as Read<_>,
        StoredEvent::weight as Weight<_>,
    );
    page(client, EVENT, edges, (filter, window), max_bytes, read).await
}

/// A page in the short form.
///
/// # Errors
/// The database does not answer.
pub async fn list_tracked(
    client: &Client,
    edges: &[OffsetDateTime],
    filter: &Filter,
    window: &Window,
    max_bytes: usize,
) -> Result<Fetched<TrackedEvent>, Error> {
    let read = (
        TrackedEvent::from_row as Read<_>,
        TrackedEvent::weight as Weight<_>,
    );
    page(client, TRACKED, edges, (filter, window), max_bytes, read).await
}

type Read<T> = fn(&Row) -> Result<T, tokio_postgres::Error>;
type Weight<T> = fn(&T) -> usize;

async fn page<T>(
    client: &Client,
    columns: &'static str,
    edges: &[OffsetDateTime],
    (filter, window): (&Filter, &Window),
    max_bytes: usize,
    (read, weight): (Read<T>, Weight<T>),
) -> Result<Fetched<T>, Error> {
    let mut left = *window;
    let mut page = Fetched::default();
    let latest = [filter.end, window.after.map(|after| after.timestamp)];
    let steps = steps(edges, filter.start, latest.into_iter().flatten().min());
    for (at, &step) in steps.iter().enumerate() {
        // Where it ends within a later step, its events are passed over by their number.
        if left.offset > 0 && at + 1 < steps.len() {
            let row = passed_sql(filter, &left, step).row(client).await?;
            let passed = u32::try_from(row.try_get::<_, i64>(0)?).unwrap_or(left.offset);
            if passed < left.offset {
                left.offset -= passed;
                continue;
            }
        }
        let sql = page_sql(columns, filter, &left, step);
        let fetched = sql
            .fetch(client, max_bytes.saturating_sub(page.bytes), read, weight)
            .await?;
        page.bytes += fetched.bytes;
        left.offset = 0;
        left.limit -= u32::try_from(fetched.rows.len()).unwrap_or(left.limit);
        page.rows.extend(fetched.rows);
        page.cut = fetched.cut;
        if page.cut || left.limit == 0 {
            break;
        }
    }
    Ok(page)
}

/// The statement of a step of [`list`].
#[must_use]
pub fn list_sql(filter: &Filter, window: &Window, step: Step) -> Sql {
    page_sql(EVENT, filter, window, step)
}

fn page_sql(columns: &'static str, filter: &Filter, window: &Window, step: Step) -> Sql {
    let mut sql = Sql::new(columns);
    conditions(&mut sql, filter, window, step);
    sql.push(" order by e.timestamp desc, e.event_id desc limit ")
        .bind(i64::from(window.limit), Type::INT8);
    if window.offset > 0 {
        sql.push(" offset ")
            .bind(i64::from(window.offset), Type::INT8);
    }
    sql
}

/// How many events a step has, as far as the offset goes.
fn passed_sql(filter: &Filter, window: &Window, step: Step) -> Sql {
    let mut sql = Sql::new("select count(*) from (select");
    conditions(&mut sql, filter, window, step);
    sql.push(" limit ")
        .bind(i64::from(window.offset), Type::INT8)
        .push(") passed");
    sql
}

fn conditions(sql: &mut Sql, filter: &Filter, window: &Window, step: Step) {
    sql.push(" from events e");
    filter.conditions(sql);
    step.conditions(sql);
    if let Some(after) = window.after {
        // The first condition follows from the second; partitions are pruned by it.
        sql.push(" and e.timestamp <= ")
            .bind(after.timestamp, Type::TIMESTAMPTZ)
            .push(" and (e.timestamp, e.event_id) < (")
            .bind(after.timestamp, Type::TIMESTAMPTZ)
            .push(", ")
            .bind(after.event_id, Type::UUID)
            .push(")");
    }
}
