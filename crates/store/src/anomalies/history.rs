//! The counts that a tenant is judged by.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use domain::TenantId;
use domain::anomaly::{History, HourCount, MinuteCount, PAST_DAYS, Rule, past_hours, reach};
use time::{Date, Duration, OffsetDateTime};
use tokio_postgres::Client;

use super::alerts::at_minute;
use crate::error::Error;

/// Counts by the minute of one judging, at most.
pub const MAX_COUNTS: i64 = 1_000_000;
/// Days before that a type is looked for in: one that is there is no new one.
const KNOWN_DAYS: i64 = PAST_DAYS + 14;

const MINUTES: &str = "select extract(epoch from minute)::int8 / 60, event_type, event_source, api, count \
    from event_minutes where tenant = $1 and minute >= $2 and minute < $3 order by minute limit $4";
const HOURS: &str = "select extract(epoch from hour)::int8 / 3600, event_type, event_source, sum(count)::int8 \
    from aggregated_events_hourly where tenant_id = $1 and hour = any($2) group by 1, 2, 3";
const SINCE: &str = "select event_type, min(date) from aggregated_events \
    where tenant_id = $1 and date >= $2 group by 1";

/// The tenants that had events in the past that counts.
///
/// # Errors
/// The database does not answer.
pub async fn tenants(client: &Client, now: OffsetDateTime) -> Result<Vec<TenantId>, Error> {
    let sql = "select distinct tenant_id from aggregated_events where date >= $1";
    let since = now.date() - Duration::days(KNOWN_DAYS);
    let rows = client.query(sql, &[&since]).await?;
    let tenant = |row: &tokio_postgres::Row| TenantId::parse(row.get(0));
    Ok(rows.iter().filter_map(tenant).collect())
}

/// What these rules need to judge a tenant at these minutes; `None` if that is more than [`MAX_COUNTS`].
///
/// # Errors
/// The database does not answer.
pub async fn history(
    client: &Client,
    tenant: &TenantId,
    rules: &[Rule],
    minutes: RangeInclusive<i64>,
) -> Result<Option<History>, Error> {
    let tenant = tenant.as_str();
    let (first, end) = (
        at_minute(minutes.start() - reach(rules)),
        at_minute(*minutes.end()),
    );
    let hours = past_hours(minutes).into_iter();
    let hours: Vec<OffsetDateTime> = hours.map(|hour| at_minute(hour * 60)).collect();
    let known = first.date() - Duration::days(KNOWN_DAYS);
    let most = MAX_COUNTS + 1;
    let minutes = client
        .query(MINUTES, &[&tenant, &first, &end, &most])
        .await?;
    let hours = client.query(HOURS, &[&tenant, &hours]).await?;
    let since = client.query(SINCE, &[&tenant, &known]).await?;
    if i64::try_from(minutes.len()).is_ok_and(|count| count > MAX_COUNTS) {
        return Ok(None);
    }
    let mut history = History {
        since: HashMap::with_capacity(since.len()),
        ..History::default()
    };
    for row in minutes {
        history.minutes.push(MinuteCount {
            minute: row.try_get(0)?,
            event_type: row.try_get(1)?,
            event_source: row.try_get(2)?,
            api: row.try_get(3)?,
            count: row.try_get(4)?,
        });
    }
    for row in hours {
        history.hours.push(HourCount {
            hour: row.try_get(0)?,
            event_type: row.try_get(1)?,
            event_source: row.try_get(2)?,
            count: row.try_get(3)?,
        });
    }
    for row in since {
        // Its first day may not be whole.
        let day: Date = row.try_get(1)?;
        let whole = (day + Duration::days(1)).midnight().assume_utc();
        let hour = whole.unix_timestamp() / 3_600;
        history.since.insert(row.try_get(0)?, hour);
    }
    Ok(Some(history))
}
