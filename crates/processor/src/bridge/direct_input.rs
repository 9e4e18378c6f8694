//! Events that do not come through the bridge's own consumer: the process that stores events of
//! another log publishes them here.

use std::sync::Arc;

use domain::Event;
use live::Position;

use super::breaker::PublishOutcome;
use super::evaluate::Evaluator;
use super::publish::{Batch, Publisher};

/// Events published together at most.
const BATCH: usize = 100;

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

    /// Messages dropped since listeners were last sent a gap.
    #[must_use]
    pub fn unreported_drops(&self) -> u64 {
        self.publisher.breaker.unreported_drops()
    }
}
