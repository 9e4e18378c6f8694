//! Judges minute after minute.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;

use super::alert::{Alert, Change, ChangeKind};
use super::judge::{LONGEST, Level, Reading, judge};
use super::past::{HourCount, TypePast};
use super::rule::{Kind, Rule};
use super::series::{Line, MinuteCount, lines};

/// What there is to judge by, of one tenant.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Counts by the minute, sorted by it, from [`reach`] before those to be judged.
    pub minutes: Vec<MinuteCount>,
    /// Counts by the hour, as far as [`super::past_hours`] has them.
    pub hours: Vec<HourCount>,
    /// The first whole hour in which there could be events of a type.
    pub since: HashMap<String, i64>,
}

/// Minutes before those to be judged whose counts these rules need.
#[must_use]
pub fn reach(rules: &[Rule]) -> i64 {
    let longest = rules.iter().map(|rule| rule.window_minutes).max();
    longest.unwrap_or(0) * LONGEST
}

/// Judges these minutes, each by the windows that end with it: what changed, in its order, and the alerts
/// that are open then. `open` has those that were open before.
#[must_use]
pub fn watch(
    rules: &[Rule],
    history: &History,
    open: Vec<Alert>,
    minutes: RangeInclusive<i64>,
) -> (Vec<Change>, Vec<Alert>) {
    let mut changes = vec![];
    let mut left = vec![];
    let mut of_rule: HashMap<String, BTreeMap<String, Alert>> = HashMap::new();
    for alert in open {
        let alerts = of_rule.entry(alert.rule.clone()).or_default();
        alerts.insert(alert.subject.clone(), alert);
    }
    for rule in rules.iter().filter(|rule| rule.enabled) {
        let mut open = of_rule.remove(&rule.name).unwrap_or_default();
        let lines = lines(rule, &history.minutes);
        let pasts = match rule.kind {
            Kind::ErrorRate => HashMap::new(),
            Kind::Surge | Kind::Silence => TypePast::of(rule, &history.hours, &history.since),
        };
        let nothing = Line::default();
        let subjects: BTreeSet<&String> = lines.keys().chain(pasts.keys()).collect();
        for at in minutes.clone() {
            for subject in &subjects {
                let line = lines.get(*subject).unwrap_or(&nothing);
                let reading = judge(rule, line, pasts.get(*subject), at);
                note(rule, subject, &reading, at, &mut open, &mut changes);
            }
            let gone: Vec<String> = open
                .keys()
                .filter(|subject| !subjects.contains(subject))
                .cloned()
                .collect();
            for subject in gone {
                note(
                    rule,
                    &subject,
                    &Reading::NOTHING,
                    at,
                    &mut open,
                    &mut changes,
                );
            }
        }
        left.extend(open.into_values());
    }
    // Of rules that are no more, or not applied.
    for alert in of_rule.into_values().flat_map(BTreeMap::into_values) {
        changes.push(Change {
            kind: ChangeKind::Resolved,
            at: *minutes.start(),
            alert,
        });
    }
    changes.sort_by_key(|change| change.at);
    (changes, left)
}

fn note(
    rule: &Rule,
    subject: &str,
    reading: &Reading,
    at: i64,
    open: &mut BTreeMap<String, Alert>,
    changes: &mut Vec<Change>,
) {
    let told = match open.get_mut(subject) {
        Some(alert) => alert
            .note(rule, reading, at)
            .map(|kind| (kind, alert.clone())),
        None if reading.level == Level::Bad => {
            let alert = Alert::open(rule, subject, reading, at);
            open.insert(subject.to_owned(), alert.clone());
            Some((ChangeKind::Opened, alert))
        }
        None => None,
    };
    if let Some((kind, alert)) = told {
        if kind == ChangeKind::Resolved {
            open.remove(subject);
        }
        changes.push(Change { kind, at, alert });
    }
}
