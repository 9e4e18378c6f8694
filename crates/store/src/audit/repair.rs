//! Repairs what differs, each difference in a transaction of its own that works it out once more.

use domain::fold::Extensions;
use time::{Date, Duration, OffsetDateTime};
use tokio_postgres::{Client, Transaction};

use super::counts::daily;
use super::finding::{Finding, Remedy};
use super::rows::bounds;
use crate::error::Error;
use crate::projections::{definition, refold};
use crate::write::OTHER;

/// Repairs it; false if that cannot be done, or is no longer needed.
///
/// # Errors
/// The database does not answer; nothing is changed then.
pub async fn repair(
    client: &mut Client,
    extensions: &Extensions,
    finding: &Finding,
) -> Result<bool, Error> {
    let Some(remedy) = &finding.remedy else {
        return Ok(false);
    };
    if let Remedy::Projection(id, entity) = remedy {
        let Some(of) = definition(client, *id).await? else {
            return Ok(false);
        };
        refold(client, extensions, &of, entity).await?;
        return Ok(true);
    }
    let tenant = finding.tenant.as_deref().unwrap_or_default();
    let tx = client.transaction().await?;
    tx.batch_execute("set local lock_timeout = '5s'").await?;
    let changed = match remedy {
        Remedy::Daily(day, event_type) => recount_day(&tx, tenant, *day, event_type).await?,
        Remedy::Hourly(hour, of) => recount_hour(&tx, tenant, *hour, of).await?,
        Remedy::Remove(id, at) => {
            let sql = "delete from events e using event_ids i where e.tenant_id = $1 and e.timestamp = $2 \
                and e.event_id = $3 and i.tenant_id = e.tenant_id and i.event_id = e.event_id \
                and i.timestamp <> e.timestamp";
            tx.execute(sql, &[&tenant, at, id]).await?
        }
        Remedy::Claim(id, at) => {
            let sql = "insert into event_ids (event_id, tenant_id, timestamp) \
                select event_id, tenant_id, timestamp from events \
                where tenant_id = $1 and timestamp = $2 and event_id = $3 on conflict do nothing";
            tx.execute(sql, &[&tenant, at, id]).await?
        }
        Remedy::Place(id, at) => {
            let sql = "update event_ids set timestamp = $2 where tenant_id = $1 and event_id = $3 \
                and exists (select from events where tenant_id = $1 and timestamp = $2 and event_id = $3)";
            tx.execute(sql, &[&tenant, at, id]).await?
        }
        Remedy::Stream(stream) => {
            // A writer that appends has locked the row, or waits for it.
            let sql = "insert into event_streams as s (tenant_id, stream_id, version) \
                select $1::text, $2::text, coalesce(max(stream_version), 0) from event_ids \
                where tenant_id = $1 and stream_id = $2 and stream_version is not null \
                on conflict (tenant_id, stream_id) do update \
                set version = greatest(s.version, excluded.version), updated_at = now()";
            tx.execute(sql, &[&tenant, stream]).await?
        }
        Remedy::Position(topic, partition, stored, to) => {
            let sql = "update log_positions set stored = $4, live = least(live, $4), updated_at = now() \
                where topic = $1 and partition = $2 and stored = $3";
            tx.execute(sql, &[topic, partition, stored, to]).await?
        }
        Remedy::Projection(..) => 0,
    };
    tx.commit().await?;
    Ok(changed > 0)
}

/// Which rows are counted as a type, $2: those of the type, and where it stands for others ($6), those of
/// the types ($5) that are not counted by themselves.
const OF_TYPE: &str = "from events where tenant_id = $1 and timestamp >= $3 and timestamp < $4 \
    and (event_type = $2 or $6 and event_type <> all($5::text[]))";

/// With the row locked, all that is committed is counted, and who stores waits to add to it.
async fn recount_day(
    tx: &Transaction<'_>,
    tenant: &str,
    day: Date,
    event_type: &str,
) -> Result<u64, Error> {
    let lock = "insert into aggregated_events as a (tenant_id, event_type, date, count) values ($1, $2, $3, 0) \
        on conflict (tenant_id, event_type, date) do update set count = a.count";
    tx.execute(lock, &[&tenant, &event_type, &day]).await?;
    let types: Vec<String> = daily(tx, tenant, day).await?.into_keys().collect();
    let (start, end) = bounds(day);
    let set = format!(
        "update aggregated_events set count = (select count(*) {OF_TYPE}) \
         where tenant_id = $1 and event_type = $2 and date = $7"
    );
    let other = event_type == OTHER;
    let changed = tx
        .execute(
            &set,
            &[&tenant, &event_type, &start, &end, &types, &other, &day],
        )
        .await?;
    let none = "delete from aggregated_events where tenant_id = $1 and event_type = $2 and date = $3 and count = 0";
    tx.execute(none, &[&tenant, &event_type, &day]).await?;
    Ok(changed)
}

async fn recount_hour(
    tx: &Transaction<'_>,
    tenant: &str,
    hour: OffsetDateTime,
    [event_type, source, category]: &[String; 3],
) -> Result<u64, Error> {
    let lock = "insert into aggregated_events_hourly as a \
            (tenant_id, hour, event_type, event_source, event_category, count) values ($1, $2, $3, $4, $5, 0) \
        on conflict (tenant_id, hour, event_type, event_source, event_category) do update set count = a.count";
    tx.execute(lock, &[&tenant, &hour, event_type, source, category])
        .await?;
    let types: Vec<String> = daily(tx, tenant, hour.date()).await?.into_keys().collect();
    let set = format!(
        "update aggregated_events_hourly set count = (select count(*) {OF_TYPE} \
             and event_source = $7 and event_category = $8) \
         where tenant_id = $1 and event_type = $2 and hour = $3 and event_source = $7 and event_category = $8"
    );
    let end = hour + Duration::hours(1);
    let other = event_type == OTHER;
    let changed = tx
        .execute(
            &set,
            &[
                &tenant, event_type, &hour, &end, &types, &other, source, category,
            ],
        )
        .await?;
    let none = "delete from aggregated_events_hourly where tenant_id = $1 and hour = $2 and event_type = $3 \
        and event_source = $4 and event_category = $5 and count = 0";
    tx.execute(none, &[&tenant, &hour, event_type, source, category])
        .await?;
    Ok(changed)
}
