//! Events that do not come through the bridge's own consumer: the process that stores events of
//! another log publishes them here.

use std::sync::Arc;
use std::time::Duration;

use domain::Event;
use live::{LiveError, Message, Position, Publication};
use uuid::Uuid;

use super::breaker::PublishOutcome;
use super::evaluate::Evaluator;
use super::publish::{Batch, Publisher};

/// Events published together at most.
const BATCH: usize = 100;

/// Bytes of a replay a second: what Redis buffers for a process that cannot keep up stays small.
const TOLD_A_SECOND: f64 = 4.0 * 1024.0 * 1024.0;

/// The bridge's input for decoded events. Clones lead to the same bridge.
#[derive(Clone)]
pub struct DirectInput {
    evaluator: Arc<Evaluator>,
    publisher: Arc<Publisher>,
    /// Stands for the topic in the logs.
    name: Arc<str>,
}

impl DirectInput {
    /// An input of the bridge that evaluates and publishes so.
    #[must_use]
    pub fn new(evaluator: Arc<Evaluator>, publisher: Arc<Publisher>) -> Self {
        Self {
            evaluator,
            publisher,
            name: "event_log".into(),
        }
    }

    /// Filters, transforms and publishes events in order. Never waits for an open breaker: then they
    /// are dropped and counted ([`Self::unreported_drops`]), and listeners are sent a gap afterwards.
    /// With a [`Position`] publishing again is harmless. False if the bridge stops before either.
    pub async fn publish<'a, I>(&self, events: I) -> bool
    where
        I: IntoIterator<Item = (&'a Event, Option<Position>)>,
    {
        let (mut batches, mut batch) = (vec![], Batch::begin());
        for (event, position) in events {
            if batch.len() == BATCH {
                batches.push(std::mem::replace(&mut batch, Batch::begin()));
            }
            match self.evaluator.event(event, position) {
                Ok(ready) => batch.push(*ready, &self.name),
                Err(rejected) => self.publisher.rejected(&rejected, batch.begun()),
            }
        }
        batches.push(batch);
        for batch in batches {
            if self.publisher.publish(batch, true).await == PublishOutcome::Stopped {
                return false;
            }
        }
        true
    }

    /// Sends events of a replay to those who listen, as messages that say so; what is not for listeners is
    /// passed over. Nothing is kept, and the breaker is not asked. Returns how many events were sent.
    ///
    /// # Errors
    /// The channels do not answer; some of them may have been sent.
    pub async fn replay(&self, replay: Uuid, events: &[Event]) -> Result<usize, LiveError> {
        let messages = events.iter().filter_map(|event| {
            let ready = self.evaluator.event(event, None).ok()?;
            let Publication {
                channel, message, ..
            } = ready.publication;
            Some((channel, replayed(replay, &message)))
        });
        let messages: Vec<_> = messages.collect();
        self.publisher.channels.send_transient(&messages).await?;
        let bytes: usize = messages.iter().map(|(_, one)| one.data.len()).sum();
        tokio::time::sleep(Duration::from_secs_f64(bytes as f64 / TOLD_A_SECOND)).await;
        Ok(messages.len())
    }

    /// Sends listeners a gap: messages before it may be missing. While the breaker is open that
    /// counts as a dropped message. False if the bridge stops before either.
    pub async fn mark_gap(&self) -> bool {
        let Publisher {
            channels, breaker, ..
        } = &*self.publisher;
        let outcome = breaker.run(1, true, || channels.mark_gap()).await;
        if let PublishOutcome::Published(_) = outcome {
            self.publisher.metrics.collectors.gaps.inc();
        }
        outcome != PublishOutcome::Stopped
    }

    /// Whether anybody listens, as far as is known.
    #[must_use]
    pub fn listened(&self) -> bool {
        self.publisher.channels.listened()
    }

    /// Messages dropped since listeners were last sent a gap.
    #[must_use]
    pub fn unreported_drops(&self) -> u64 {
        self.publisher.breaker.unreported_drops()
    }
}

/// The message with what tells it from one that is new: `"replayed":true` and the replay's id.
fn replayed(replay: Uuid, message: &Message) -> Message {
    let rest = message.data.strip_prefix(b"{").unwrap_or(&message.data);
    let mark = format!("{{\"replayed\":true,\"replay_id\":\"{replay}\",");
    Message {
        event: message.event.clone(),
        data: [mark.as_bytes(), rest].concat().into(),
    }
}
