//! Ready events → their channels, through the breaker; counts and logs each.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use domain::Event;
use live::{Channels, LiveError, Outcome, Publication, StreamId};
use prometheus::local::LocalHistogram;
use time::OffsetDateTime;

use super::breaker::{Breaker, PublishOutcome};
use super::evaluate::{Ready, Rejected};
use super::metrics::{Extension, Metrics, Status};

/// The bridge's name in its logs (S2-63).
pub const SERVICE: &str = "eventbridge";

/// Events that are published together, in order.
#[derive(Debug)]
pub struct Batch {
    publications: Vec<Publication>,
    events: Vec<(Event, Arc<str>)>,
    begun: Instant,
}

impl Batch {
    /// An empty batch that begins now.
    #[must_use]
    pub fn begin() -> Self {
        Self {
            publications: vec![],
            events: vec![],
            begun: Instant::now(),
        }
    }

    /// Adds an event that came on that topic.
    pub fn push(&mut self, ready: Ready, topic: &Arc<str>) {
        self.publications.push(ready.publication);
        self.events.push((ready.event, Arc::clone(topic)));
    }

    /// How many events it has.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "never needed")]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// When it was begun.
    #[must_use]
    pub fn begun(&self) -> Instant {
        self.begun
    }
}

/// Publishes batches, and counts and logs how each event ends.
pub struct Publisher {
    /// Where messages go.
    pub channels: Arc<dyn Channels>,
    /// Decides whether Redis is tried.
    pub breaker: Breaker,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Figures of the composition's own.
    pub extension: Arc<dyn Extension>,
}

impl Publisher {
    /// Publishes a batch, again after failures until it is published or the breaker opens: positions
    /// and event ids make that harmless. `may_drop` as in [`Breaker::acquire`].
    pub async fn publish(&self, batch: Batch, may_drop: bool) -> PublishOutcome<()> {
        if batch.publications.is_empty() {
            return PublishOutcome::Published(());
        }
        let attempts = AtomicUsize::new(0);
        let outcome = self.breaker.run(batch.len(), may_drop, || {
            attempts.fetch_add(1, Ordering::Relaxed);
            self.send(&batch.publications)
        });
        match outcome.await {
            PublishOutcome::Published(outcomes) => {
                self.published(&batch, outcomes, attempts.into_inner() > 1);
                PublishOutcome::Published(())
            }
            PublishOutcome::Dropped => {
                for (event, _) in &batch.events {
                    self.count(event, Status::Dropped);
                    self.metrics.rejected(Status::Dropped, "breaker_open");
                }
                self.observe(&batch);
                PublishOutcome::Dropped
            }
            PublishOutcome::Stopped => PublishOutcome::Stopped,
        }
    }

    /// Publishes one hand-made event, once. `None` unless the breaker is closed.
    pub async fn publish_one(&self, ready: Ready) -> Option<Result<Outcome, LiveError>> {
        if !self.breaker.can_attempt() {
            return None;
        }
        let mut batch = Batch::begin();
        batch.push(ready, &"test".into());
        let result = self.send(&batch.publications).await;
        self.breaker.record(&result);
        Some(result.and_then(|outcomes| {
            let outcome = outcomes.first().cloned();
            self.published(&batch, outcomes, false);
            outcome.ok_or_else(|| LiveError::Unavailable("no answer".to_owned()))
        }))
    }

    /// Counts an event that is not published.
    pub fn rejected(&self, rejected: &Rejected, begun: Instant) {
        let (status, reason) = (rejected.reason.status(), rejected.reason.word());
        let name = &rejected.event_type;
        self.metrics.count(name, rejected.passed_filter, status);
        self.metrics.rejected(status, reason);
        let processing = &self.metrics.collectors.processing_seconds;
        processing.observe(begun.elapsed().as_secs_f64());
        tracing::debug!(
            target: SERVICE,
            status = status.as_str(), reason, detail = rejected.reason.detail(),
            domain_event_type = name.chars().take(255).collect::<String>(), "event not published"
        );
    }

    async fn send(&self, publications: &[Publication]) -> Result<Vec<Outcome>, LiveError> {
        let begun = Instant::now();
        let outcomes = self.channels.publish(publications).await;
        let seconds = &self.metrics.collectors.publish_seconds;
        seconds.observe(begun.elapsed().as_secs_f64());
        outcomes
    }

    /// Counts and logs each event of a batch. If the batch was `retried`, an event that is in its
    /// channel already was published by an earlier attempt whose answer was lost.
    fn published(&self, batch: &Batch, outcomes: Vec<Outcome>, retried: bool) {
        let now = service::clock::now();
        let latencies = self.metrics.collectors.end_to_end_seconds.local();
        let mut seen = HashSet::new();
        for ((event, topic), outcome) in batch.events.iter().zip(outcomes) {
            // Each event once, even if the batch has it twice.
            let ours = retried && seen.insert((&event.tenant_id, event.event_id));
            match outcome {
                Outcome::Published(id) => {
                    self.count_published(event, topic, Some(id), &latencies, now)
                }
                Outcome::Duplicate if ours => {
                    self.count_published(event, topic, None, &latencies, now)
                }
                Outcome::Duplicate => self.count(event, Status::Duplicate),
                Outcome::NoListener => self.count(event, Status::NoListener),
                Outcome::Refused(reason) => {
                    self.count(event, Status::Failed);
                    self.metrics.rejected(Status::Failed, "refused");
                    self.metrics.error("key_refused");
                    tracing::warn!(event_id = %event.event_id, user_id = event.user_id, reason, "Redis refused a message: it is not published");
                }
            }
        }
        latencies.flush();
        self.observe(batch);
    }

    fn count_published(
        &self,
        event: &Event,
        topic: &Arc<str>,
        id: Option<StreamId>,
        latencies: &LocalHistogram,
        now: OffsetDateTime,
    ) {
        self.count(event, Status::Published);
        latencies.observe((now - event.received_at).as_seconds_f64().max(0.0));
        if let Some(session) = &event.session_id {
            self.metrics.session(session);
        }
        self.extension.published(event, &self.metrics);
        self.log(event, topic, id);
    }

    fn count(&self, event: &Event, status: Status) {
        self.metrics.count(&event.event_type, true, status);
    }

    fn observe(&self, batch: &Batch) {
        let seconds = batch.begun.elapsed().as_secs_f64();
        let processing = self.metrics.collectors.processing_seconds.local();
        (0..batch.events.len()).for_each(|_| processing.observe(seconds));
        processing.flush();
    }

    /// The line of S2-63, on a target of its own; `timestamp` is the line's own. The stream id is
    /// unknown if the answer was lost.
    fn log(&self, event: &Event, topic: &Arc<str>, id: Option<StreamId>) {
        tracing::debug!(
            target: "eventbridge::published",
            service = SERVICE,
            event_type = "event_published",
            domain_event_type = event.event_type,
            event_id = %event.event_id,
            user_id = event.user_id,
            session_id = event.session_id,
            topic = &**topic,
            stream_id = id.map(tracing::field::display),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use config::Env;
    use domain::Limits;
    use eventlog::kafka::KafkaConfig;
    use live::local::LocalChannels;
    use live::{BoxFuture, Channel, Resume, Retention, Subscription};
    use serde_json::json;

    use super::*;
    use crate::bridge::config::BridgeConfig;
    use crate::bridge::evaluate::Evaluator;

    /// Channels whose answer to the first batch is lost, after so much of it was done.
    struct Unanswered {
        channels: LocalChannels,
        done: Mutex<Option<usize>>,
    }

    impl Channels for Unanswered {
        fn publish<'a>(
            &'a self,
            publications: &'a [Publication],
        ) -> BoxFuture<'a, Result<Vec<Outcome>, LiveError>> {
            let done = self.done.lock().unwrap().take();
            Box::pin(async move {
                let Some(done) = done else {
                    return self.channels.publish(publications).await;
                };
                self.channels.publish(&publications[..done]).await?;
                Err(LiveError::Unavailable("timed out".to_owned()))
            })
        }

        fn send_transient<'a>(
            &'a self,
            messages: &'a [(Channel, live::Message)],
        ) -> BoxFuture<'a, Result<usize, LiveError>> {
            self.channels.send_transient(messages)
        }

        fn mark_gap(&self) -> BoxFuture<'_, Result<StreamId, LiveError>> {
            self.channels.mark_gap()
        }

        fn subscribe(&self, channel: Channel, resume: Resume, bytes: usize) -> Subscription {
            self.channels.subscribe(channel, resume, bytes)
        }

        fn erase<'a>(
            &'a self,
            channel: &'a Channel,
            events: &'a [uuid::Uuid],
        ) -> BoxFuture<'a, Result<u64, LiveError>> {
            self.channels.erase(channel, events)
        }

        fn kept_bytes(&self) -> BoxFuture<'_, Option<u64>> {
            self.channels.kept_bytes()
        }

        fn connected(&self) -> bool {
            true
        }
    }

    /// Keeps the ids of published events.
    #[derive(Default)]
    struct Delivered(Mutex<Vec<uuid::Uuid>>);

    impl Extension for Delivered {
        fn published(&self, event: &Event, _: &Metrics) {
            self.0.lock().unwrap().push(event.event_id);
        }
    }

    fn ready(evaluator: &Evaluator, id: &str) -> Ready {
        let event = json!({"event_id": id, "event_type": "a", "user_id": "u", "data": {}});
        let record = eventlog::Record {
            topic: "events.backend.service".into(),
            partition: 0,
            offset: 0,
            timestamp_ms: None,
            key: None,
            headers: vec![],
            payload: Some(event.to_string().into_bytes()),
        };
        *evaluator
            .record(&record, service::clock::now(), None)
            .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_attempt_without_an_answer_published_counts_as_published() {
        let ids: Vec<String> = (0..3)
            .map(|n| uuid::Uuid::from_u128(n + 1).to_string())
            .collect();
        let env = Env::from_map(HashMap::new());
        let config = BridgeConfig::from_env(&env, &KafkaConfig::default(), &[]);
        let evaluator = Evaluator::new(&config, Limits::default(), "");
        let metrics = Arc::new(Metrics::new(None).unwrap());
        let delivered = Arc::new(Delivered::default());
        let publisher = Publisher {
            channels: Arc::new(Unanswered {
                channels: LocalChannels::new(Retention {
                    keep_all: true,
                    ..Retention::default()
                }),
                done: Mutex::new(Some(3)),
            }),
            breaker: Breaker::new(config.breaker, Arc::clone(&metrics)),
            metrics: Arc::clone(&metrics),
            extension: Arc::clone(&delivered) as Arc<dyn Extension>,
        };
        let topic = Arc::from("t");
        let batch = |which: &[usize]| {
            let mut batch = Batch::begin();
            which
                .iter()
                .for_each(|n| batch.push(ready(&evaluator, &ids[*n]), &topic));
            batch
        };
        // Of these, the first three were done; the second 0 is the sender's doing, then and now.
        let outcome = publisher.publish(batch(&[0, 1, 0, 2]), false).await;
        assert_eq!(outcome, PublishOutcome::Published(()));
        let totals = || {
            let totals = metrics.totals();
            (totals.published, totals.duplicate)
        };
        assert_eq!(totals(), (3, 1));
        // What another process published before is a duplicate, however well it goes.
        publisher.publish(batch(&[1]), false).await;
        assert_eq!(totals(), (3, 2));
        let delivered: Vec<_> = delivered
            .0
            .lock()
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(delivered, ids);
    }
}
