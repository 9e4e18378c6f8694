//! Counts by the minute, as a rule sees them.

use std::collections::BTreeMap;

use super::rule::{By, Kind, Rule};
use super::subject::family;

/// Events of one minute, counted together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MinuteCount {
    /// Minutes since 1970.
    pub minute: i64,
    /// Their type.
    pub event_type: String,
    /// Their source.
    pub event_source: String,
    /// The API they are about ([`super::api_of`]); empty for none.
    pub api: String,
    /// How many.
    pub count: i64,
}

/// The counts of one subject: running sums, by minute, so that any window costs two searches.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Minute, and events and errors up to it.
    sums: Vec<(i64, i64, i64)>,
}

impl Line {
    fn add(&mut self, minute: i64, events: i64, errors: i64) {
        match self.sums.last_mut() {
            Some(last) if last.0 == minute => {
                last.1 += events;
                last.2 += errors;
            }
            last => {
                let (all, bad) = last.map_or((0, 0), |last| (last.1, last.2));
                self.sums.push((minute, all + events, bad + errors));
            }
        }
    }

    /// Events and errors of the minutes from `first` to before `end`.
    pub(super) fn sum(&self, first: i64, end: i64) -> (i64, i64) {
        let before = |minute: i64| {
            let at = self.sums.partition_point(|sum| sum.0 < minute);
            let last = at.checked_sub(1).and_then(|at| self.sums.get(at));
            last.map_or((0, 0), |sum| (sum.1, sum.2))
        };
        let ((all, bad), (less, less_bad)) = (before(end), before(first));
        (all - less, bad - less_bad)
    }
}

/// The counts, by what the rule judges each for itself. They must be sorted by minute.
pub(super) fn lines(rule: &Rule, counts: &[MinuteCount]) -> BTreeMap<String, Line> {
    let mut lines: BTreeMap<String, Line> = BTreeMap::new();
    for one in counts {
        if !rule.is_about(&one.event_type, &one.event_source) {
            continue;
        }
        let subject = match (rule.kind, rule.by) {
            (Kind::Surge | Kind::Silence, _) => one.event_type.as_str(),
            (Kind::ErrorRate, By::Source) => one.event_source.as_str(),
            (Kind::ErrorRate, By::Type) => family(&one.event_type),
            (Kind::ErrorRate, By::Api) if one.api.is_empty() => continue,
            (Kind::ErrorRate, By::Api) => one.api.as_str(),
        };
        let is_error = rule.kind == Kind::ErrorRate && rule.is_error(&one.event_type);
        let errors = if is_error { one.count } else { 0 };
        if !lines.contains_key(subject) {
            lines.insert(subject.to_owned(), Line::default());
        }
        if let Some(line) = lines.get_mut(subject) {
            line.add(one.minute, one.count, errors);
        }
    }
    lines
}
