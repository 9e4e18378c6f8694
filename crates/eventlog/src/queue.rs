//! What every publisher has in common: a queue bounded in records and bytes, and its metrics.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry};

use crate::PublishError;

/// Counts what is enqueued and not yet acknowledged.
pub(crate) struct Queue {
    records: AtomicUsize,
    bytes: AtomicUsize,
    metrics: Metrics,
}

impl Queue {
    /// `log` begins the names of its metrics.
    pub(crate) fn new(registry: &Registry, log: &str) -> Result<Self, prometheus::Error> {
        Ok(Self {
            records: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            metrics: Metrics::new(registry, log)?,
        })
    }

    /// Takes room for a batch, or none of it.
    pub(crate) fn reserve(
        &self,
        records: usize,
        bytes: usize,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<(), PublishError> {
        if !reserve(&self.records, records, max_records) {
            return Err(PublishError::Full);
        }
        if !reserve(&self.bytes, bytes, max_bytes) {
            self.records.fetch_sub(records, Ordering::Relaxed);
            return Err(PublishError::Full);
        }
        self.metrics.in_flight_records.add(records as i64);
        self.metrics.in_flight_bytes.add(bytes as i64);
        Ok(())
    }

    /// Gives a batch's room back.
    pub(crate) fn release(&self, records: usize, bytes: usize) {
        self.records.fetch_sub(records, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.metrics.in_flight_records.sub(records as i64);
        self.metrics.in_flight_bytes.sub(bytes as i64);
    }

    /// Records enqueued and not yet acknowledged.
    pub(crate) fn records(&self) -> usize {
        self.records.load(Ordering::Relaxed)
    }

    /// Notes that a batch is acknowledged or failed.
    pub(crate) fn answered(&self, after: Duration, error: Option<&PublishError>) {
        self.metrics.publish_seconds.observe(after.as_secs_f64());
        if let Some(error) = error {
            self.failed(error);
        }
    }

    /// Notes a batch that failed.
    pub(crate) fn failed(&self, error: &PublishError) {
        self.metrics
            .failures
            .with_label_values(&[error.reason()])
            .inc();
    }
}

/// Takes `amount` of what `counter` may hold; false, and nothing taken, if that exceeds `limit`.
fn reserve(counter: &AtomicUsize, amount: usize, limit: usize) -> bool {
    let before = counter.fetch_add(amount, Ordering::Relaxed);
    if before + amount > limit {
        counter.fetch_sub(amount, Ordering::Relaxed);
        return false;
    }
    true
}

struct Metrics {
    publish_seconds: Histogram,
    in_flight_records: IntGauge,
    in_flight_bytes: IntGauge,
    failures: IntCounterVec,
}

impl Metrics {
    fn new(registry: &Registry, log: &str) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            publish_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    format!("{log}_publish_seconds"),
                    "Time from publishing a batch to its acknowledgement.",
                )
                .buckets(vec![
                    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
                ]),
            )?,
            in_flight_records: IntGauge::new(
                format!("{log}_publish_in_flight_records"),
                "Records enqueued and not yet acknowledged.",
            )?,
            in_flight_bytes: IntGauge::new(
                format!("{log}_publish_in_flight_bytes"),
                "Bytes enqueued and not yet acknowledged.",
            )?,
            failures: IntCounterVec::new(
                Opts::new(
                    format!("{log}_publish_failures_total"),
                    "Batches not published, by reason: full, unavailable, too_large, failed.",
                ),
                &["reason"],
            )?,
        };
        registry.register(Box::new(metrics.publish_seconds.clone()))?;
        registry.register(Box::new(metrics.in_flight_records.clone()))?;
        registry.register(Box::new(metrics.in_flight_bytes.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        Ok(metrics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_whole_or_not_at_all() {
        let queue = Queue::new(&Registry::new(), "test").expect("metrics");
        queue.reserve(5, 50, 10, 100).expect("room");
        assert_eq!(queue.reserve(6, 10, 10, 100), Err(PublishError::Full));
        assert_eq!(queue.reserve(1, 51, 10, 100), Err(PublishError::Full));
        queue
            .reserve(5, 50, 10, 100)
            .expect("what was refused took nothing");
        queue.release(10, 100);
        queue.reserve(10, 100, 10, 100).expect("empty again");
    }
}
