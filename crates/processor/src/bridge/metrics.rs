//! What the bridge counts (S2-38, S2-51 … S2-62, S2-68, S2-69).

mod sums;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use eventlog::kafka::PartitionLag;
use prometheus::{
    Gauge, GaugeVec, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::registrar::Registrar;
use super::sessions::Sessions;
use sums::by_label;

/// Event types that get a label of their own; those that come later share `other` (S2-61).
const TYPES: usize = 100;
/// Names of custom metrics.
const CUSTOM: usize = 100;
/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// It was looked at; it has one of the others too.
    Consumed,
    /// It is no event for browsers, or none at all.
    Filtered,
    /// It had no channel, was too large, or Redis was given up.
    Dropped,
    /// It is in its channel.
    Published,
    /// It was in its channel already.
    Duplicate,
    /// Redis refused this one.
    Failed,
}

impl Status {
    const ALL: [Self; 6] = [
        Self::Consumed,
        Self::Filtered,
        Self::Dropped,
        Self::Published,
        Self::Duplicate,
        Self::Failed,
    ];

    /// The label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consumed => "consumed",
            Self::Filtered => "filtered",
            Self::Dropped => "dropped",
            Self::Published => "published",
            Self::Duplicate => "duplicate",
            Self::Failed => "failed",
        }
    }
}

/// The bridge's metrics.
#[derive(Debug)]
pub struct Metrics {
    events: IntCounterVec,
    reasons: IntCounterVec,
    errors: IntCounterVec,
    transitions: IntCounterVec,
    /// Seconds from taking an event to its publication or drop.
    pub processing_seconds: Histogram,
    /// Seconds from the receipt of an event to its publication.
    pub end_to_end_seconds: Histogram,
    /// Seconds one publishing round trip took.
    pub publish_seconds: Histogram,
    /// Seconds from the writing of a record to its consumption.
    pub consume_seconds: Histogram,
    /// 0 closed, 1 open, 2 half-open.
    pub breaker_state: IntGauge,
    /// Failures among the attempts of the breaker's window.
    pub breaker_failure_rate: Gauge,
    /// 1 while Redis answers.
    pub redis_connected: IntGauge,
    /// Records not marked as done, by topic and partition.
    lag: IntGaugeVec,
    /// Gaps that listeners were told of.
    pub gaps: IntCounter,
    throughput: Gauge,
    error_rate: Gauge,
    filter_rate: Gauge,
    success_rate: Gauge,
    active_sessions: IntGauge,
    custom: GaugeVec,
    totals: [AtomicU64; Status::ALL.len()],
    types: Mutex<HashMap<String, [IntCounter; Status::ALL.len()]>>,
    sessions: Mutex<Sessions>,
    customs: Mutex<HashSet<String>>,
    taken: Mutex<Taken>,
}

/// Figures that are made of others.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    /// Published events a second (S2-51).
    pub throughput: f64,
    /// Failed publishing attempts a second (S2-58).
    pub errors: f64,
    /// Filtered among consumed, since the start (S2-59).
    pub filter: f64,
    /// Published among those that passed the filter, since the start (S2-60).
    pub success: f64,
}

#[derive(Debug)]
struct Taken {
    at: Instant,
    published: u64,
    errors: u64,
}

impl Metrics {
    /// Creates them, and registers them where a registry is given.
    ///
    /// # Errors
    /// One is registered already.
    pub fn new(registry: Option<&Registry>) -> Result<Self, prometheus::Error> {
        let new = Registrar(registry);
        let seconds = || prometheus::exponential_buckets(0.000_5, 2.0, 18);
        Ok(Self {
            events: new.counters(
                "eventbridge_events_total",
                "Events of the bridge by type and by what became of them: consumed, filtered, dropped, published, duplicate, failed.",
                &["type", "status"],
            )?,
            reasons: new.counters(
                "eventbridge_rejected_total",
                "Events that were not published, by status and reason.",
                &["status", "reason"],
            )?,
            errors: new.counters(
                "eventbridge_errors_total",
                "Failures by kind: redis_unavailable, redis_refused, key_refused.",
                &["kind"],
            )?,
            transitions: new.counters(
                "eventbridge_breaker_transitions_total",
                "Changes of the breaker's state by the state entered: open, half_open, closed.",
                &["to"],
            )?,
            processing_seconds: new.histogram(
                "eventbridge_processing_seconds",
                "Seconds from taking an event to its publication or drop.",
                seconds()?,
            )?,
            end_to_end_seconds: new.histogram(
                "eventbridge_end_to_end_seconds",
                "Seconds from the receipt of an event to its publication.",
                seconds()?,
            )?,
            publish_seconds: new.histogram(
                "eventbridge_redis_publish_seconds",
                "Seconds one publishing round trip took.",
                seconds()?,
            )?,
            consume_seconds: new.histogram(
                "eventbridge_kafka_consume_latency_seconds",
                "Seconds from the writing of a record to its consumption.",
                seconds()?,
            )?,
            breaker_state: new.gauge(
                "eventbridge_breaker_state",
                "State of the circuit breaker: 0 closed, 1 open, 2 half-open.",
            )?,
            breaker_failure_rate: new.rate(
                "eventbridge_breaker_failure_rate",
                "Share of failures among the attempts of the breaker's window.",
            )?,
            redis_connected: new.gauge("eventbridge_redis_connected", "1 while Redis answers.")?,
            lag: new.add(IntGaugeVec::new(
                Opts::new(
                    "eventbridge_consumer_lag_records",
                    "Records of the log that the bridge is not done with; while Redis is given up, dropped ones count until listeners can be told.",
                ),
                &["topic", "partition"],
            )?)?,
            gaps: new.add(IntCounter::new(
                "eventbridge_gaps_total",
                "Gaps that listeners were told of after messages had been dropped.",
            )?)?,
            throughput: new.rate(
                "eventbridge_throughput_events_per_second",
                "Published events a second, over the last interval.",
            )?,
            error_rate: new.rate(
                "eventbridge_errors_per_second",
                "Failed publishing attempts a second, over the last interval.",
            )?,
            filter_rate: new.rate(
                "eventbridge_filter_rate",
                "Share of the consumed events that were filtered, since the start.",
            )?,
            success_rate: new.rate(
                "eventbridge_push_success_rate",
                "Share of the events that passed the filter that are in their channel, since the start.",
            )?,
            active_sessions: new.gauge(
                "eventbridge_active_sessions",
                "Sessions with a published event within the last five to ten minutes.",
            )?,
            custom: new.add(GaugeVec::new(
                Opts::new("eventbridge_custom", "Figures of an extension, by name."),
                &["name"],
            )?)?,
            totals: Default::default(),
            types: Mutex::default(),
            sessions: Mutex::default(),
            customs: Mutex::default(),
            taken: Mutex::new(Taken {
                at: Instant::now(),
                published: 0,
                errors: 0,
            }),
        })
    }

    /// Counts an event. `known` says that its type passed the filter: only such types get a label
    /// of their own, for anybody can send others.
    pub(crate) fn count(&self, event_type: &str, known: bool, status: Status) {
        self.totals[status as usize].fetch_add(1, Ordering::Relaxed);
        let mut types = self.types.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counters) = types.get(event_type) {
            counters[status as usize].inc();
            return;
        }
        let own = known && types.len() < TYPES;
        let label = if own { event_type } else { "other" };
        let counters = Status::ALL.map(|s| self.events.with_label_values(&[label, s.as_str()]));
        counters[status as usize].inc();
        if own {
            types.insert(event_type.to_owned(), counters);
        }
    }

    /// Counts why an event was not published.
    pub(crate) fn rejected(&self, status: Status, reason: &str) {
        self.reasons
            .with_label_values(&[status.as_str(), reason])
            .inc();
    }

    pub(crate) fn error(&self, kind: &str) {
        self.errors.with_label_values(&[kind]).inc();
    }

    pub(crate) fn transition(&self, to: &str) {
        self.transitions.with_label_values(&[to]).inc();
    }

    pub(crate) fn session(&self, session_id: &str) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.see(session_id);
    }

    /// Shows the lag of each partition and forgets those of `shown` that are gone. Those that stay
    /// are there all the time, for somebody may read the metrics just now. Returns what is shown.
    pub(crate) fn show_lag(
        &self,
        lag: &[PartitionLag],
        shown: &HashSet<[String; 2]>,
    ) -> HashSet<[String; 2]> {
        let mut now = HashSet::new();
        for lag in lag {
            if let Some(records) = lag.lag {
                let labels = [lag.topic.to_string(), lag.partition.to_string()];
                self.lag.with_label_values(&labels).set(records);
                now.insert(labels);
            }
        }
        for gone in shown.difference(&now) {
            // An error says that it is not there, which is what is wanted.
            let _ = self.lag.remove_label_values(gone);
        }
        now
    }

    /// Sets a figure of an extension (S2-67). At most a hundred names are kept.
    pub fn record_custom_metric(&self, name: &str, value: f64) {
        let mut customs = self.customs.lock().unwrap_or_else(PoisonError::into_inner);
        if customs.len() < CUSTOM || customs.contains(name) {
            customs.insert(name.to_owned());
            self.custom.with_label_values(&[name]).set(value);
        }
    }

    /// How many events had that status since the start.
    #[must_use]
    pub fn total(&self, status: Status) -> u64 {
        self.totals[status as usize].load(Ordering::Relaxed)
    }

    /// All of them, by the name of the status.
    #[must_use]
    pub fn totals(&self) -> BTreeMap<&'static str, u64> {
        let total = |status: Status| (status.as_str(), self.total(status));
        Status::ALL.map(total).into()
    }

    /// Published events by type.
    #[must_use]
    pub fn published_types(&self) -> BTreeMap<String, u64> {
        by_label(&self.events, "type", ("status", "published"))
    }

    /// Events that were not published, by reason.
    #[must_use]
    pub fn rejections(&self) -> BTreeMap<String, u64> {
        by_label(&self.reasons, "reason", ("", ""))
    }

    /// Failures by kind.
    #[must_use]
    pub fn failures(&self) -> BTreeMap<String, u64> {
        by_label(&self.errors, "kind", ("", ""))
    }

    /// Sessions seen lately.
    #[must_use]
    pub fn sessions(&self) -> usize {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.count()
    }

    /// The rates of now: those a second over the time since they were last taken.
    #[must_use]
    pub fn rates(&self) -> Rates {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        self.since(&taken).0
    }

    /// The rates, with published events and errors so far.
    fn since(&self, taken: &Taken) -> (Rates, u64, u64) {
        let published = self.total(Status::Published);
        let errors: u64 = self.failures().values().sum();
        let consumed = self.total(Status::Consumed);
        let filtered = self.total(Status::Filtered);
        let seconds = taken.at.elapsed().as_secs_f64().max(0.001);
        let rates = Rates {
            throughput: ratio(published.saturating_sub(taken.published), seconds),
            errors: ratio(errors.saturating_sub(taken.errors), seconds),
            filter: share(filtered, consumed),
            success: share(
                published + self.total(Status::Duplicate),
                consumed.saturating_sub(filtered),
            ),
        };
        (rates, published, errors)
    }

    /// Takes the rates anew.
    pub(crate) fn collect(&self) -> Rates {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (rates, published, errors) = self.since(&taken);
        *taken = Taken {
            at: Instant::now(),
            published,
            errors,
        };
        drop(taken);
        self.throughput.set(rates.throughput);
        self.error_rate.set(rates.errors);
        self.filter_rate.set(rates.filter);
        self.success_rate.set(rates.success);
        self.active_sessions
            .set(i64::try_from(self.sessions()).unwrap_or(i64::MAX));
        rates
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn ratio(count: u64, by: f64) -> f64 {
    count as f64 / by
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

#[cfg(test)]
mod tests;
