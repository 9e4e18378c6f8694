//! Takes erased events out of the counts, where that is asked for.

use std::collections::{BTreeMap, HashSet};

use domain::Event;
use time::{Date, OffsetDateTime};
use tokio_postgres::Transaction;

use crate::error::Error;
use crate::write::{OTHER, hour_of};

const KNOWN: &str = "select event_type, date from aggregated_events where tenant_id = $1::text \
    and date = any($2) and event_type = any($3)";

const DAILY: &str = "update aggregated_events a set count = a.count - u.count \
    from unnest($2::text[], $3::date[], $4::int8[]) u(event_type, date, count) \
    where a.tenant_id = $1::text and a.event_type = u.event_type and a.date = u.date";

const HOURLY: &str = "update aggregated_events_hourly a set count = a.count - u.count \
    from unnest($2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::int8[]) \
        u(hour, event_type, event_source, event_category, count) \
    where a.tenant_id = $1::text and a.hour = u.hour and a.event_type = u.event_type \
        and a.event_source = u.event_source and a.event_category = u.event_category";

const NO_DAYS: &str = "delete from aggregated_events where tenant_id = $1::text and date = any($2) \
    and count <= 0";
const NO_HOURS: &str = "delete from aggregated_events_hourly where tenant_id = $1::text \
    and hour = any($2) and count <= 0";

/// Counts these events no more; returns how many they are.
pub(super) async fn subtract(
    tx: &Transaction<'_>,
    tenant: &str,
    events: &[&Event],
) -> Result<u64, Error> {
    if events.is_empty() {
        return Ok(0);
    }
    let hours: Vec<OffsetDateTime> = events.iter().map(|one| hour_of(one.timestamp)).collect();
    let dates: Vec<Date> = hours.iter().map(|hour| hour.date()).collect();
    let types: Vec<&str> = events.iter().map(|one| one.event_type.as_str()).collect();
    let rows = tx.query(KNOWN, &[&tenant, &dates, &types]).await?;
    let known: HashSet<(&str, Date)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut daily: BTreeMap<(&str, Date), i64> = BTreeMap::new();
    let mut hourly: BTreeMap<(OffsetDateTime, &str, &str, &str), i64> = BTreeMap::new();
    for (event, hour) in events.iter().zip(&hours) {
        // As the writer bounded them.
        let name = match event.event_type.as_str() {
            name if known.contains(&(name, hour.date())) => name,
            _ => OTHER,
        };
        let (source, category) = (event.event_source.as_str(), event.event_category.as_str());
        *daily.entry((name, hour.date())).or_default() += 1;
        *hourly.entry((*hour, name, source, category)).or_default() += 1;
    }
    let (names, days): (Vec<&str>, Vec<Date>) = daily.keys().copied().unzip();
    let sums: Vec<i64> = daily.into_values().collect();
    tx.execute(DAILY, &[&tenant, &names, &days, &sums]).await?;
    let (mut at, mut names, mut sources) = (vec![], vec![], vec![]);
    let (mut categories, mut sums) = (vec![], vec![]);
    for ((hour, name, source, category), sum) in hourly {
        at.push(hour);
        names.push(name);
        sources.push(source);
        categories.push(category);
        sums.push(sum);
    }
    tx.execute(
        HOURLY,
        &[&tenant, &at, &names, &sources, &categories, &sums],
    )
    .await?;
    tx.execute(NO_DAYS, &[&tenant, &days]).await?;
    tx.execute(NO_HOURS, &[&tenant, &at]).await?;
    Ok(events.len() as u64)
}
