//! Statistics, from the counts kept with every write: their cost depends on the days and types
//! asked for, not on the number of events. Only a user's statistics look at events, at that user's.

use domain::TenantId;
use time::{Date, Duration, OffsetDateTime, PrimitiveDateTime, Time};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use crate::error::Error;
use crate::sql::Sql;

/// What to count.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Whose events.
    pub tenant_id: TenantId,
    /// Only this user's.
    pub user_id: Option<String>,
    /// The current day, UTC.
    pub today: Date,
    /// Begin of the breakdown and series, inclusive.
    pub start: OffsetDateTime,
    /// Their end, inclusive; `None` = open.
    pub end: Option<OffsetDateTime>,
}

/// Events of one type on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DailyCount {
    /// The day, UTC.
    pub date: Date,
    /// The type.
    pub event_type: String,
    /// How many.
    pub count: i64,
}

/// Counts of a scope.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// All events, whatever their time.
    pub total: i64,
    /// Those of today and later.
    pub today: i64,
    /// Those since seven days before today.
    pub week: i64,
    /// Those since thirty days before today.
    pub month: i64,
    /// All events by status, without `processed`.
    pub open: Vec<(String, i64)>,
    /// Events of the range by type, most first, at most [`MAX_TYPES`].
    pub by_type: Vec<(String, i64)>,
    /// Events of the range by source, most first.
    pub by_source: Vec<(String, i64)>,
    /// Events of the range by category, most first.
    pub by_category: Vec<(String, i64)>,
    /// Events of the range by day and type, latest day first, at most [`MAX_SERIES`].
    pub daily: Vec<DailyCount>,
}

/// Most types of a breakdown.
pub const MAX_TYPES: usize = 1_000;
/// Most entries of the daily series.
pub const MAX_SERIES: usize = 10_000;

/// Counts.
///
/// # Errors
/// The database does not answer.
pub async fn read(client: &Client, scope: &Scope) -> Result<Statistics, Error> {
    let sql = StatisticsSql::new(scope);
    // One connection, all questions sent at once.
    let (totals, open, by_type, by_source, by_category, daily) = tokio::try_join!(
        sql.totals.row(client),
        sql.open.rows(client),
        sql.by_type.rows(client),
        sql.by_source.rows(client),
        sql.by_category.rows(client),
        sql.daily.rows(client),
    )?;
    Ok(Statistics {
        total: totals.try_get(0)?,
        today: totals.try_get(1)?,
        week: totals.try_get(2)?,
        month: totals.try_get(3)?,
        open: pairs(&open)?,
        by_type: pairs(&by_type)?,
        by_source: pairs(&by_source)?,
        by_category: pairs(&by_category)?,
        daily: daily
            .iter()
            .map(|row| {
                Ok(DailyCount {
                    date: row.try_get(0)?,
                    event_type: row.try_get(1)?,
                    count: row.try_get(2)?,
                })
            })
            .collect::<Result<_, tokio_postgres::Error>>()?,
    })
}

/// The statements of [`read`].
#[derive(Debug)]
#[expect(
    missing_docs,
    reason = "one for each field of Statistics; totals for the first four"
)]
pub struct StatisticsSql {
    pub totals: Sql,
    pub open: Sql,
    pub by_type: Sql,
    pub by_source: Sql,
    pub by_category: Sql,
    pub daily: Sql,
}

impl StatisticsSql {
    /// Composes them.
    #[must_use]
    pub fn new(scope: &Scope) -> Self {
        match &scope.user_id {
            None => Self::of_all(scope),
            Some(user) => Self::of_user(scope, user),
        }
    }

    fn of_all(scope: &Scope) -> Self {
        let tenant = || scope.tenant_id.as_str().to_owned();
        let days = |text| {
            let mut sql = Sql::new(text);
            sql.bind(tenant(), Type::TEXT)
                .push(" and date >= ")
                .bind(day(scope.start), Type::DATE);
            if let Some(end) = scope.end {
                sql.push(" and date <= ").bind(day(end), Type::DATE);
            }
            sql
        };
        let hours = |text| {
            let mut sql = Sql::new(text);
            sql.bind(tenant(), Type::TEXT)
                .push(" and hour >= ")
                .bind(hour(scope.start), Type::TIMESTAMPTZ);
            if let Some(end) = scope.end {
                sql.push(" and hour <= ").bind(end, Type::TIMESTAMPTZ);
            }
            sql.push(GROUPED);
            sql
        };

        let mut totals = Sql::new(
            "select coalesce(sum(count), 0)::int8, \
             coalesce(sum(count) filter (where date >= ",
        );
        totals
            .bind(scope.today, Type::DATE)
            .push("), 0)::int8, coalesce(sum(count) filter (where date >= ")
            .bind(scope.today - Duration::days(7), Type::DATE)
            .push("), 0)::int8, coalesce(sum(count) filter (where date >= ")
            .bind(scope.today - Duration::days(30), Type::DATE)
            .push("), 0)::int8 from aggregated_events where tenant_id = ")
            .bind(tenant(), Type::TEXT);

        let mut open = Sql::new("select status, count(*) from events where tenant_id = ");
        open.bind(tenant(), Type::TEXT)
            .push(" and status <> 'processed' group by status");

        let mut daily =
            days("select date, event_type, count from aggregated_events where tenant_id = ");
        daily.push(SERIES);
        Self {
            totals,
            open,
            by_type: hours(
                "select event_type, sum(count)::int8 from aggregated_events_hourly \
                 where tenant_id = ",
            ),
            by_source: hours(
                "select event_source, sum(count)::int8 from aggregated_events_hourly \
                 where tenant_id = ",
            ),
            by_category: hours(
                "select event_category, sum(count)::int8 from aggregated_events_hourly \
                 where tenant_id = ",
            ),
            daily,
        }
    }

    fn of_user(scope: &Scope, user: &str) -> Self {
        let of_user = |sql: &mut Sql| {
            sql.bind(scope.tenant_id.as_str().to_owned(), Type::TEXT)
                .push(" and user_id = ")
                .bind(user.to_owned(), Type::TEXT);
        };
        let range = |text| {
            let mut sql = Sql::new(text);
            of_user(&mut sql);
            sql.push(" and timestamp >= ")
                .bind(scope.start, Type::TIMESTAMPTZ);
            if let Some(end) = scope.end {
                sql.push(" and timestamp <= ").bind(end, Type::TIMESTAMPTZ);
            }
            sql
        };
        let grouped = |text| {
            let mut sql = range(text);
            sql.push(GROUPED);
            sql
        };
        let since = |days| (scope.today - Duration::days(days)).midnight().assume_utc();

        let mut totals = Sql::new("select count(*), count(*) filter (where timestamp >= ");
        totals
            .bind(since(0), Type::TIMESTAMPTZ)
            .push("), count(*) filter (where timestamp >= ")
            .bind(since(7), Type::TIMESTAMPTZ)
            .push("), count(*) filter (where timestamp >= ")
            .bind(since(30), Type::TIMESTAMPTZ)
            .push(") from events where tenant_id = ");
        of_user(&mut totals);

        let mut open = Sql::new("select status, count(*) from events where tenant_id = ");
        of_user(&mut open);
        open.push(" and status <> 'processed' group by status");

        let mut daily = range(
            "select (timestamp at time zone 'utc')::date as date, event_type, count(*) as count \
             from events where tenant_id = ",
        );
        daily.push(" group by 1, 2").push(SERIES);
        Self {
            totals,
            open,
            by_type: grouped("select event_type, count(*) from events where tenant_id = "),
            by_source: grouped("select event_source, count(*) from events where tenant_id = "),
            by_category: grouped("select event_category, count(*) from events where tenant_id = "),
            daily,
        }
    }
}

/// Limited to [`MAX_TYPES`].
const GROUPED: &str = " group by 1 order by 2 desc, 1 limit 1000";
/// The latest days first, limited to [`MAX_SERIES`].
const SERIES: &str = " order by date desc, count desc, event_type limit 10000";

fn day(at: OffsetDateTime) -> Date {
    at.date()
}

/// The full hour that a time is in.
fn hour(at: OffsetDateTime) -> OffsetDateTime {
    Time::from_hms(at.hour(), 0, 0)
        .map(|clock| PrimitiveDateTime::new(at.date(), clock).assume_utc())
        .unwrap_or(at)
}

fn pairs(rows: &[Row]) -> Result<Vec<(String, i64)>, tokio_postgres::Error> {
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}
