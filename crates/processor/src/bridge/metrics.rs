//! What the bridge counts (S2-38, S2-51 … S2-62, S2-68, S2-69). Each number is kept once, by
//! Prometheus; the bridge's health is computed from it.

mod sessions;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::Event;
use eventlog::kafka::PartitionLag;
use prometheus::core::Collector as _;
use prometheus::{IntCounterVec, Registry};
use serde_json::{Map, Value};
use service::declare::exponential;

use sessions::Sessions;

/// Event types that get a label of their own; later ones share `other` (S2-61). Also the limit of
/// the names of custom metrics.
const NAMES: usize = 100;

/// Upper bounds in seconds: half a millisecond to a minute.
fn seconds() -> Vec<f64> {
    exponential(0.000_5, 2.0, 18)
}

service::metrics! {
    /// The Prometheus metrics of the bridge.
    pub struct Collectors {
        /// Events of the bridge by type and status: consumed, filtered, dropped, published, no_listener, duplicate, failed.
        pub(super) events: IntCounterVec("eventbridge_events_total", ["type", "status"]),
        /// Events that were not published, by status and reason.
        pub(super) rejected: IntCounterVec("eventbridge_rejected_total", ["status", "reason"]),
        /// Failures by kind: redis_unavailable, redis_refused, key_refused.
        pub(super) errors: IntCounterVec("eventbridge_errors_total", ["kind"]),
        /// Changes of the breaker's state by the state entered: open, half_open, closed.
        pub(super) breaker_transitions: IntCounterVec("eventbridge_breaker_transitions_total", ["to"]),
        /// State of the circuit breaker: 0 closed, 1 open, 2 half-open.
        pub(super) breaker_state: IntGauge("eventbridge_breaker_state"),
        /// Gaps that listeners were sent after messages had been dropped.
        pub(super) gaps: IntCounter("eventbridge_gaps_total"),
        /// Seconds from taking an event to its publication or drop.
        pub(super) processing_seconds: Histogram("eventbridge_processing_seconds", buckets = seconds()),
        /// Seconds from the receipt of an event to its publication.
        pub(super) end_to_end_seconds: Histogram("eventbridge_end_to_end_seconds", buckets = seconds()),
        /// Seconds one publishing round trip took.
        pub(super) publish_seconds: Histogram("eventbridge_redis_publish_seconds", buckets = seconds()),
        /// Seconds from the writing of a record to its consumption.
        pub(super) consume_seconds: Histogram("eventbridge_kafka_consume_latency_seconds", buckets = seconds()),
        /// 1 while Redis answers.
        pub(super) redis_connected: IntGauge("eventbridge_redis_connected"),
        /// Records of the log that the bridge is not done with; while the breaker is open, dropped ones count until listeners can be sent a gap.
        pub(super) lag: IntGaugeVec("eventbridge_consumer_lag_records", ["topic", "partition"]),
        /// Bytes of messages kept for listeners that resume, all channels together; in Redis about.
        pub(super) history_bytes: IntGauge("eventbridge_history_bytes"),
        /// Sessions with a published event within the last five to ten minutes.
        pub(super) active_sessions: IntGauge("eventbridge_active_sessions"),
        /// Figures of an extension, by name.
        pub(super) custom: GaugeVec("eventbridge_custom", ["name"]),
    }
}

/// Adds figures of its own to the bridge (S2-67). Every method has a default that does nothing, and
/// must not block.
pub trait Extension: Send + Sync + 'static {
    /// An event was published. Figures go to [`Metrics::record_custom_metric`].
    fn published(&self, event: &Event, metrics: &Metrics) {
        let _ = (event, metrics);
    }

    /// The members of `custom` in the bridge's health.
    fn get_custom_health_status(&self) -> Map<String, Value> {
        Map::new()
    }
}

/// No extension.
impl Extension for () {}

/// How an event ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is not for browsers, or not an event.
    Filtered,
    /// It had no channel, was too large, or the breaker was open.
    Dropped,
    /// It is in its channel.
    Published,
    /// Nobody listens to its channel.
    NoListener,
    /// It was in its channel already.
    Duplicate,
    /// Redis refused this one.
    Failed,
}

impl Status {
    /// The label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Filtered => "filtered",
            Self::Dropped => "dropped",
            Self::Published => "published",
            Self::NoListener => "no_listener",
            Self::Duplicate => "duplicate",
            Self::Failed => "failed",
        }
    }
}

/// The metrics of the bridge, with labels bounded.
#[derive(Debug)]
pub struct Metrics {
    pub(super) collectors: Collectors,
    types: Names,
    custom: Names,
    sessions: Mutex<Sessions>,
}

impl Metrics {
    /// Registers the metrics with a registry; with none they are counted all the same.
    ///
    /// # Errors
    /// A metric of one of these names is registered already.
    pub fn new(registry: Option<&Registry>) -> Result<Self, prometheus::Error> {
        let collectors = match registry {
            Some(registry) => Collectors::register(registry)?,
            None => Collectors::register(&Registry::new())?,
        };
        Ok(Self {
            collectors,
            types: Names::default(),
            custom: Names::default(),
            sessions: Mutex::default(),
        })
    }

    /// Counts an event as consumed, and by how it ended. `known` says that its type passed the
    /// filter: only such types get a label of their own, because anybody can send others.
    pub(super) fn count(&self, event_type: &str, known: bool, status: Status) {
        let own = self.types.admit(event_type, known);
        let label = if own { event_type } else { "other" };
        for status in ["consumed", status.as_str()] {
            let counter = self.collectors.events.with_label_values(&[label, status]);
            counter.inc();
        }
    }

    /// Counts why an event was not published.
    pub(super) fn rejected(&self, status: Status, reason: &str) {
        let labels = [status.as_str(), reason];
        self.collectors.rejected.with_label_values(&labels).inc();
    }

    /// Counts a failure of Redis.
    pub(super) fn error(&self, kind: &str) {
        self.collectors.errors.with_label_values(&[kind]).inc();
    }

    /// Notes a session with a published event.
    pub(super) fn session(&self, session_id: &str) {
        lock(&self.sessions).see(session_id);
    }

    /// Sessions with a published event lately.
    pub(super) fn sessions(&self) -> usize {
        lock(&self.sessions).count()
    }

    /// Shows the lag of each partition, and removes those of `shown` that are gone; the others are
    /// there all the time, even if the metrics are read meanwhile. Returns what is shown.
    pub(super) fn show_lag(
        &self,
        lag: &[PartitionLag],
        shown: &HashSet<[String; 2]>,
    ) -> HashSet<[String; 2]> {
        let gauge = &self.collectors.lag;
        let known = lag.iter().filter_map(|lag| Some((lag, lag.lag?)));
        let now = known.map(|(lag, records)| {
            let labels = [lag.topic.to_string(), lag.partition.to_string()];
            gauge.with_label_values(&labels).set(records);
            labels
        });
        let now = now.collect();
        for gone in shown.difference(&now) {
            // An error says that it is gone already.
            let _ = gauge.remove_label_values(gone);
        }
        now
    }

    /// Sets a figure of an extension (S2-67). At most a hundred names are kept.
    pub fn record_custom_metric(&self, name: &str, value: f64) {
        if self.custom.admit(name, true) {
            self.collectors.custom.with_label_values(&[name]).set(value);
        }
    }

    /// Events since the start, by status.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let by_status = sum_by(&self.collectors.events, "status", None);
        let of = |status: &str| by_status.get(status).copied().unwrap_or_default();
        Totals {
            consumed: of("consumed"),
            filtered: of("filtered"),
            dropped: of("dropped"),
            published: of("published"),
            no_listener: of("no_listener"),
            duplicate: of("duplicate"),
            failed: of("failed"),
        }
    }

    /// Published events by type.
    #[must_use]
    pub fn published_types(&self) -> BTreeMap<String, u64> {
        let published = Some(("status", "published"));
        sum_by(&self.collectors.events, "type", published)
    }

    /// Events that were not published, by reason.
    #[must_use]
    pub fn rejections(&self) -> BTreeMap<String, u64> {
        sum_by(&self.collectors.rejected, "reason", None)
    }

    /// Failures by kind.
    #[must_use]
    pub fn errors(&self) -> BTreeMap<String, u64> {
        sum_by(&self.collectors.errors, "kind", None)
    }
}

/// Events since the start, by status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// All of them.
    pub consumed: u64,
    /// [`Status::Filtered`].
    pub filtered: u64,
    /// [`Status::Dropped`].
    pub dropped: u64,
    /// [`Status::Published`].
    pub published: u64,
    /// [`Status::NoListener`].
    pub no_listener: u64,
    /// [`Status::Duplicate`].
    pub duplicate: u64,
    /// [`Status::Failed`].
    pub failed: u64,
}

impl Totals {
    /// Share of the consumed events that were filtered (S2-59).
    #[must_use]
    pub fn filter_rate(&self) -> f64 {
        share(self.filtered, self.consumed)
    }

    /// Share of the events that passed the filter and have a listener that are in their channel
    /// (S2-60).
    #[must_use]
    pub fn push_success_rate(&self) -> f64 {
        let passed = self
            .consumed
            .saturating_sub(self.filtered + self.no_listener);
        share(self.published + self.duplicate, passed)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// Sums of a counter by one label, where another has this value.
fn sum_by(
    counters: &IntCounterVec,
    label: &str,
    filter: Option<(&str, &str)>,
) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for family in counters.collect() {
        for metric in family.get_metric() {
            let value = |name: &str| {
                let pair = metric.get_label().iter().find(|pair| pair.name() == name);
                pair.map(prometheus::proto::LabelPair::value)
            };
            if filter.is_none_or(|(name, wanted)| value(name) == Some(wanted)) {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a whole count"
                )]
                let count = metric.get_counter().get_value() as u64;
                *sums
                    .entry(value(label).unwrap_or_default().to_owned())
                    .or_insert(0) += count;
            }
        }
    }
    sums.retain(|_, count| *count > 0);
    sums
}

/// At most [`NAMES`] names that came first.
#[derive(Debug, Default)]
struct Names(Mutex<HashSet<String>>);

impl Names {
    /// Whether a name is among them; a new one is added if `may_add` and there is room.
    fn admit(&self, name: &str, may_add: bool) -> bool {
        let mut names = lock(&self.0);
        names.contains(name) || (may_add && names.len() < NAMES && names.insert(name.to_owned()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
