//! What is usual of an event type at an hour of the week, by its own past.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;

use super::rule::{MAX_WINDOW, Rule};

/// How many days of the past are looked at.
pub const PAST_DAYS: i64 = 56;
/// Hours of a day and of a week.
const DAY: i64 = 24;
const WEEK: i64 = 7 * DAY;
/// Past weeks that must be there, each with the same hour; while they are not, the same hour of the days.
const MIN_WEEKS: usize = 2;
/// Past days that must be there then: with fewer there is no past.
const MIN_DAYS: usize = 3;
/// What makes of a median absolute deviation a standard deviation.
const DEVIATION: f64 = 1.4826;

/// Of the same hour of the days, the latest that are looked at.
const DAYS: i64 = 14;

/// The hours that minutes are judged by: the same of earlier weeks and days, and those beside.
#[must_use]
pub fn past_hours(minutes: RangeInclusive<i64>) -> BTreeSet<i64> {
    let first = (minutes.start() - MAX_WINDOW).div_euclid(60) - 1;
    let last = minutes.end().div_euclid(60) + 1;
    let past = |hour: i64| {
        let weeks = (1..=PAST_DAYS / 7).map(move |n| hour - n * WEEK);
        weeks.chain((1..=DAYS).map(move |n| hour - n * DAY))
    };
    (first..=last).flat_map(past).collect()
}

/// Events of one hour, counted together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HourCount {
    /// Hours since 1970.
    pub hour: i64,
    /// Their type.
    pub event_type: String,
    /// Their source.
    pub event_source: String,
    /// How many.
    pub count: i64,
}

/// What is usual, in events an hour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Usual {
    /// The least of what is usual; below it is a silence.
    pub(super) low: f64,
    /// The most; above it is a surge.
    pub(super) high: f64,
    /// By how much it varies from week to week.
    pub(super) spread: f64,
}

/// The past of one event type.
#[derive(Debug, Default)]
pub(super) struct TypePast {
    /// The first whole hour that it could have had events in.
    since: i64,
    hours: HashMap<i64, i64>,
    /// What was worked out.
    known: RefCell<HashMap<i64, Option<Usual>>>,
}

impl TypePast {
    /// The pasts that a rule needs, by type. `since` has the first hour that a type is known in.
    pub(super) fn of(
        rule: &Rule,
        counts: &[HourCount],
        since: &HashMap<String, i64>,
    ) -> HashMap<String, Self> {
        let mut pasts: HashMap<String, Self> = HashMap::new();
        for one in counts {
            if !rule.is_about(&one.event_type, &one.event_source) {
                continue;
            }
            let first = || Self {
                since: since.get(&one.event_type).copied().unwrap_or(one.hour),
                ..Self::default()
            };
            let past = pasts.entry(one.event_type.clone()).or_insert_with(first);
            *past.hours.entry(one.hour).or_default() += one.count;
        }
        pasts
    }

    /// What is usual around a minute, over its hour and the one it is next to, for a day does not change
    /// by steps; none while there is no past.
    pub(super) fn usual(&self, minute: i64) -> Option<Usual> {
        let (hour, within) = (minute.div_euclid(60), minute.rem_euclid(60));
        let next = if within < 30 { hour - 1 } else { hour + 1 };
        let (this, other) = (self.of_hour(hour)?, self.of_hour(next));
        let other = other.unwrap_or(this);
        Some(Usual {
            low: this.low.min(other.low),
            high: this.high.max(other.high),
            spread: this.spread.max(other.spread),
        })
    }

    fn of_hour(&self, hour: i64) -> Option<Usual> {
        if let Some(known) = self.known.borrow().get(&hour) {
            return *known;
        }
        let usual = self.work_out(hour);
        self.known.borrow_mut().insert(hour, usual);
        usual
    }

    fn work_out(&self, hour: i64) -> Option<Usual> {
        let before = |step: i64, most: i64| -> Vec<f64> {
            let hours = (1..=most).map(|n| hour - n * step);
            let hours = hours.filter(|hour| *hour >= self.since);
            #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 events")]
            let count = |hour| self.hours.get(&hour).copied().unwrap_or(0) as f64;
            hours.map(count).collect()
        };
        let weeks = before(WEEK, PAST_DAYS / 7);
        if weeks.len() >= MIN_WEEKS {
            let middle = median(weeks.clone())?;
            let away = weeks.iter().map(|count| (count - middle).abs()).collect();
            return Some(Usual {
                low: middle,
                high: middle,
                spread: DEVIATION * median(away)?,
            });
        }
        // Whether a day is like the one before is not known yet: whatever was, is usual.
        let days = before(DAY, DAYS);
        (days.len() >= MIN_DAYS).then(|| Usual {
            low: days.iter().copied().fold(f64::INFINITY, f64::min),
            high: days.iter().copied().fold(0.0, f64::max),
            spread: 0.0,
        })
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get(values.len().saturating_sub(1) / 2)?;
    Some(f64::midpoint(lower, upper))
}
