//! For events that do not come through the bridge's own consumer group: whoever stores them from
//! another log hands them over here.

use std::sync::Arc;
use std::time::Duration;

use domain::Event;
use live::Position;

use super::evaluate::Evaluator;
use super::gate::Admission;
use super::publish::{Batch, PublishOutcome, Publisher};

/// Events published together at most.
const BATCH: usize = 100;

/// Before a gap is noted once more.
const PAUSE: Duration = Duration::from_millis(200);

/// The way into the bridge. Clones lead to the same one.
#[derive(Clone)]
pub struct DirectInput {
    pub(super) evaluator: Arc<Evaluator>,
    pub(super) publisher: Arc<Publisher>,
    /// Stands for the topic in the logs.
    pub(super) name: Arc<str>,
}

impl DirectInput {
    /// Filters, transforms and publishes them in order. Never waits for a Redis that is given up:
    /// then they are dropped, counted ([`Self::unreported_drops`]), and listeners are told afterwards. With a
    /// [`Position`] publishing again is harmless. False if the bridge stops before it could do either.
    pub async fn publish<'a, I>(&self, events: I) -> bool
    where
        I: IntoIterator<Item = (&'a Event, Option<Position>)>,
    {
        let mut batches = vec![];
        let mut batch = Batch::begin();
        for (n, (event, position)) in events.into_iter().enumerate() {
            if n > 0 && n % BATCH == 0 {
                batches.push(std::mem::replace(&mut batch, Batch::begin()));
            }
            match self.evaluator.event(event, position) {
                Ok(ready) => batch.push(*ready, &self.name),
                Err(ended) => self.publisher.ended(&ended, batch.taken()),
            }
        }
        batches.push(batch);
        for batch in batches {
            if self.publisher.settle(batch, true).await == PublishOutcome::Stopped {
                return false;
            }
        }
        true
    }

    /// Tells listeners that messages before this may be missing. While Redis is given up that counts
    /// as one that was dropped. False if the bridge stops before either.
    pub async fn mark_gap(&self) -> bool {
        let Publisher { channels, gate, .. } = &*self.publisher;
        loop {
            let attempt = match gate.admit(1, true).await {
                Admission::Attempt(attempt) => attempt,
                Admission::Drop => return true,
                Admission::Stop => return false,
            };
            match channels.mark_gap().await {
                Ok(_) => {
                    gate.succeeded(attempt);
                    self.publisher.metrics.gaps.inc();
                    return true;
                }
                Err(error) if gate.failed(attempt, &error) => return false,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Messages dropped that listeners were not told of yet.
    #[must_use]
    pub fn unreported_drops(&self) -> u64 {
        self.publisher.gate.unreported_drops()
    }
}
