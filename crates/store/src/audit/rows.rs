//! Events whose id is not known, or under another time. An id that points to no row of its time is
//! misplaced where a row is elsewhere, and else lost.

use std::collections::HashMap;

use time::{Date, OffsetDateTime};
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::finding::{Finding, FindingKind, Remedy};
use crate::error::Error;

/// Since when events are kept; what was counted before cannot be worked out any more.
///
/// # Errors
/// The database does not answer.
pub async fn kept_from(client: &Client) -> Result<Option<OffsetDateTime>, Error> {
    let row = client
        .query_opt("select kept_from from retention", &[])
        .await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// The tenants that have events or counts.
///
/// # Errors
/// The database does not answer.
pub async fn tenants(client: &Client) -> Result<Vec<String>, Error> {
    let sql = "with recursive t as ( \
            (select tenant_id from events order by tenant_id limit 1) union all \
            select (select e.tenant_id from events e where e.tenant_id > t.tenant_id \
                order by e.tenant_id limit 1) from t where t.tenant_id is not null) \
        select tenant_id from t where tenant_id is not null \
        union select distinct tenant_id from aggregated_events order by 1";
    let rows = client.query(sql, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The tenants that had users erased, and whether counts were kept with all of them: then more may be
/// counted than there are rows. Streams of such tenants may lack numbers.
///
/// # Errors
/// The database does not answer.
pub async fn erased(client: &Client) -> Result<HashMap<String, bool>, Error> {
    let sql = "select tenant, bool_or(not counts) from erasures group by 1";
    let rows = client.query(sql, &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// The first day from that one on which a tenant has events or counts.
///
/// # Errors
/// The database does not answer.
pub async fn next_day(client: &Client, tenant: &str, from: Date) -> Result<Option<Date>, Error> {
    let sql = "select least( \
        (select min(date) from aggregated_events where tenant_id = $1 and date >= $2), \
        (select (timestamp at time zone 'utc')::date from events \
            where tenant_id = $1 and timestamp >= $2::date::timestamp at time zone 'utc' \
            order by timestamp limit 1))";
    Ok(client.query_one(sql, &[&tenant, &from]).await?.try_get(0)?)
}

const STRAYS: &str = "select e.event_id, e.timestamp, i.timestamp, e.aggregate_id is not null, exists ( \
        select from events o where o.tenant_id = i.tenant_id and o.timestamp = i.timestamp \
            and o.event_id = i.event_id) \
    from events e left join event_ids i on i.event_id = e.event_id and i.tenant_id = e.tenant_id \
    where e.tenant_id = $1 and e.timestamp >= $2 and e.timestamp < $3 \
        and i.timestamp is distinct from e.timestamp limit 1000";

/// The events of a tenant's day that their ids do not point to.
///
/// # Errors
/// The database does not answer.
pub async fn strays(client: &Client, tenant: &str, day: Date) -> Result<Vec<Finding>, Error> {
    let (start, end) = bounds(day);
    let rows = client.query(STRAYS, &[&tenant, &start, &end]).await?;
    rows.iter().map(|row| stray(tenant, row)).collect()
}

fn stray(tenant: &str, row: &Row) -> Result<Finding, Error> {
    let (id, at): (Uuid, OffsetDateTime) = (row.try_get(0)?, row.try_get(1)?);
    let claimed: Option<OffsetDateTime> = row.try_get(2)?;
    let (of_aggregate, elsewhere): (bool, bool) = (row.try_get(3)?, row.try_get(4)?);
    let time = domain::timestamp::format(at);
    let (kind, expected, found, remedy) = match claimed {
        // Which number it had in its stream nobody knows.
        None => (
            FindingKind::RowUnclaimed,
            "an id".to_owned(),
            "none".to_owned(),
            (!of_aggregate).then_some(Remedy::Claim(id, at)),
        ),
        Some(other) if elsewhere => (
            FindingKind::RowDoubled,
            domain::timestamp::format(other),
            time,
            Some(Remedy::Remove(id, at)),
        ),
        Some(other) => (
            FindingKind::IdMisplaced,
            time,
            domain::timestamp::format(other),
            Some(Remedy::Place(id, at)),
        ),
    };
    Ok(Finding {
        kind,
        tenant: Some(tenant.to_owned()),
        subject: format!("event {id}"),
        expected,
        found,
        events: vec![id],
        remedy,
    })
}

/// Begin and end of a day.
pub(super) fn bounds(day: Date) -> (OffsetDateTime, OffsetDateTime) {
    let start = day.midnight().assume_utc();
    (start, start + time::Duration::days(1))
}
