//! Reading events: one by its id, and pages of a listing under a filter.
//!
//! Listings run from the newest to the oldest by (timestamp, event_id), so a page can be continued
//! after its last event (keyset), whatever is stored in the meantime.

mod filter;
pub(crate) mod row;

use domain::TenantId;
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::error::Error;
use crate::sql::{Fetched, Sql};
pub use filter::{Filter, StatusFilter};
use row::{EVENT, TRACKED};
pub use row::{Position, StoredEvent, TrackedEvent};

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

/// The event of that id, or `None`.
///
/// # Errors
/// The database does not answer.
pub async fn find(
    client: &Client,
    tenant: &TenantId,
    event_id: Uuid,
) -> Result<Option<StoredEvent>, Error> {
    let rows = find_sql(tenant, event_id).rows(client).await?;
    Ok(rows.first().map(StoredEvent::from_row).transpose()?)
}

/// The statement of [`find`]: the id leads to the time, the time to the one partition.
#[must_use]
pub fn find_sql(tenant: &TenantId, event_id: Uuid) -> Sql {
    let mut sql = Sql::new(EVENT);
    sql.push(
        " from event_ids i join events e on e.tenant_id = i.tenant_id \
         and e.timestamp = i.timestamp and e.event_id = i.event_id where i.event_id = ",
    )
    .bind(event_id, Type::UUID)
    .push(" and i.tenant_id = ")
    .bind(tenant.as_str().to_owned(), Type::TEXT);
    sql
}

/// A page of whole events, at most about `max_bytes` of them.
///
/// # Errors
/// The database does not answer.
pub async fn list(
    client: &Client,
    filter: &Filter,
    window: &Window,
    max_bytes: usize,
) -> Result<Fetched<StoredEvent>, Error> {
    let sql = list_sql(filter, window);
    sql.fetch(
        client,
        max_bytes,
        StoredEvent::from_row,
        StoredEvent::weight,
    )
    .await
}

/// The statement of [`list`].
#[must_use]
pub fn list_sql(filter: &Filter, window: &Window) -> Sql {
    page(EVENT, filter, window)
}

/// A page in the short form.
///
/// # Errors
/// The database does not answer.
pub async fn list_tracked(
    client: &Client,
    filter: &Filter,
    window: &Window,
    max_bytes: usize,
) -> Result<Fetched<TrackedEvent>, Error> {
    let sql = page(TRACKED, filter, window);
    sql.fetch(
        client,
        max_bytes,
        TrackedEvent::from_row,
        TrackedEvent::weight,
    )
    .await
}

/// How many events there are under the filter.
///
/// # Errors
/// The database does not answer, or not in time: counting looks at every event of the answer.
pub async fn count(client: &Client, filter: &Filter) -> Result<u64, Error> {
    let row = count_sql(filter).row(client).await?;
    Ok(row.try_get::<_, i64>(0)?.try_into().unwrap_or(0))
}

/// The statement of [`count`].
#[must_use]
pub fn count_sql(filter: &Filter) -> Sql {
    let mut sql = Sql::new("select count(*) from events e");
    filter.conditions(&mut sql);
    sql
}

fn page(columns: &'static str, filter: &Filter, window: &Window) -> Sql {
    let mut sql = Sql::new(columns);
    sql.push(" from events e");
    filter.conditions(&mut sql);
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
    sql.push(" order by e.timestamp desc, e.event_id desc limit ")
        .bind(i64::from(window.limit), Type::INT8);
    if window.offset > 0 {
        sql.push(" offset ")
            .bind(i64::from(window.offset), Type::INT8);
    }
    sql
}
