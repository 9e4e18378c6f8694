//! What the console shows of the moment: how much a tenant has stored, and what waits.

use domain::TenantId;
use time::OffsetDateTime;
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::error::Error;
use crate::log::LOG;

/// What waits is counted up to here, so that a backlog costs the same to look at however long it is.
pub const MANY: i64 = 100_000;

/// The figures of a tenant at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// Its events, ever.
    pub stored: i64,
    /// Its open dead letters, up to [`MANY`], as everything that follows.
    pub dead: i64,
    /// Events that wait for a processor.
    pub unprocessed: i64,
    /// Events that wait for a webhook.
    pub undelivered: i64,
    /// Webhooks without a success for a while, or switched off because of that.
    pub failing: i64,
    /// Alerts that are open.
    pub alerts: i64,
    /// Records of all tenants in the log on PostgreSQL that are not stored yet.
    pub in_log: i64,
    /// Records of all tenants in Kafka that are not stored yet, as far as processors said so in the last minute;
    /// `None` if none did.
    pub in_kafka: Option<i64>,
    /// Announcements of all tenants that wait.
    pub unannounced: i64,
    /// When a position of a log was moved last.
    pub moved_at: Option<OffsetDateTime>,
    /// How many of the tenant's events were stored in the last seconds, and how long after they were
    /// accepted: in the middle, and at most. By the clocks of gateway and database.
    pub recent: Recent,
    /// What changes when something happens to them.
    pub changes: Changes,
}

/// Numbers that are others once something happened there: a page that shows it looks again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named by what they are of")]
pub struct Changes {
    pub dead_letters: i64,
    pub deliveries: i64,
    pub replays: i64,
    pub erasures: i64,
    pub alerts: i64,
    pub audits: i64,
}

/// The last seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "explained at Figures::recent")]
pub struct Recent {
    pub stored: i64,
    pub median_seconds: Option<f64>,
    pub most_seconds: Option<f64>,
}

/// The seconds that [`Recent`] looks back.
pub const RECENT_SECONDS: f64 = 5.0;

/// Reads them.
///
/// # Errors
/// The database does not answer.
pub async fn read(client: &Client, tenant: &TenantId) -> Result<Figures, Error> {
    let waits = "select \
        (select coalesce(sum(count), 0)::int8 from aggregated_events where tenant_id = $1), \
        (select count(*) from (select from dead_letters where tenant_id = $1 and state = 'open' limit $2) d), \
        (select count(*) from (select from work where tenant_id = $1 and kind = 1 limit $2) w), \
        (select count(*) from (select from work where tenant_id = $1 and kind = 2 limit $2) w), \
        (select count(*) from event_subscriptions where tenant_id = $1 \
            and (failing_since is not null or disabled_reason in ('gone', 'failing'))), \
        (select count(*) from (select from event_log limit $2) l), \
        (select count(*) from (select from outbox limit $2) o), \
        (select max(updated_at) from log_positions where topic <> $3 or stored > 0), \
        (select coalesce(extract(epoch from max(changed_at)) * 1000000, 0)::int8 from \
            (select changed_at from dead_letters where tenant_id = $1 order by id desc limit 1000) d), \
        (select coalesce(max(id), 0) from webhook_attempts), \
        (select coalesce(sum(1 + replayed + failed) + count(ended_at), 0)::int8 from \
            (select * from replays where tenant_id = $1 order by created_at desc limit 100) r), \
        (select coalesce(count(*) + count(ended_at) + sum(dropped), 0)::int8 from erasures where tenant = $1), \
        (select count(*) from anomaly_alerts where tenant = $1 and state = 'open'), \
        (select count(*) + count(resolved_at) from \
            (select resolved_at from anomaly_alerts where tenant = $1 order by opened_at desc limit 1000) a), \
        (select coalesce(sum(1 + checked + findings + repaired) + count(ended_at), 0)::int8 from \
            (select * from audits order by created_at desc limit 100) a), \
        (select sum(records)::int8 from kafka_lags where updated_at > now() - interval '1 minute')";
    let recent = "select count(*), \
        percentile_cont(0.5) within group (order by extract(epoch from created_at - received_at)::float8), \
        max(extract(epoch from created_at - received_at))::float8 \
        from events where tenant_id = $1 and created_at >= now() - make_interval(secs => $2)";
    let tenant = tenant.as_str();
    let params = [
        (&tenant as _, Type::TEXT),
        (&MANY as _, Type::INT8),
        (&LOG as _, Type::TEXT),
    ];
    let recent_params = [
        (&tenant as _, Type::TEXT),
        (&RECENT_SECONDS as _, Type::FLOAT8),
    ];
    let (waits, recent) = tokio::try_join!(
        client.query_typed_one(waits, &params),
        client.query_typed_one(recent, &recent_params),
    )?;
    Ok(Figures {
        stored: waits.try_get(0)?,
        dead: waits.try_get(1)?,
        unprocessed: waits.try_get(2)?,
        undelivered: waits.try_get(3)?,
        failing: waits.try_get(4)?,
        alerts: waits.try_get(12)?,
        in_log: waits.try_get(5)?,
        in_kafka: waits.try_get(15)?,
        unannounced: waits.try_get(6)?,
        moved_at: waits.try_get(7)?,
        recent: Recent {
            stored: recent.try_get(0)?,
            median_seconds: recent.try_get(1)?,
            most_seconds: recent.try_get(2)?,
        },
        changes: Changes {
            dead_letters: waits.try_get(8)?,
            deliveries: waits.try_get(9)?,
            replays: waits.try_get(10)?,
            erasures: waits.try_get(11)?,
            alerts: waits.try_get(13)?,
            audits: waits.try_get(14)?,
        },
    })
}

/// Notes how many records of a processor's partitions of Kafka are not stored yet.
///
/// # Errors
/// The database does not answer.
pub async fn note_lag(client: &Client, processor: Uuid, records: i64) -> Result<(), Error> {
    let sql = "with gone as (delete from kafka_lags where updated_at < now() - interval '5 minutes') \
        insert into kafka_lags (processor, records) values ($1, $2) \
        on conflict (processor) do update set records = excluded.records, updated_at = now()";
    client.execute(sql, &[&processor, &records]).await?;
    Ok(())
}

/// How many events the tenant stored in each of the last `seconds`, where there were any: the second,
/// as Unix time, and the number.
///
/// # Errors
/// The database does not answer.
pub async fn history(
    client: &Client,
    tenant: &TenantId,
    seconds: f64,
) -> Result<Vec<(i64, i64)>, Error> {
    let sql = "select extract(epoch from date_trunc('second', created_at))::int8, count(*) from events \
        where tenant_id = $1 and created_at >= now() - make_interval(secs => $2) group by 1 order by 1";
    let params = [
        (&tenant.as_str() as _, Type::TEXT),
        (&seconds as _, Type::FLOAT8),
    ];
    let rows = client.query_typed(sql, &params).await?;
    let pair = |row: &tokio_postgres::Row| Ok((row.try_get(0)?, row.try_get(1)?));
    rows.iter().map(pair).collect()
}
