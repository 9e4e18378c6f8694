//! Anomalies: the rules, the counts that are judged, and the alerts (`event_minutes`, `anomaly_*`).

mod alerts;
mod clock;
mod history;
mod rules;

pub use alerts::{AlertFilter, StoredAlert, at_minute, list, minute_of, open};
pub use clock::{Judged, claim, forget, record};
pub use history::{MAX_COUNTS, history, tenants};
pub use rules::{MAX_RULES, StoredRule, active, delete, put, rules};
