//! How much time one partition holds.

use time::{Duration, OffsetDateTime, Time, UtcOffset};

/// How much time one partition of `events` holds; all of them in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interval {
    /// A calendar month.
    Month,
    /// A day.
    Day,
    /// An hour.
    Hour,
}

impl Interval {
    /// The longest interval in which no more than `target_rows` come, at that rate.
    #[must_use]
    pub fn for_rate(rows_a_day: i64, target_rows: i64) -> Self {
        if rows_a_day.saturating_mul(31) <= target_rows {
            Self::Month
        } else if rows_a_day <= target_rows {
            Self::Day
        } else {
            Self::Hour
        }
    }

    /// The next boundary of a calendar interval after `at`.
    #[must_use]
    pub fn end(self, at: OffsetDateTime) -> OffsetDateTime {
        let at = at.to_offset(UtcOffset::UTC);
        let midnight = at.replace_time(Time::MIDNIGHT);
        match self {
            Self::Hour => midnight + Duration::hours(i64::from(at.hour()) + 1),
            Self::Day => midnight + Duration::DAY,
            Self::Month => {
                let days = at.month().length(at.year());
                midnight + Duration::days(i64::from(days - at.day()) + 1)
            }
        }
    }

    /// The name of the partition of this interval that begins at `from`.
    pub(super) fn name(self, from: OffsetDateTime) -> String {
        let (year, month, day) = (from.year(), u8::from(from.month()), from.day());
        match self {
            Self::Month if day == 1 && from.hour() == 0 => format!("events_{year:04}_{month:02}"),
            Self::Month | Self::Day if from.hour() == 0 => {
                format!("events_{year:04}_{month:02}_{day:02}")
            }
            _ => format!("events_{year:04}_{month:02}_{day:02}_{:02}", from.hour()),
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn intervals_end_where_the_next_begins() {
        let at = datetime!(2024-02-28 23:59:59.999999 UTC);
        assert_eq!(Interval::Hour.end(at), datetime!(2024-02-29 00:00 UTC));
        assert_eq!(Interval::Day.end(at), datetime!(2024-02-29 00:00 UTC));
        assert_eq!(Interval::Month.end(at), datetime!(2024-03-01 00:00 UTC));
        let new_year = datetime!(2024-12-01 00:00 UTC);
        assert_eq!(
            Interval::Month.end(new_year),
            datetime!(2025-01-01 00:00 UTC)
        );
        let offset = datetime!(2024-03-01 01:30 +02:00);
        assert_eq!(Interval::Day.end(offset), datetime!(2024-03-01 00:00 UTC));
        assert_eq!(Interval::Hour.end(offset), datetime!(2024-03-01 00:00 UTC));
    }

    #[test]
    fn the_rate_decides_which() {
        for (rows_a_day, interval) in [
            (0, Interval::Month),
            (161_000, Interval::Month),
            (162_000, Interval::Day),
            (5_000_000, Interval::Day),
            (5_000_001, Interval::Hour),
            (i64::MAX, Interval::Hour),
        ] {
            assert_eq!(
                Interval::for_rate(rows_a_day, 5_000_000),
                interval,
                "{rows_a_day}"
            );
        }
    }

    #[test]
    fn names_tell_the_start() {
        for (interval, from, name) in [
            (
                Interval::Month,
                datetime!(2026-12-01 00:00 UTC),
                "events_2026_12",
            ),
            (
                Interval::Month,
                datetime!(2026-12-05 00:00 UTC),
                "events_2026_12_05",
            ),
            (
                Interval::Day,
                datetime!(2026-12-01 00:00 UTC),
                "events_2026_12_01",
            ),
            (
                Interval::Day,
                datetime!(2026-12-01 07:00 UTC),
                "events_2026_12_01_07",
            ),
            (
                Interval::Hour,
                datetime!(2026-12-01 00:00 UTC),
                "events_2026_12_01_00",
            ),
        ] {
            assert_eq!(interval.name(from), name);
        }
    }
}
