//! What every publisher has in common: a queue bounded in records and bytes, and its metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry};

use crate::PublishError;
use crate::byte_budget::{ByteBudget, BytePermit};

/// Upper bounds of the histogram, in seconds.
const BUCKETS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// The bounds of what is enqueued and not yet acknowledged.
#[derive(Debug)]
pub(crate) struct Queue {
    max_records: usize,
    records: AtomicUsize,
    bytes: Arc<ByteBudget>,
    publish_seconds: Histogram,
    in_flight_records: IntGauge,
    in_flight_bytes: IntGauge,
    failures: IntCounterVec,
}

impl Queue {
    /// Creates an empty queue and registers its metrics, whose names begin with `log`.
    pub(crate) fn new(
        registry: &Registry,
        log: &str,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Arc<Self>, prometheus::Error> {
        fn register<M>(registry: &Registry, metric: M) -> Result<M, prometheus::Error>
        where
            M: Collector + Clone + 'static,
        {
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        }
        let name = |name: &str| format!("{log}_publish_{name}");
        let seconds = HistogramOpts::new(
            name("seconds"),
            "Time from publishing a batch to its acknowledgement.",
        );
        let failures = Opts::new(
            name("failures_total"),
            "Batches not published, by reason: full, unavailable, too_large, failed.",
        );
        Ok(Arc::new(Self {
            max_records,
            records: AtomicUsize::new(0),
            bytes: ByteBudget::new(max_bytes),
            publish_seconds: register(
                registry,
                Histogram::with_opts(seconds.buckets(BUCKETS.into()))?,
            )?,
            in_flight_records: register(
                registry,
                IntGauge::new(
                    name("in_flight_records"),
                    "Records enqueued and not yet acknowledged.",
                )?,
            )?,
            in_flight_bytes: register(
                registry,
                IntGauge::new(
                    name("in_flight_bytes"),
                    "Bytes enqueued and not yet acknowledged.",
                )?,
            )?,
            failures: register(registry, IntCounterVec::new(failures, &["reason"])?)?,
        }))
    }

    /// Takes room for a batch, or none of it.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        records: usize,
        bytes: usize,
    ) -> Result<Reservation, PublishError> {
        let permit = self.bytes.acquire(bytes).map_err(|_| PublishError::Full)?;
        let before = self.records.fetch_add(records, Ordering::Relaxed);
        if before + records > self.max_records {
            self.records.fetch_sub(records, Ordering::Relaxed);
            return Err(PublishError::Full);
        }
        self.in_flight_records.add(records as i64);
        self.in_flight_bytes.add(bytes as i64);
        Ok(Reservation {
            queue: Arc::clone(self),
            records,
            bytes: permit,
            since: Instant::now(),
        })
    }

    /// Records enqueued and not yet acknowledged.
    pub(crate) fn records(&self) -> usize {
        self.records.load(Ordering::Relaxed)
    }

    /// Counts a batch that failed.
    pub(crate) fn failed(&self, error: &PublishError) {
        self.failures.with_label_values(&[error.reason()]).inc();
    }
}

/// The room of one batch in a [`Queue`], given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    queue: Arc<Queue>,
    records: usize,
    bytes: BytePermit,
    since: Instant,
}

impl Reservation {
    /// The records it stands for.
    pub(crate) fn records(&self) -> usize {
        self.records
    }

    /// The bytes it stands for.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.bytes()
    }

    /// Gives the room back and measures how long the batch took to be acknowledged or to fail.
    pub(crate) fn finish(self, error: Option<&PublishError>) {
        let seconds = self.since.elapsed().as_secs_f64();
        self.queue.publish_seconds.observe(seconds);
        if let Some(error) = error {
            self.queue.failed(error);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let Self { queue, records, .. } = self;
        queue.records.fetch_sub(*records, Ordering::Relaxed);
        queue.in_flight_records.sub(*records as i64);
        queue.in_flight_bytes.sub(self.bytes.bytes() as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_whole_or_not_at_all() {
        let queue = Queue::new(&Registry::new(), "test", 10, 100).expect("metrics");
        let first = queue.reserve(5, 50).expect("room");
        assert_eq!(queue.reserve(6, 10).err(), Some(PublishError::Full));
        assert_eq!(queue.reserve(1, 51).err(), Some(PublishError::Full));
        let second = queue.reserve(5, 50).expect("what was refused took nothing");
        assert_eq!(queue.in_flight_bytes.get(), 100);
        drop((first, second));
        queue.reserve(10, 100).expect("empty again");
        assert_eq!(queue.in_flight_records.get(), 0);
    }
}
