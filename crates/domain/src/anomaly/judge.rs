//! Judges a subject at a minute.

use super::past::TypePast;
use super::rule::{Kind, Rule};
use super::series::Line;

/// By how many deviations a count must exceed what is usual.
const DEVIATIONS: f64 = 6.0;
/// A silence is looked for in longer windows where events are few: so many times the rule's.
const LONGER: [i64; 3] = [1, 3, LONGEST];
/// The longest of them.
pub(super) const LONGEST: i64 = 12;

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// An anomaly.
    Bad,
    /// None, but not well either: an alert that is open stays open.
    Between,
    /// Well.
    Well,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Reading {
    pub(super) level: Level,
    /// The error rate; of the others the events.
    pub(super) value: f64,
    /// The threshold of an error rate; of the others the events that are usual.
    pub(super) usual: f64,
    /// Events of the window.
    pub(super) events: i64,
    /// How long the window is.
    pub(super) minutes: i64,
}

impl Reading {
    /// Where nothing can be told.
    pub(super) const NOTHING: Self = Self {
        level: Level::Well,
        value: 0.0,
        usual: 0.0,
        events: 0,
        minutes: 0,
    };

    fn level(bad: bool, well: bool) -> Level {
        match (bad, well) {
            (true, _) => Level::Bad,
            (false, true) => Level::Well,
            (false, false) => Level::Between,
        }
    }
}

/// Judges the window that ends before minute `at`.
#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 events")]
pub(super) fn judge(rule: &Rule, line: &Line, past: Option<&TypePast>, at: i64) -> Reading {
    let window = rule.window_minutes;
    let (events, errors) = line.sum(at - window, at);
    let threshold = rule.threshold;
    if rule.kind == Kind::ErrorRate {
        if events < rule.min_events {
            return Reading::NOTHING;
        }
        let value = errors as f64 / events as f64;
        return Reading {
            level: Reading::level(value > threshold, value <= threshold * 0.8),
            value,
            usual: threshold,
            events,
            minutes: window,
        };
    }
    // The middle of the window says which hour it is.
    let Some(usual) = past.and_then(|past| past.usual(at - window / 2 - 1)) else {
        return Reading::NOTHING;
    };
    if rule.kind == Kind::Surge {
        let share = window as f64 / 60.0;
        let (value, expected) = (events as f64, usual.high * share);
        let deviation = expected.sqrt().max(usual.spread * share);
        let enough = events >= rule.min_events;
        let bad =
            enough && value > threshold * expected && value > expected + DEVIATIONS * deviation;
        let well = !enough || value < f64::midpoint(1.0, threshold) * expected;
        return Reading {
            level: Reading::level(bad, well),
            value,
            usual: expected,
            events,
            minutes: window,
        };
    }
    for times in LONGER {
        let minutes = window * times;
        let share = minutes as f64 / 60.0;
        let expected = usual.low * share;
        if expected < rule.min_events as f64 {
            continue;
        }
        let (events, _) = line.sum(at - minutes, at);
        let value = events as f64;
        // Where the weeks differ much, nothing is too little.
        let varies = value >= expected - 3.0 * usual.spread * share;
        return Reading {
            level: Reading::level(
                value <= threshold * expected && !varies,
                value >= 0.5 * expected,
            ),
            value,
            usual: expected,
            events,
            minutes,
        };
    }
    Reading::NOTHING
}
