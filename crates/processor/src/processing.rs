//! Processors: what is done with stored events by handlers of this program, and by the types that can
//! be registered through the API. A kind of [`crate::jobs`].

mod announcement;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use domain::cloudevent::Format;
use domain::fold::Extensions;
use domain::processor::{Action, ProcessorType, Settings};
use domain::retry::RetryPolicy;
use domain::selector::Selector;
use domain::{Event, FieldError, stream, subject};
use eventlog::kafka::{KafkaConfig, TopicSpec, topics};
use eventlog::{Headers, Outgoing, PublishError, Publisher};
use store::outbox::Sinks;
use store::processing::{self, End, HANDLER_FAILED, Run};
use store::processors::{FromCode, StoredProcessor};
use store::work::Claimed;
use store::write::DeadLetter;
use store::{Database, Error};
use uuid::Uuid;
use webhook::{Client, Message};

use crate::handler::{EventHandler, Outcome};
use crate::jobs::{Done, Ended, Jobs, Runnable, jitter};
use crate::metrics::ProcessingMetrics;
use crate::rules::{RuleCache, Rules};

/// How long making a topic may take.
const TOPIC: Duration = Duration::from_secs(10);

/// The handlers of this program.
#[derive(Clone, Default)]
pub(crate) struct Handlers(HashMap<String, Arc<dyn EventHandler>>);

impl Handlers {
    /// Of these.
    ///
    /// # Errors
    /// Two have one name, or a name or pattern is wrong.
    pub(crate) fn new(handlers: Vec<Arc<dyn EventHandler>>) -> anyhow::Result<Self> {
        let mut by_name = HashMap::new();
        for handler in handlers {
            let name = handler.name().to_owned();
            let chars = name.trim().chars().count();
            anyhow::ensure!(
                (1..=255).contains(&chars),
                "a handler's name must have 1 to 255 characters: {name:?}"
            );
            let selector = serde_json::json!({"event_types": handler.event_types()});
            Selector::read(&selector).map_err(|errors| {
                let errors: Vec<String> = errors.iter().map(FieldError::to_string).collect();
                anyhow::anyhow!("the handler {name}: {}", errors.join("; "))
            })?;
            let before = by_name.insert(name, handler);
            if let Some(before) = before {
                anyhow::bail!("two handlers have the name {}", before.name());
            }
        }
        Ok(Self(by_name))
    }

    /// As they are written down.
    pub(crate) fn written_down(&self) -> Vec<FromCode> {
        let one = |handler: &Arc<dyn EventHandler>| FromCode {
            name: handler.name().to_owned(),
            priority: handler.options().priority,
            filters: serde_json::json!({"event_types": handler.event_types()}).to_string(),
        };
        self.0.values().map(one).collect()
    }
}

/// Where processors send events to.
#[derive(Clone)]
pub(crate) struct Forwarding {
    /// Kafka.
    pub(crate) publisher: Arc<dyn Publisher>,
    /// How it is reached.
    pub(crate) kafka: KafkaConfig,
    /// The topics, by their full names, that are known to be there.
    pub(crate) ensured: Arc<Mutex<HashSet<Arc<str>>>>,
    /// The topics that events are read from, without the prefix.
    pub(crate) read: Vec<String>,
}

impl Forwarding {
    /// The full name of a topic, which is created if it is not there.
    async fn ensure(&self, name: &str) -> anyhow::Result<Arc<str>> {
        let topic = self.kafka.topic(name);
        let known = |ensured: &HashSet<Arc<str>>| ensured.contains(&topic);
        if !known(&self.ensured.lock().unwrap_or_else(PoisonError::into_inner)) {
            topics::ensure(&self.kafka, &[TopicSpec::new(&self.kafka, name)], TOPIC).await?;
            let mut ensured = self.ensured.lock().unwrap_or_else(PoisonError::into_inner);
            ensured.insert(Arc::clone(&topic));
        }
        Ok(topic)
    }
}

/// The kind of work that processors are.
pub(crate) struct Processing {
    pub(crate) db: Database,
    pub(crate) rules: RuleCache,
    pub(crate) handlers: Handlers,
    pub(crate) extensions: Arc<Extensions>,
    /// None without Kafka.
    pub(crate) forwarding: Option<Forwarding>,
    /// Posts to addresses.
    pub(crate) client: Client,
    /// Where it is announced what became of an event.
    pub(crate) announces: Sinks,
    pub(crate) metrics: ProcessingMetrics,
}

/// What an attempt came to.
struct Verdict {
    outcome: Outcome,
    /// A stable word: error, failed, timeout, panic.
    error_type: &'static str,
}

impl Jobs for Processing {
    type Outcome = anyhow::Result<Outcome>;

    const RESTS: bool = true;

    fn runnable(&self, rules: &Rules) -> Vec<Runnable> {
        let of = |one: &Arc<StoredProcessor>| {
            let settings = self.settings(one)?;
            Some(Runnable {
                rule_id: one.processor_id,
                concurrency: settings.concurrency,
                timeout: settings.timeout,
            })
        };
        rules.processors.iter().filter_map(of).collect()
    }

    async fn call(&self, claimed: &Claimed, event: &Arc<Event>) -> anyhow::Result<Outcome> {
        let Some(processor) = self.processor(claimed.rule_id) else {
            return Ok(Outcome::Retry(
                "the processor is not known here any more".to_owned(),
            ));
        };
        if processor.deleted {
            return Ok(Outcome::Skipped);
        }
        let Some(settings) = self.settings(&processor) else {
            return Ok(Outcome::Retry("the processor cannot run here".to_owned()));
        };
        match settings.action {
            Action::Handler(name) => match self.handlers.0.get(&name) {
                // In the newest version of its schema (S3-34).
                Some(handler) => match self.extensions.upcasters.current(event) {
                    Ok(event) => handler.handle(&event).await,
                    Err(problem) => Err(anyhow::anyhow!(problem)),
                },
                None => Ok(Outcome::Retry(format!(
                    "this process has no handler {name}"
                ))),
            },
            Action::Kafka(topic) => self.forward(&processor, &topic, event).await,
            Action::Webhook(url) => Ok(self.post(&url, event).await),
            Action::Log => {
                tracing::info!(
                    processor = processor.processor_name, event.id = %event.event_id,
                    event.tenant = %event.tenant_id, event.r#type = event.event_type,
                    event.data = event.data.as_str(), "event"
                );
                Ok(Outcome::Success)
            }
        }
    }

    async fn record(&self, done: &[Done<Self::Outcome>]) -> Result<Vec<Duration>, Error> {
        let gone: Vec<&Claimed> = done
            .iter()
            .filter(|one| one.event.is_none())
            .map(|one| &one.claimed)
            .collect();
        if !gone.is_empty() {
            store::work::forget(&self.db, &gone).await?;
        }
        let runs: Vec<Run> = done.iter().filter_map(|one| self.run(one)).collect();
        let recorded = processing::record(&self.db, &runs, self.announces).await?;
        self.metrics.lost.inc_by((runs.len() - recorded) as u64);
        for run in &runs {
            self.metrics
                .runs
                .with_label_values(&[run.processor.as_str(), run.end.status()])
                .inc();
            self.metrics.seconds.observe(run.took.as_secs_f64());
        }
        let pause = |run: &Run| match run.end {
            End::Retry(pause) => Some(pause),
            _ => None,
        };
        Ok(runs.iter().filter_map(pause).collect())
    }
}

impl Processing {
    fn processor(&self, id: Uuid) -> Option<Arc<StoredProcessor>> {
        let rules = self.rules.known()?;
        rules
            .processors
            .iter()
            .find(|one| one.processor_id == id)
            .cloned()
    }

    /// How it is run; none if this process cannot: it lacks the handler, or knows no such type.
    fn settings(&self, processor: &StoredProcessor) -> Option<Settings> {
        let kind = ProcessorType::parse(&processor.processor_type)?;
        let config = processor.config.as_object().cloned().unwrap_or_default();
        let mut settings = Settings::read(kind, &config, &mut vec![]);
        if let Action::Handler(name) = &settings.action
            && !processor.deleted
        {
            let options = self.handlers.0.get(name)?.options();
            if processor.from_code {
                settings.timeout = options.timeout;
                settings.concurrency = options.concurrency;
                settings.retry = options.retry;
            }
        }
        Some(settings)
    }

    async fn forward(
        &self,
        processor: &StoredProcessor,
        topic: &str,
        event: &Event,
    ) -> anyhow::Result<Outcome> {
        let Some(kafka) = &self.forwarding else {
            return Ok(Outcome::Failed(
                "there is no Kafka to forward to".to_owned(),
            ));
        };
        if kafka.read.iter().any(|read| read == topic) {
            let why =
                format!("{topic} is read by this processor: the event would go round for ever");
            return Ok(Outcome::Failed(why));
        }
        let topic = kafka.ensure(topic).await?;
        let record = Outgoing {
            topic: Arc::clone(&topic),
            key: stream::log_key(event).into_bytes(),
            headers: headers(event, &processor.processor_name),
            payload: event.to_canonical().into(),
        };
        let sent = match kafka.publisher.publish(std::slice::from_ref(&record)) {
            Ok(acknowledged) => acknowledged.await,
            Err(error) => Err(error),
        };
        Ok(match sent {
            Ok(()) => Outcome::Success,
            Err(error @ PublishError::TooLarge) => Outcome::Failed(error.to_string()),
            Err(error) => Outcome::Retry(error.to_string()),
        })
    }

    /// Posts the event; who wants a signature subscribes.
    async fn post(&self, url: &str, event: &Event) -> Outcome {
        let (format, id) = (Format::Json, event.event_id.to_string());
        let now = service::clock::now().unix_timestamp();
        let body = format.write(event).into();
        let message = Message::signed(&id, now, format.media_type(), body, &[]);
        let answer = self.client.send(url, message).await;
        if answer.delivered() {
            Outcome::Success
        } else if answer.gone() {
            Outcome::Failed(answer.why())
        } else {
            Outcome::Retry(answer.why())
        }
    }

    /// What is recorded of an attempt; nothing if its event or its processor is gone.
    fn run(&self, done: &Done<anyhow::Result<Outcome>>) -> Option<Run> {
        let event = done.event.as_ref()?;
        let processor = self.processor(done.claimed.rule_id)?;
        let retry = self
            .settings(&processor)
            .map_or_else(RetryPolicy::default, |s| s.retry);
        let verdict = verdict(&done.ended);
        let attempt = u32::try_from(done.claimed.attempt).unwrap_or(u32::MAX);
        let pause = match &verdict.outcome {
            Outcome::Retry(_) => retry.pause(attempt, jitter(event.event_id)),
            _ => None,
        };
        let name = &processor.processor_name;
        let (end, message) = match verdict.outcome {
            Outcome::Success => (End::Success, None),
            Outcome::Skipped if processor.deleted => {
                (End::Skipped, Some("the processor was deleted".to_owned()))
            }
            Outcome::Skipped => (End::Skipped, None),
            Outcome::Retry(why) | Outcome::Failed(why) => match pause {
                Some(pause) => (End::Retry(pause), Some(why)),
                None => (
                    End::Failed(Box::new(dead_letter(event, name, &why))),
                    Some(why),
                ),
            },
        };
        match &end {
            End::Failed(_) => {
                tracing::warn!(processor = name, event.id = %event.event_id, attempt, error = message, "a processor failed; the event is a dead letter");
            }
            End::Retry(pause) => {
                tracing::info!(processor = name, event.id = %event.event_id, attempt, error = message, retry_in_ms = pause.as_millis(), "a processor failed and is tried again");
            }
            End::Success | End::Skipped => {}
        }
        let mut run = Run {
            claimed: done.claimed.clone(),
            processor: name.clone(),
            end,
            message,
            took: done.took,
            announcement: None,
        };
        if !self.announces.is_empty() {
            let now = service::clock::now();
            run.announcement = Some(announcement::of(&run, event, verdict.error_type, now));
        }
        Some(run)
    }
}

fn verdict(ended: &Ended<anyhow::Result<Outcome>>) -> Verdict {
    let (outcome, error_type) = match ended {
        Ended::Returned(Ok(outcome @ Outcome::Failed(_))) => (outcome.clone(), "failed"),
        Ended::Returned(Ok(outcome)) => (outcome.clone(), "retry"),
        Ended::Returned(Err(error)) => (Outcome::Retry(format!("{error:#}")), "error"),
        Ended::TimedOut(limit) => {
            let why = format!("took longer than {} s and was cut off", limit.as_secs_f64());
            (Outcome::Retry(why), "timeout")
        }
        Ended::Panicked(words) => (Outcome::Retry(format!("panicked: {words}")), "panic"),
        Ended::Gone => (Outcome::Skipped, "gone"),
    };
    Verdict {
        outcome,
        error_type,
    }
}

fn headers(event: &Event, processor: &str) -> Headers {
    let text = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    Headers::from_iter([
        (subject::HEADER_TENANT, text(event.tenant_id.as_str())),
        (subject::HEADER_CONTENT_TYPE, text(subject::CONTENT_TYPE)),
        ("processor", text(processor)),
    ])
}

/// An event that is stored, and which a processor gave up on.
fn dead_letter(event: &Event, processor: &str, why: &str) -> DeadLetter {
    DeadLetter {
        tenant_id: event.tenant_id.clone(),
        topic: subject::topic(event).to_owned(),
        partition: -1,
        offset: -1,
        key: Some(processor.as_bytes().to_vec()),
        headers: vec![("processor".to_owned(), processor.to_owned())],
        payload: Some(event.to_canonical()),
        reason: HANDLER_FAILED.to_owned(),
        detail: format!("the processor {processor}: {why}"),
        event_id: Some(event.event_id),
        timestamp_ms: None,
        from_postgres: false,
        was: None,
    }
}
