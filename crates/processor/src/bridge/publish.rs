//! Ready events → their channels, through the breaker; what became of each is counted and logged.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::Event;
use live::{Channels, LiveError, Outcome, Publication, StreamId};
use prometheus::local::LocalHistogram;
use time::OffsetDateTime;

use super::evaluate::{Ready, Rejected};
use super::extension::Extension;
use super::gate::{Admission, Gate};
use super::log_budget::LogBudget;
use super::metrics::{Metrics, Status};

/// The name in the log lines (S2-63).
pub const SERVICE: &str = "eventbridge";

/// The first pause before a batch is tried again; doubled up to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Events that are published together, in order.
#[derive(Debug)]
pub struct Batch {
    publications: Vec<Publication>,
    events: Vec<(Event, Arc<str>)>,
    taken: Instant,
}

impl Batch {
    /// An empty batch, taken up now.
    #[must_use]
    pub fn begin() -> Self {
        Self {
            publications: vec![],
            events: vec![],
            taken: Instant::now(),
        }
    }

    /// Adds an event that came on that topic.
    pub fn push(&mut self, ready: Ready, topic: &Arc<str>) {
        self.publications.push(ready.publication);
        self.events.push((ready.event, Arc::clone(topic)));
    }

    /// When it was taken up.
    #[must_use]
    pub fn taken(&self) -> Instant {
        self.taken
    }
}

/// How a batch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishOutcome {
    /// It was published, as far as each event allows.
    Done,
    /// Redis is given up; it was dropped, which listeners will be told.
    Dropped,
    /// The bridge stops before anything could be done with it.
    Stopped,
}

/// See the module.
pub struct Publisher {
    /// Where messages go.
    pub channels: Arc<dyn Channels>,
    /// The breaker.
    pub gate: Arc<Gate>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What somebody added.
    pub extension: Arc<dyn Extension>,
    /// How many published events are logged at INFO.
    pub logged: LogBudget,
}

impl Publisher {
    /// Publishes a batch, and again until it is published or the breaker opens: what has been
    /// published of it is recognised by its position and its events. `may_drop` as in
    /// [`Gate::admit`].
    pub async fn settle(&self, batch: Batch, may_drop: bool) -> PublishOutcome {
        if batch.publications.is_empty() {
            return PublishOutcome::Done;
        }
        let mut pause = PAUSE.0;
        let mut tried = false;
        loop {
            let attempt = match self.gate.admit(batch.publications.len(), may_drop).await {
                Admission::Attempt(attempt) => attempt,
                Admission::Drop => {
                    self.dropped(&batch, "breaker_open");
                    return PublishOutcome::Dropped;
                }
                Admission::Stop => return PublishOutcome::Stopped,
            };
            match self.publish(&batch.publications).await {
                Ok(outcomes) => {
                    self.gate.succeeded(attempt);
                    self.published(&batch, outcomes, tried);
                    return PublishOutcome::Done;
                }
                Err(error) if self.gate.failed(attempt, &error) => return PublishOutcome::Stopped,
                Err(_) => tried = true,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// Publishes one event now, or says why not; for hand-made events.
    ///
    /// # Errors
    /// `None` while the breaker lets nothing through.
    pub async fn publish_one(&self, ready: Ready) -> Option<Result<Outcome, LiveError>> {
        let attempt = self.gate.attempt_now()?;
        let topic = Arc::from("test");
        let mut batch = Batch::begin();
        batch.push(ready, &topic);
        Some(match self.publish(&batch.publications).await {
            Ok(outcomes) => {
                self.gate.succeeded(attempt);
                self.published(&batch, outcomes.clone(), false);
                let nothing = || Err(LiveError::Unavailable("no answer".to_owned()));
                outcomes.into_iter().next().map_or_else(nothing, Ok)
            }
            Err(error) => {
                self.gate.failed(attempt, &error);
                Err(error)
            }
        })
    }

    /// Counts an event that goes no further.
    pub fn ended(&self, ended: &Rejected, taken: Instant) {
        let (status, reason) = (ended.why.status(), ended.why.reason());
        let (name, known) = (&ended.event_type, ended.passed);
        self.metrics.count(name, known, Status::Consumed);
        self.metrics.count(name, known, status);
        self.metrics.rejected(status, reason);
        self.metrics
            .processing_seconds
            .observe(taken.elapsed().as_secs_f64());
        tracing::debug!(
            target: SERVICE,
            status = status.as_str(), reason, detail = ended.why.detail(),
            domain_event_type = name.chars().take(255).collect::<String>(), "event not published"
        );
    }

    async fn publish(&self, publications: &[Publication]) -> Result<Vec<Outcome>, LiveError> {
        let started = Instant::now();
        let outcomes = self.channels.publish(publications).await;
        self.metrics
            .publish_seconds
            .observe(started.elapsed().as_secs_f64());
        outcomes
    }

    fn dropped(&self, batch: &Batch, reason: &str) {
        for (event, _) in &batch.events {
            self.count(event, Status::Dropped);
            self.metrics.rejected(Status::Dropped, reason);
        }
        self.observe(batch);
    }

    /// Counts and logs what became of a batch. If it was `tried` before, what is in its channel
    /// already is there by that attempt, of which nobody knew how far it got.
    fn published(&self, batch: &Batch, outcomes: Vec<Outcome>, tried: bool) {
        let now = service::clock::now();
        let latencies = self.metrics.end_to_end_seconds.local();
        let mut told = HashSet::new();
        for ((event, topic), outcome) in batch.events.iter().zip(outcomes) {
            // Each event once, even if the batch has it twice.
            let ours = tried && told.insert((&event.tenant_id, event.event_id));
            match outcome {
                Outcome::Published(id) => {
                    self.count_published(event, topic, Some(id), &latencies, now)
                }
                Outcome::Duplicate if ours => {
                    self.count_published(event, topic, None, &latencies, now)
                }
                Outcome::Duplicate => self.count(event, Status::Duplicate),
                Outcome::Refused(reason) => {
                    self.count(event, Status::Failed);
                    self.metrics.rejected(Status::Failed, "refused");
                    self.metrics.error("key_refused");
                    tracing::warn!(event_id = %event.event_id, user_id = event.user_id, reason, "Redis refuses this message; it is not published");
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
        self.metrics
            .count(&event.event_type, true, Status::Consumed);
        self.metrics.count(&event.event_type, true, status);
    }

    fn observe(&self, batch: &Batch) {
        let seconds = batch.taken.elapsed().as_secs_f64();
        let processing = self.metrics.processing_seconds.local();
        (0..batch.events.len()).for_each(|_| processing.observe(seconds));
        processing.flush();
    }

    /// The line of S2-63; `timestamp` is the line's own. The id is not known where only an attempt
    /// without an answer can have published the event.
    fn log(&self, event: &Event, topic: &Arc<str>, id: Option<StreamId>) {
        macro_rules! line {
            ($level:expr) => {
                tracing::event!(
                    target: SERVICE,
                    $level,
                    service = SERVICE,
                    event_type = "event_published",
                    domain_event_type = event.event_type,
                    event_id = %event.event_id,
                    user_id = event.user_id,
                    session_id = event.session_id,
                    topic = &**topic,
                    stream_id = id.map(tracing::field::display),
                )
            };
        }
        if self.logged.take(service::clock::now().unix_timestamp()) {
            line!(tracing::Level::INFO);
        } else {
            line!(tracing::Level::DEBUG);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use config::Env;
    use domain::Limits;
    use eventlog::kafka::KafkaConfig;
    use live::local::{LocalChannels, LocalConfig};
    use live::{BoxFuture, Channel, Resume, Subscription};
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

        fn mark_gap(&self) -> BoxFuture<'_, Result<StreamId, LiveError>> {
            self.channels.mark_gap()
        }

        fn subscribe(&self, channel: Channel, resume: Resume, bytes: usize) -> Subscription {
            self.channels.subscribe(channel, resume, bytes)
        }

        fn connected(&self) -> bool {
            true
        }
    }

    /// Notes whom it was told of.
    #[derive(Default)]
    struct Told(Mutex<Vec<uuid::Uuid>>);

    impl Extension for Told {
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
        let told = Arc::new(Told::default());
        let publisher = Publisher {
            channels: Arc::new(Unanswered {
                channels: LocalChannels::new(LocalConfig::default()),
                done: Mutex::new(Some(3)),
            }),
            gate: Arc::new(Gate::new(
                config.breaker,
                config.on_open,
                Arc::clone(&metrics),
            )),
            metrics: Arc::clone(&metrics),
            extension: Arc::clone(&told) as Arc<dyn Extension>,
            logged: LogBudget::new(0),
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
        let settled = publisher.settle(batch(&[0, 1, 0, 2]), false).await;
        assert_eq!(settled, PublishOutcome::Done);
        let totals = || {
            let total = |status| metrics.total(status);
            (total(Status::Published), total(Status::Duplicate))
        };
        assert_eq!(totals(), (3, 1));
        // What somebody else published before is no work of ours, however well it goes.
        publisher.settle(batch(&[1]), false).await;
        assert_eq!(totals(), (3, 2));
        let told: Vec<_> = told
            .0
            .lock()
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(told, ids);
    }
}
