//! The partitions of `events`: made ahead of time, one a month or one a day.

use time::{Date, Duration, Month, OffsetDateTime, UtcOffset};
use tokio_postgres::error::SqlState;

use crate::error::Error;
use crate::pool::Database;

/// Key of the advisory lock under which partitions are made.
const LOCK: i64 = 0x7469_6465_7061_7274;

/// How much time one partition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interval {
    /// A calendar month, UTC.
    Month,
    /// A day, UTC.
    Day,
}

impl std::str::FromStr for Interval {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "month" => Ok(Self::Month),
            "day" => Ok(Self::Day),
            _ => Err("month or day"),
        }
    }
}

impl std::fmt::Display for Interval {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Month => "month",
            Self::Day => "day",
        })
    }
}

/// One partition, by its first day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Period {
    /// Its first day.
    pub start: Date,
    /// The first day after it.
    pub end: Date,
}

impl Interval {
    /// The period that a moment falls into.
    #[must_use]
    pub fn period(self, at: OffsetDateTime) -> Period {
        let day = at.to_offset(UtcOffset::UTC).date();
        match self {
            Self::Day => Period {
                start: day,
                end: day.next_day().unwrap_or(Date::MAX),
            },
            Self::Month => {
                let start = day.replace_day(1).unwrap_or(day);
                let (year, month) = match start.month() {
                    Month::December => (start.year() + 1, Month::January),
                    month => (start.year(), month.next()),
                };
                let end = Date::from_calendar_date(year, month, 1).unwrap_or(Date::MAX);
                Period { start, end }
            }
        }
    }

    /// The oldest period that gets a partition of its own; what is older shares the default one,
    /// so that no sender decides how many partitions there are.
    #[must_use]
    pub fn oldest(self, now: OffsetDateTime) -> Period {
        let days = match self {
            Self::Month => 36 * 30,
            Self::Day => 90,
        };
        self.period(now - Duration::days(days))
    }

    /// The period of `now` and the `ahead` following ones.
    #[must_use]
    pub fn upcoming(self, now: OffsetDateTime, ahead: usize) -> Vec<Period> {
        let mut periods = vec![self.period(now)];
        for _ in 0..ahead {
            if let Some(last) = periods.last() {
                periods.push(self.period(last.end.midnight().assume_utc()));
            }
        }
        periods
    }

    fn name(self, period: Period) -> String {
        let (year, month) = (period.start.year(), u8::from(period.start.month()));
        match self {
            Self::Month => format!("events_{year:04}_{month:02}"),
            Self::Day => format!("events_{year:04}_{month:02}_{:02}", period.start.day()),
        }
    }
}

/// Makes the partitions that are missing. A period that another partition already covers (the
/// interval was changed), or that has rows in the default partition, is left as it is. Returns the
/// names of the new ones.
///
/// # Errors
/// The database does not answer.
pub async fn ensure(
    db: &Database,
    interval: Interval,
    periods: &[Period],
) -> Result<Vec<String>, Error> {
    let mut client = db.client().await?;
    let mut made = Vec::new();
    for &period in periods {
        let name = interval.name(period);
        let tx = client.transaction().await?;
        tx.execute("select pg_advisory_xact_lock($1)", &[&LOCK])
            .await?;
        let row = tx
            .query_one("select to_regclass($1) is not null", &[&name])
            .await?;
        if row.get(0) {
            continue;
        }
        // Taking the parent's lock must not make a queue of all readers and writers.
        tx.batch_execute("set local lock_timeout = '5s'").await?;
        let create = format!(
            "create table {name} partition of events \
             for values from ('{} 00:00:00+00') to ('{} 00:00:00+00')",
            period.start, period.end,
        );
        match tx.batch_execute(&create).await {
            Ok(()) => {
                tx.commit().await?;
                made.push(name);
            }
            Err(error) if covered(&error) => {
                tracing::warn!(partition = name, error = %error, "partition not made: its period is covered already");
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(made)
}

fn covered(error: &tokio_postgres::Error) -> bool {
    matches!(
        error.code(),
        Some(&SqlState::INVALID_OBJECT_DEFINITION | &SqlState::CHECK_VIOLATION)
    )
}

#[cfg(test)]
mod tests {
    use time::macros::{date, datetime};

    use super::*;

    #[test]
    fn months_and_days_end_where_the_next_begins() {
        let december = Interval::Month.period(datetime!(2024-12-31 23:59:59.999999 UTC));
        assert_eq!(
            december,
            Period {
                start: date!(2024 - 12 - 01),
                end: date!(2025 - 01 - 01)
            }
        );
        let leap = Interval::Day.period(datetime!(2024-02-29 00:00 UTC));
        assert_eq!(
            leap,
            Period {
                start: date!(2024 - 02 - 29),
                end: date!(2024 - 03 - 01)
            }
        );
        let offset = Interval::Day.period(datetime!(2024-03-01 01:00 +02:00));
        assert_eq!(offset, leap);
    }

    #[test]
    fn upcoming_periods_follow_each_other() {
        let periods = Interval::Month.upcoming(datetime!(2024-11-15 12:00 UTC), 3);
        let names: Vec<_> = periods.iter().map(|p| Interval::Month.name(*p)).collect();
        assert_eq!(
            names,
            [
                "events_2024_11",
                "events_2024_12",
                "events_2025_01",
                "events_2025_02"
            ]
        );
    }
}
