//! Statistics, from the counts kept with every write: their cost depends on the days and types
//! asked for, not on the number of events. Only a user's statistics look at events, at that user's.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use domain::TenantId;
use time::{Date, Duration, OffsetDateTime, PrimitiveDateTime, Time};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use crate::error::Error;
use crate::event_reads::{Step, steps};
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
#[derive(Debug, Clone, Default, PartialEq)]
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
    /// Of a user: seconds from accepted to stored of the events of the range, together. Those of all are counted
    /// beside ([`crate::user_counts`]).
    pub seconds: f64,
}

/// Most types of a breakdown.
pub const MAX_TYPES: usize = 1_000;
/// Most entries of the daily series.
pub const MAX_SERIES: usize = 10_000;

/// Counts. `edges` are where partitions meet ([`crate::partitions::edges`]).
///
/// # Errors
/// The database does not answer.
pub async fn read(
    client: &Client,
    edges: &[OffsetDateTime],
    scope: &Scope,
) -> Result<Statistics, Error> {
    let steps = steps(edges, None, None);
    if let Some(user) = &scope.user_id {
        let mut counts = UserCounts::default();
        for step in steps {
            for row in user_sql(scope, user, step).rows(client).await? {
                counts.add(scope, &row)?;
            }
        }
        return Ok(counts.statistics());
    }
    let sql = StatisticsSql::new(scope);
    // One connection, all questions sent at once.
    let (totals, by_type, by_source, by_category, daily) = tokio::try_join!(
        sql.totals.row(client),
        sql.by_type.rows(client),
        sql.by_source.rows(client),
        sql.by_category.rows(client),
        sql.daily.rows(client),
    )?;
    let mut open = BTreeMap::new();
    for step in steps {
        for (status, count) in pairs(&open_sql(scope, step).rows(client).await?)? {
            *open.entry(status).or_default() += count;
        }
    }
    Ok(Statistics {
        total: totals.try_get(0)?,
        today: totals.try_get(1)?,
        week: totals.try_get(2)?,
        month: totals.try_get(3)?,
        open: open.into_iter().collect(),
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
        seconds: 0.0,
    })
}

/// The statements of [`read`] over the counts.
#[derive(Debug)]
#[expect(
    missing_docs,
    reason = "one for each field of Statistics; totals for the first four"
)]
pub struct StatisticsSql {
    pub totals: Sql,
    pub by_type: Sql,
    pub by_source: Sql,
    pub by_category: Sql,
    pub daily: Sql,
}

/// The statement that counts what is not processed, in one step of the events.
#[must_use]
pub fn open_sql(scope: &Scope, step: Step) -> Sql {
    let mut sql = Sql::new("select e.status, count(*) from events e where e.tenant_id = ");
    sql.bind(scope.tenant_id.as_str().to_owned(), Type::TEXT)
        .push(" and e.status <> 'processed'");
    step.conditions(&mut sql);
    sql.push(" group by 1");
    sql
}

/// The statement that counts a user's events, in one step of them.
#[must_use]
pub fn user_sql(scope: &Scope, user: &str, step: Step) -> Sql {
    let mut sql = Sql::new(
        "select (e.timestamp at time zone 'utc')::date, e.event_type, e.event_source, \
         e.event_category, e.status, e.timestamp >= ",
    );
    sql.bind(scope.start, Type::TIMESTAMPTZ);
    if let Some(end) = scope.end {
        sql.push(" and e.timestamp <= ")
            .bind(end, Type::TIMESTAMPTZ);
    }
    sql.push(
        ", count(*), sum(greatest(extract(epoch from e.created_at - e.received_at), 0))::float8 ",
    )
    .push("from events e where e.tenant_id = ")
    .bind(scope.tenant_id.as_str().to_owned(), Type::TEXT)
    .push(" and e.user_id = ")
    .bind(user.to_owned(), Type::TEXT);
    step.conditions(&mut sql);
    sql.push(" group by 1, 2, 3, 4, 5, 6");
    sql
}

/// A user's events, counted one by one.
#[derive(Default)]
struct UserCounts {
    total: i64,
    today: i64,
    week: i64,
    month: i64,
    open: BTreeMap<String, i64>,
    by_type: BTreeMap<String, i64>,
    by_source: BTreeMap<String, i64>,
    by_category: BTreeMap<String, i64>,
    daily: BTreeMap<(Date, String), i64>,
    seconds: f64,
}

impl UserCounts {
    /// Adds a row of [`user_sql`].
    fn add(&mut self, scope: &Scope, row: &Row) -> Result<(), tokio_postgres::Error> {
        let (date, count): (Date, i64) = (row.try_get(0)?, row.try_get(6)?);
        self.total += count;
        for (days, sum) in [
            (0, &mut self.today),
            (7, &mut self.week),
            (30, &mut self.month),
        ] {
            if date >= scope.today - Duration::days(days) {
                *sum += count;
            }
        }
        let status: String = row.try_get(4)?;
        if status != "processed" {
            *self.open.entry(status).or_default() += count;
        }
        if row.try_get(5)? {
            let event_type: String = row.try_get(1)?;
            *self.by_type.entry(event_type.clone()).or_default() += count;
            *self.by_source.entry(row.try_get(2)?).or_default() += count;
            *self.by_category.entry(row.try_get(3)?).or_default() += count;
            *self.daily.entry((date, event_type)).or_default() += count;
            self.seconds += row.try_get::<_, f64>(7)?;
        }
        Ok(())
    }

    fn statistics(self) -> Statistics {
        let most_first = |counts: BTreeMap<String, i64>| {
            let mut counts: Vec<_> = counts.into_iter().collect();
            counts.sort_by_key(|(_, count)| Reverse(*count));
            counts.truncate(MAX_TYPES);
            counts
        };
        let day = |((date, event_type), count)| DailyCount {
            date,
            event_type,
            count,
        };
        let mut daily: Vec<_> = self.daily.into_iter().map(day).collect();
        daily.sort_by_key(|day| (Reverse(day.date), Reverse(day.count)));
        daily.truncate(MAX_SERIES);
        Statistics {
            total: self.total,
            today: self.today,
            week: self.week,
            month: self.month,
            open: self.open.into_iter().collect(),
            by_type: most_first(self.by_type),
            by_source: most_first(self.by_source),
            by_category: most_first(self.by_category),
            daily,
            seconds: self.seconds,
        }
    }
}

impl StatisticsSql {
    /// Composes them.
    #[must_use]
    pub fn new(scope: &Scope) -> Self {
        let tenant = || scope.tenant_id.as_str().to_owned();
        let days = |text| {
            let mut sql = Sql::new(text);
            sql.bind(tenant(), Type::TEXT)
                .push(" and date >= ")
                .bind(scope.start.date(), Type::DATE);
            if let Some(end) = scope.end {
                sql.push(" and date <= ").bind(end.date(), Type::DATE);
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

        let mut daily =
            days("select date, event_type, count from aggregated_events where tenant_id = ");
        daily.push(SERIES);
        Self {
            totals,
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
}

/// Limited to [`MAX_TYPES`].
const GROUPED: &str = " group by 1 order by 2 desc, 1 limit 1000";
/// The latest days first, limited to [`MAX_SERIES`].
const SERIES: &str = " order by date desc, count desc, event_type limit 10000";

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
