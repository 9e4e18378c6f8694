//! Alerts: opened, updated and resolved once each.

use super::judge::{Level, Reading};
use super::rule::{Kind, Rule};

/// Minutes between two updates of an alert.
const UPDATE_AFTER: i64 = 15;
/// By how much it must be worse than what listeners were notified of last.
const WORSE: f64 = 1.5;

/// An alert. Times are minutes since 1970: the end of the window that showed it.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// The name of the rule.
    pub rule: String,
    /// What it looks for.
    pub kind: Kind,
    /// The source, API, family or type.
    pub subject: String,
    /// When it was opened.
    pub opened_at: i64,
    /// The error rate; of surge and silence the events in the window.
    pub value: f64,
    /// The threshold of the error rate; of surge and silence the events that are usual in the window.
    pub usual: f64,
    /// The worst value so far.
    pub worst: f64,
    /// Events of the window.
    pub events: i64,
    /// How long the window is, in minutes.
    pub window_minutes: i64,
    /// What listeners were notified of last, and when.
    pub notified: f64,
    /// See `notified`.
    pub notified_at: i64,
    /// Since when all is well.
    pub well_since: Option<i64>,
}

/// What happened to an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Opened,
    /// It has become much worse.
    Updated,
    /// It is over.
    Resolved,
}

impl ChangeKind {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Updated => "updated",
            Self::Resolved => "resolved",
        }
    }
}

/// A change of an alert, with the alert as it is then.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// When: minutes since 1970.
    pub at: i64,
    /// The alert.
    pub alert: Alert,
}

impl Alert {
    /// A new one.
    pub(super) fn open(rule: &Rule, subject: &str, reading: &Reading, at: i64) -> Self {
        Self {
            rule: rule.name.clone(),
            kind: rule.kind,
            subject: subject.to_owned(),
            opened_at: at,
            value: reading.value,
            usual: reading.usual,
            worst: reading.value,
            events: reading.events,
            window_minutes: reading.minutes,
            notified: reading.value,
            notified_at: at,
            well_since: None,
        }
    }

    /// Takes note of what was found at a minute; says what listeners are to be notified of.
    pub(super) fn note(&mut self, rule: &Rule, reading: &Reading, at: i64) -> Option<ChangeKind> {
        match reading.level {
            Level::Well => {
                let since = *self.well_since.get_or_insert(at);
                return (at - since + 1 >= rule.resolve_minutes).then_some(ChangeKind::Resolved);
            }
            Level::Between => {
                self.well_since = None;
                return None;
            }
            Level::Bad => self.well_since = None,
        }
        self.value = reading.value;
        self.usual = reading.usual;
        self.events = reading.events;
        self.window_minutes = reading.minutes;
        // A silence cannot become more silent than at its beginning.
        if self.kind == Kind::Silence {
            self.worst = self.worst.min(reading.value);
            return None;
        }
        self.worst = self.worst.max(reading.value);
        let worse = reading.value >= WORSE * self.notified && at - self.notified_at >= UPDATE_AFTER;
        worse.then(|| {
            self.notified = reading.value;
            self.notified_at = at;
            ChangeKind::Updated
        })
    }

    /// A sentence for a person.
    #[must_use]
    pub fn message(&self) -> String {
        let Self {
            subject,
            value,
            usual,
            events,
            window_minutes,
            ..
        } = self;
        match self.kind {
            Kind::ErrorRate => format!(
                "{subject}: {:.1} % of {events} events in {window_minutes} minutes are errors, more than {:.1} %",
                value * 100.0,
                usual * 100.0
            ),
            Kind::Surge => format!(
                "{subject}: {events} events in {window_minutes} minutes, where {usual:.0} are usual"
            ),
            Kind::Silence => format!(
                "{subject}: only {events} events in {window_minutes} minutes, where {usual:.0} are usual"
            ),
        }
    }
}
