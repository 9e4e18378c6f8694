//! Anomalies (S1-12, S1-41): error rates above a threshold, and surges and silences of event types
//! against their own past. A pure function of counts, rules and the minutes to be judged, so that what
//! is found live is what a trial on the same history finds.

mod alert;
mod api;
mod judge;
mod past;
mod rule;
mod series;
mod subject;
mod watch;

pub use alert::{Alert, Change, ChangeKind};
pub use api::api_of;
pub use past::{HourCount, PAST_DAYS, past_hours};
pub use rule::{By, Kind, MAX_WINDOW, Rule};
pub use series::MinuteCount;
pub use subject::EVENT_PREFIX;
pub use watch::{History, reach, watch};

#[cfg(test)]
mod tests;
