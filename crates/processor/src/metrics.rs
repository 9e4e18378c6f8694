//! What the processor counts. The doc comment of each field is its help text.

use std::time::Duration;

use domain::Event;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
};
use store::Kind;
use store::dead_letters::DeadLetter;
use store::write::Written;

/// The processor's metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Records by what became of them: stored, duplicate, dead.
    pub records: IntCounterVec,
    /// Dead letters by reason.
    pub dead_letters: IntCounterVec,
    /// Seconds one transaction took.
    pub write_seconds: Histogram,
    /// Records of one transaction.
    pub batch_records: Histogram,
    /// Seconds from the receipt of an event to its storing.
    pub store_latency_seconds: Histogram,
    /// Failed transactions by kind: transient, data, conflict.
    pub write_failures: IntCounterVec,
    /// Announcements by result.
    pub announcements: IntCounterVec,
    /// Records of the log not yet stored, by topic and partition.
    pub consumer_lag: IntGaugeVec,
    stored: IntCounter,
    duplicate: IntCounter,
    dead: IntCounter,
}

impl Metrics {
    /// Creates and registers them.
    ///
    /// # Errors
    /// One is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, label: &str| -> Result<_, prometheus::Error> {
            let vec = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(vec.clone()))?;
            Ok(vec)
        };
        let histogram =
            |name: &str, help: &str, buckets: Vec<f64>| -> Result<_, prometheus::Error> {
                let histogram =
                    Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
                registry.register(Box::new(histogram.clone()))?;
                Ok(histogram)
            };
        let seconds = || prometheus::exponential_buckets(0.001, 2.0, 16);
        let records = counter(
            "tidegate_processor_records_total",
            "Records of the log by what became of them: stored, duplicate, dead.",
            "result",
        )?;
        let consumer_lag = IntGaugeVec::new(
            Opts::new(
                "tidegate_processor_consumer_lag_records",
                "Records of the log not yet stored, by topic and partition.",
            ),
            &["topic", "partition"],
        )?;
        registry.register(Box::new(consumer_lag.clone()))?;
        Ok(Self {
            stored: records.with_label_values(&["stored"]),
            duplicate: records.with_label_values(&["duplicate"]),
            dead: records.with_label_values(&["dead"]),
            records,
            dead_letters: counter(
                "tidegate_processor_dead_letters_total",
                "Records kept as dead letters, by reason.",
                "reason",
            )?,
            write_seconds: histogram(
                "tidegate_processor_write_seconds",
                "Duration of one storing transaction.",
                seconds()?,
            )?,
            batch_records: histogram(
                "tidegate_processor_batch_records",
                "Records of one storing transaction.",
                prometheus::exponential_buckets(1.0, 2.0, 14)?,
            )?,
            store_latency_seconds: histogram(
                "tidegate_processor_store_latency_seconds",
                "Time from the receipt of an event to its storing.",
                seconds()?,
            )?,
            write_failures: counter(
                "tidegate_processor_write_failures_total",
                "Failed storing transactions by kind: transient, data, conflict.",
                "kind",
            )?,
            announcements: counter(
                "tidegate_processor_announcements_total",
                "Announcements of stored events by result: sent, failed.",
                "result",
            )?,
            consumer_lag,
        })
    }

    pub(crate) fn written(
        &self,
        took: Duration,
        events: &[(usize, &Event)],
        written: &Written,
        letters: &[&DeadLetter],
    ) {
        self.write_seconds.observe(took.as_secs_f64());
        #[expect(
            clippy::cast_precision_loss,
            reason = "a batch has thousands of records"
        )]
        self.batch_records
            .observe((events.len() + letters.len()) as f64);
        self.stored.inc_by(written.stored.len() as u64);
        self.duplicate
            .inc_by((events.len() - written.stored.len()) as u64);
        self.dead.inc_by(letters.len() as u64);
        for letter in letters {
            self.dead_letters
                .with_label_values(&[letter.reason.as_str()])
                .inc();
        }
        let now = service::clock::now();
        let latencies = self.store_latency_seconds.local();
        for (_, event) in written.stored.iter().filter_map(|&at| events.get(at)) {
            latencies.observe((now - event.received_at).as_seconds_f64().max(0.0));
        }
        latencies.flush();
    }

    pub(crate) fn write_failed(&self, kind: Kind) {
        let kind = match kind {
            Kind::Transient => "transient",
            Kind::Data => "data",
            Kind::Conflict => "conflict",
        };
        self.write_failures.with_label_values(&[kind]).inc();
    }

    pub(crate) fn announced(&self, events: usize) {
        self.announcements
            .with_label_values(&["sent"])
            .inc_by(events as u64);
    }

    pub(crate) fn announcements_failed(&self, events: usize) {
        self.announcements
            .with_label_values(&["failed"])
            .inc_by(events as u64);
    }
}
