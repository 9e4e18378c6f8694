//! Announces what was stored: `event.stored` on `event-stream` (S4-98), at least once.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use eventlog::{Outgoing, PublishError, Publisher, Source};
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tokio::sync::mpsc;

use super::announcement::records;
use super::write::Stored;
use crate::metrics::Metrics;

/// Announcements sent and acknowledged together.
const PER_PUBLISH: usize = 1_000;

/// Batches of one worker on their way to the broker.
const IN_FLIGHT: usize = 2;

/// The announcing stage of one worker.
pub struct Announcer {
    producer: Arc<dyn Publisher>,
    source: Arc<dyn Source>,
    topic: Arc<str>,
    metrics: Arc<Metrics>,
}

impl Announcer {
    /// Announces on that topic (full name).
    #[must_use]
    pub fn new(
        producer: Arc<dyn Publisher>,
        source: Arc<dyn Source>,
        topic: &str,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            producer,
            source,
            topic: topic.into(),
            metrics,
        }
    }

    /// Announces every batch that comes, then marks its records as done. Only that lets the log's
    /// own offset move: what a crash leaves unannounced is read again and announced then.
    pub async fn run(self, mut input: mpsc::Receiver<Stored>) {
        let mut in_flight = FuturesOrdered::new();
        let mut open = true;
        while open || !in_flight.is_empty() {
            tokio::select! {
                Some(batch) = in_flight.next() => self.finish(batch),
                batch = input.recv(), if open && in_flight.len() < IN_FLIGHT => match batch {
                    Some(batch) => in_flight.push_back(self.announce(batch)),
                    None => open = false,
                },
            }
        }
    }

    /// The batch's permits end here, after its records are marked as done.
    fn finish(&self, batch: Stored) {
        for ((topic, partition), next) in &batch.done {
            self.source.mark_done(topic, *partition, *next);
        }
    }

    async fn announce(&self, mut batch: Stored) -> Stored {
        let events = std::mem::take(&mut batch.announce);
        // All are sent before the first acknowledgement is awaited: on a busy machine an
        // acknowledgement takes many scheduling rounds, whatever it acknowledges.
        let mut sent = Vec::with_capacity(events.len() / PER_PUBLISH + 1);
        for events in events.chunks(PER_PUBLISH) {
            let records = records(&self.topic, events);
            sent.push((self.producer.publish(&records), records));
        }
        drop(events);
        for (published, records) in sent {
            let result = match published {
                Ok(acknowledged) => acknowledged.await,
                Err(error) => Err(error),
            };
            match result {
                Ok(()) => self.metrics.announced(records.len()),
                Err(error) => self.retry(&records, error).await,
            }
        }
        batch
    }

    /// Publishes again until it works. A message that the broker will never take must not hold up
    /// the others for ever; the event itself is stored.
    async fn retry(&self, records: &[Outgoing], mut error: PublishError) {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(5))
            .without_max_times()
            .build();
        for pause in pauses {
            if matches!(error, PublishError::TooLarge | PublishError::Failed(_)) {
                break;
            }
            if error == PublishError::Unavailable {
                tracing::warn!(error = %error, retry_in_ms = pause.as_millis(), "announcing waits");
            }
            tokio::time::sleep(pause).await;
            let published = match self.producer.publish(records) {
                Ok(acknowledged) => acknowledged.await,
                Err(error) => Err(error),
            };
            match published {
                Ok(()) => return self.metrics.announced(records.len()),
                Err(again) => error = again,
            }
        }
        tracing::error!(error = %error, events = records.len(), "announcements refused");
        self.metrics.announcements_failed(records.len());
    }
}
