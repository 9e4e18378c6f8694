//! What is known of the connection to NATS, and counted.

use std::sync::atomic::{AtomicBool, Ordering};

use prometheus::Registry;

service::metrics! {
    /// What is counted of messages.
    struct NatsMetrics {
        /// Messages of NATS, by what became of them: event, undecodable (a dead letter), refused (too large, or by a step of the program).
        messages: IntCounterVec("tidegate_ingest_nats_messages_total", ["result"]),
        /// Messages that NATS delivered more than once; they are stored once.
        redelivered: IntCounter("tidegate_ingest_nats_redelivered_total"),
        /// Messages of the stream that wait for the consumer.
        pending: IntGauge("tidegate_ingest_nats_pending_messages"),
    }
}

/// The connection, for all who look at it.
pub struct Status {
    connected: AtomicBool,
    metrics: NatsMetrics,
}

impl Status {
    /// Registers the metrics.
    ///
    /// # Errors
    /// A metric is registered twice.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            connected: AtomicBool::new(false),
            metrics: NatsMetrics::register(registry)?,
        })
    }

    /// Whether a server is connected.
    #[must_use]
    pub fn connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    pub(super) fn set_connected(&self, connected: bool) {
        if self.connected.swap(connected, Ordering::Relaxed) && !connected {
            tracing::warn!("NATS: the connection is lost");
        }
    }

    pub(super) fn seen(&self, pending: u64, again: bool) {
        self.metrics
            .pending
            .set(i64::try_from(pending).unwrap_or(i64::MAX));
        if again {
            self.metrics.redelivered.inc();
        }
    }

    pub(super) fn count(&self, result: &str) {
        self.metrics.messages.with_label_values(&[result]).inc();
    }
}
