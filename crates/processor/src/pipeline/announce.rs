//! Announces what was stored: `event.stored` on `event-stream` (S4-98), at least once.

use std::sync::Arc;
use std::time::Duration;

use eventlog::{PublishError, Publisher, Source};
use store::outbox::{Message, Sink};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::announcement::{Announcements, left, message, records};
use super::detour::Detour;
use super::settle::Stored;
use crate::metrics::Metrics;

/// Announcements sent and acknowledged together.
const PER_PUBLISH: usize = 1_000;

/// What Kafka does not acknowledge within this time waits in the outbox instead, so that storing does
/// not. It may be announced twice.
const WITHIN: Duration = Duration::from_secs(5);

/// The announcing stage of one worker.
pub struct Announcer {
    producer: Arc<dyn Publisher>,
    source: Arc<dyn Source>,
    to: Announcements,
    detour: Detour,
    metrics: Arc<Metrics>,
}

impl Announcer {
    /// Announces there, or by the detour.
    #[must_use]
    pub fn new(
        producer: Arc<dyn Publisher>,
        source: Arc<dyn Source>,
        to: &Announcements,
        detour: Detour,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            producer,
            source,
            to: to.clone(),
            detour,
            metrics,
        }
    }

    /// Announces every batch that comes, then marks its records as done. Only that lets the log's
    /// own offset move: what a crash leaves unannounced is read again and announced then.
    pub async fn run(self, mut input: mpsc::Receiver<Stored>) {
        // One at a time: what is on its way to the broker is there twice, for what is not acknowledged is
        // left in the outbox.
        while let Some(batch) = input.recv().await {
            let batch = self.announce(batch).await;
            self.finish(batch);
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
        if self.detour.is_taken() {
            let due: Vec<Message> = events.iter().map(|event| message(event)).collect();
            self.detour.leave(&due, "others wait there already").await;
            return batch;
        }
        // All are sent before the first acknowledgement is awaited: on a busy machine an
        // acknowledgement takes many scheduling rounds, whatever it acknowledges.
        let mut sent = Vec::with_capacity(events.len() / PER_PUBLISH + 1);
        let mut events = events.into_iter();
        while events.len() > 0 {
            // They go as their announcements come.
            let events: Vec<_> = events.by_ref().take(PER_PUBLISH).collect();
            let records = records(&self.to, &events);
            sent.push((self.producer.publish(&records), records));
        }
        let deadline = Instant::now() + WITHIN;
        for (published, records) in sent {
            let result = match published {
                Ok(acknowledged) => tokio::time::timeout_at(deadline, acknowledged)
                    .await
                    .unwrap_or(Err(PublishError::Unavailable)),
                Err(error) => Err(error),
            };
            match result {
                Ok(()) => self.metrics.announced(Sink::Kafka, records.len()),
                Err(error) => {
                    let due: Vec<Message> = records.into_iter().map(left).collect();
                    self.detour.leave(&due, &error.to_string()).await;
                }
            }
        }
        batch
    }
}
