//! The counts of a tenant's day, worked out from its rows in one snapshot.

use std::collections::{BTreeMap, BTreeSet};

use time::{Date, OffsetDateTime};
use tokio_postgres::{Client, IsolationLevel, Transaction};
use uuid::Uuid;

use super::finding::{Finding, FindingKind, Remedy};
use super::rows::bounds;
use crate::error::Error;
use crate::write::OTHER;

/// Hour, type, source, category.
type Hour = (OffsetDateTime, [String; 3]);

const ROWS: &str = "select date_trunc('hour', timestamp, 'utc'), event_type, event_source, event_category, \
        count(*), (array_agg(event_id))[1:3] \
    from events where tenant_id = $1 and timestamp >= $2 and timestamp < $3 group by 1, 2, 3, 4";
const HOURS: &str = "select hour, event_type, event_source, event_category, count \
    from aggregated_events_hourly where tenant_id = $1 and hour >= $2 and hour < $3";
const DAYS: &str =
    "select event_type, count from aggregated_events where tenant_id = $1 and date = $2";

/// What is wrong with the counts of a day, and how many events it has. Where rows are lost the counts are
/// what is left of them, so they cannot be repaired.
///
/// # Errors
/// The database does not answer.
pub async fn day(
    client: &mut Client,
    tenant: &str,
    day: Date,
    lost: bool,
) -> Result<(Vec<Finding>, i64), Error> {
    let snapshot = client.build_transaction();
    let snapshot = snapshot.isolation_level(IsolationLevel::RepeatableRead);
    let tx = snapshot.read_only(true).start().await?;
    let daily = daily(&tx, tenant, day).await?;
    let (start, end) = bounds(day);
    let mut hours: BTreeMap<Hour, i64> = BTreeMap::new();
    let mut days: BTreeMap<String, i64> = BTreeMap::new();
    let mut shown: BTreeMap<Hour, Vec<Uuid>> = BTreeMap::new();
    let mut events = 0;
    for row in tx.query(ROWS, &[&tenant, &start, &end]).await? {
        let event_type: String = row.try_get(1)?;
        let other = !daily.contains_key(&event_type) && daily.contains_key(OTHER);
        let counted_as = if other { OTHER.to_owned() } else { event_type };
        let key = (
            row.try_get(0)?,
            [counted_as.clone(), row.try_get(2)?, row.try_get(3)?],
        );
        let count: i64 = row.try_get(4)?;
        events += count;
        *days.entry(counted_as).or_default() += count;
        *hours.entry(key.clone()).or_default() += count;
        shown.entry(key).or_insert(row.try_get(5)?);
    }
    let mut kept: BTreeMap<Hour, i64> = BTreeMap::new();
    for row in tx.query(HOURS, &[&tenant, &start, &end]).await? {
        let key = (
            row.try_get(0)?,
            [row.try_get(1)?, row.try_get(2)?, row.try_get(3)?],
        );
        kept.insert(key, row.try_get(4)?);
    }
    tx.commit().await?;

    let mut findings = vec![];
    for event_type in keys(&days, &daily) {
        let (expected, found) = (get(&days, event_type), get(&daily, event_type));
        if expected != found {
            let of_type = |(key, _): &(&Hour, &Vec<Uuid>)| key.1[0] == *event_type;
            let events = shown.iter().find(of_type).map(|(_, ids)| ids.clone());
            findings.push(Finding {
                kind: FindingKind::DailyCount,
                tenant: Some(tenant.to_owned()),
                subject: format!("{event_type} on {day}"),
                expected: expected.to_string(),
                found: found.to_string(),
                events: events.unwrap_or_default(),
                remedy: (!lost).then(|| Remedy::Daily(day, event_type.clone())),
            });
        }
    }
    for key in keys(&hours, &kept) {
        let (expected, found) = (get(&hours, key), get(&kept, key));
        if expected != found {
            let (hour, [event_type, source, category]) = key;
            let hour_of = domain::timestamp::format(*hour);
            findings.push(Finding {
                kind: FindingKind::HourlyCount,
                tenant: Some(tenant.to_owned()),
                subject: format!("{event_type} of {source}, {category}, in the hour {hour_of}"),
                expected: expected.to_string(),
                found: found.to_string(),
                events: shown.get(key).cloned().unwrap_or_default(),
                remedy: (!lost).then(|| Remedy::Hourly(*hour, key.1.clone())),
            });
        }
    }
    Ok((findings, events))
}

/// The counts of a day as they are kept.
pub(super) async fn daily(
    tx: &Transaction<'_>,
    tenant: &str,
    day: Date,
) -> Result<BTreeMap<String, i64>, Error> {
    let rows = tx.query(DAYS, &[&tenant, &day]).await?;
    let pair = |row: &tokio_postgres::Row| Ok((row.try_get(0)?, row.try_get(1)?));
    Ok(rows
        .iter()
        .map(pair)
        .collect::<Result<_, tokio_postgres::Error>>()?)
}

fn keys<'a, K: Ord, V>(one: &'a BTreeMap<K, V>, other: &'a BTreeMap<K, V>) -> BTreeSet<&'a K> {
    one.keys().chain(other.keys()).collect()
}

fn get<K: Ord>(counts: &BTreeMap<K, i64>, key: &K) -> i64 {
    counts.get(key).copied().unwrap_or(0)
}
