//! The alerts.

use domain::TenantId;
use domain::anomaly::{Alert, Kind};
use time::OffsetDateTime;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Transaction};
use uuid::Uuid;

use crate::error::Error;
use crate::sql::Columns;

const COLUMNS: &str = "alert_id, tenant, rule, kind, subject, opened_at, value, usual, worst, events, \
    window_minutes, notified, notified_at, well_since, resolved_at, updated_at";

/// An alert as it is kept.
#[derive(Debug, Clone)]
pub struct StoredAlert {
    /// Its number.
    pub alert_id: Uuid,
    /// Whose events it is about.
    pub tenant: TenantId,
    /// What it says.
    pub alert: Alert,
    /// When it was over; none while it is open.
    pub resolved_at: Option<OffsetDateTime>,
    /// When it was changed last.
    pub updated_at: OffsetDateTime,
}

/// Which alerts to list.
#[derive(Debug, Clone, Default)]
pub struct AlertFilter {
    /// `open` or `resolved`.
    pub state: Option<&'static str>,
    /// Of that kind.
    pub kind: Option<Kind>,
    /// Opened before this one.
    pub before: Option<OffsetDateTime>,
}

/// The time of a minute since 1970.
#[must_use]
pub fn at_minute(minute: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(minute.saturating_mul(60))
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// The minute since 1970 that a time is in.
#[must_use]
pub fn minute_of(at: OffsetDateTime) -> i64 {
    at.unix_timestamp().div_euclid(60)
}

impl StoredAlert {
    fn from_row(row: &Row) -> Result<Self, Error> {
        let mut columns = Columns::new(row);
        let alert_id = columns.next()?;
        let tenant: &str = columns.next()?;
        let rule = columns.next()?;
        let kind: &str = columns.next()?;
        let kind = Kind::parse(kind).ok_or_else(|| Error::Stored(format!("kind {kind}")))?;
        let subject = columns.next()?;
        let opened_at = minute_of(columns.next()?);
        let (value, usual, worst) = (columns.next()?, columns.next()?, columns.next()?);
        let events = columns.next()?;
        let window: i32 = columns.next()?;
        let notified = columns.next()?;
        let notified_at = minute_of(columns.next()?);
        let well_since: Option<OffsetDateTime> = columns.next()?;
        Ok(Self {
            alert_id,
            tenant: TenantId::parse(tenant).unwrap_or_default(),
            alert: Alert {
                rule,
                kind,
                subject,
                opened_at,
                value,
                usual,
                worst,
                events,
                window_minutes: i64::from(window),
                notified,
                notified_at,
                well_since: well_since.map(minute_of),
            },
            resolved_at: columns.next()?,
            updated_at: columns.next()?,
        })
    }
}

/// Alerts of a tenant, the newest first.
///
/// # Errors
/// The database does not answer.
pub async fn list(
    client: &Client,
    tenant: &TenantId,
    filter: &AlertFilter,
    limit: i64,
) -> Result<Vec<StoredAlert>, Error> {
    let sql = format!(
        "select {COLUMNS} from anomaly_alerts where tenant = $1 and ($2::text is null or state = $2) \
         and ($3::text is null or kind = $3) and ($4::timestamptz is null or opened_at < $4) \
         order by opened_at desc, alert_id desc limit $5"
    );
    let kind = filter.kind.map(Kind::as_str);
    let rows = client
        .query(
            &sql,
            &[
                &tenant.as_str(),
                &filter.state,
                &kind,
                &filter.before,
                &limit,
            ],
        )
        .await?;
    rows.iter().map(StoredAlert::from_row).collect()
}

/// All that are open, of all tenants.
///
/// # Errors
/// The database does not answer.
pub async fn open(client: &Client) -> Result<Vec<StoredAlert>, Error> {
    let sql = format!("select {COLUMNS} from anomaly_alerts where state = 'open'");
    let rows = client.query(&sql, &[]).await?;
    rows.iter().map(StoredAlert::from_row).collect()
}

/// Writes an alert as it is now.
pub(super) async fn save(tx: &Transaction<'_>, stored: &StoredAlert) -> Result<(), Error> {
    let sql = "insert into anomaly_alerts (alert_id, tenant, rule, kind, subject, opened_at, value, usual, \
            worst, events, window_minutes, notified, notified_at, well_since, resolved_at, message, state) \
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, \
            case when $15::timestamptz is null then 'open' else 'resolved' end) \
        on conflict (alert_id) do update set value = excluded.value, usual = excluded.usual, \
            worst = excluded.worst, events = excluded.events, window_minutes = excluded.window_minutes, \
            notified = excluded.notified, notified_at = excluded.notified_at, well_since = excluded.well_since, \
            resolved_at = excluded.resolved_at, message = excluded.message, state = excluded.state, \
            updated_at = now()";
    let alert = &stored.alert;
    let window = i32::try_from(alert.window_minutes).unwrap_or(i32::MAX);
    let values: [&(dyn ToSql + Sync); 16] = [
        &stored.alert_id,
        &stored.tenant.as_str(),
        &alert.rule,
        &alert.kind.as_str(),
        &alert.subject,
        &at_minute(alert.opened_at),
        &alert.value,
        &alert.usual,
        &alert.worst,
        &alert.events,
        &window,
        &alert.notified,
        &at_minute(alert.notified_at),
        &alert.well_since.map(at_minute),
        &stored.resolved_at,
        &alert.message(),
    ];
    tx.execute(sql, &values).await?;
    Ok(())
}
