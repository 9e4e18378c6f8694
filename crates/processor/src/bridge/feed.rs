//! For events that do not come through the bridge's own consumer group: whoever stores them from
//! another log hands them over here.

use std::sync::Arc;

use domain::Event;
use live::Position;

use super::evaluate::Evaluator;
use super::publisher::{Batch, Publisher};

/// Events published together at most.
const BATCH: usize = 100;

/// The way into the bridge. Clones lead to the same one.
#[derive(Clone)]
pub struct Feed {
    pub(super) evaluator: Arc<Evaluator>,
    pub(super) publisher: Arc<Publisher>,
    /// Stands for the topic in the logs.
    pub(super) name: Arc<str>,
}

impl Feed {
    /// Filters, transforms and publishes them in order. Never fails, and never waits for a Redis
    /// that is given up: then they are dropped, counted, and listeners are told afterwards. With a
    /// [`Position`] publishing again is harmless.
    pub async fn events<'a, I>(&self, events: I)
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
            self.publisher.settle(batch, true).await;
        }
    }
}
