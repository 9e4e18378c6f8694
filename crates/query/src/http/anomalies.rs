//! Anomalies: the alerts, the rules, and what a rule would have done.

pub mod alerts;
pub mod rules;
pub mod trial;

use domain::anomaly::Alert;
use domain::timestamp;
use serde::Serialize;
use store::anomalies::at_minute;
use time::OffsetDateTime;
use utoipa::ToSchema;

/// What was found (S1-12, S1-41).
#[derive(Debug, Serialize, ToSchema)]
pub struct Anomaly {
    /// The name of the rule.
    #[schema(example = "error-rate")]
    pub rule: String,
    /// `error_rate`, `surge` or `silence`.
    #[schema(example = "error_rate")]
    pub kind: &'static str,
    /// The source, API, family of types or type.
    #[schema(example = "backend")]
    pub subject: String,
    /// `open` or `resolved`.
    #[schema(example = "open")]
    pub state: &'static str,
    /// The end of the window that showed it.
    #[serde(serialize_with = "timestamp::serialize")]
    pub opened_at: OffsetDateTime,
    /// When all had been well for as long as the rule says.
    #[serde(serialize_with = "timestamp::serialize_option")]
    #[schema(required = true)]
    pub resolved_at: Option<OffsetDateTime>,
    /// The error rate, from 0 to 1; of surge and silence the events in the window.
    pub value: f64,
    /// The threshold of the error rate; of surge and silence the events that are usual in the window.
    pub usual: f64,
    /// The worst value so far.
    pub worst: f64,
    /// Events of the window.
    pub events: i64,
    /// How long the window is.
    pub window_minutes: i64,
    /// A sentence about it.
    pub message: String,
}

impl Anomaly {
    fn new(alert: Alert, resolved_at: Option<OffsetDateTime>) -> Self {
        Self {
            state: if resolved_at.is_some() {
                "resolved"
            } else {
                "open"
            },
            opened_at: at_minute(alert.opened_at),
            resolved_at,
            message: alert.message(),
            rule: alert.rule,
            kind: alert.kind.as_str(),
            subject: alert.subject,
            value: alert.value,
            usual: alert.usual,
            worst: alert.worst,
            events: alert.events,
            window_minutes: alert.window_minutes,
        }
    }
}
