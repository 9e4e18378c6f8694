//! What follows from a commit before anybody is told of it: what was seen is noted, and the events are
//! taken out of their batch. Beside the next transaction, which waits for nothing of it.

use std::collections::HashSet;
use std::sync::Arc;

use domain::Event;
use eventlog::Permit;
use store::write::{Pending, Written};
use time::OffsetDateTime;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::decode::{Content, Decoded, Item};
use super::plan::Partition;
use crate::instrumentation::Instrumentation;
use crate::metrics::Metrics;

/// A batch that is in the database.
#[derive(Debug)]
pub struct Stored {
    /// The events to announce: those stored now, and those a crash may have left unannounced.
    pub announce: Vec<Box<Event>>,
    /// Up to where each partition is done, once they are announced.
    pub done: Vec<(Partition, i64)>,
    /// What keeps the batch's records from counting as done; its share of the buffer is given back.
    pub permits: Vec<Permit>,
}

/// Some items of a batch, by their index: most often nearly all.
#[derive(Debug, Default)]
struct Items(Vec<bool>);

impl Items {
    fn contains(&self, index: usize) -> bool {
        self.0.get(index).is_some_and(|is_in| *is_in)
    }

    fn extend(&mut self, indexes: impl IntoIterator<Item = usize>) {
        for index in indexes {
            if self.0.len() <= index {
                self.0.resize(index + 1, false);
            }
            self.0[index] = true;
        }
    }
}

/// What became of the items of a batch, by their index.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Events that were to be stored, but for those that were refused.
    events: Vec<usize>,
    /// Those of them that were not stored before.
    new: Items,
    /// When they were.
    at: Option<OffsetDateTime>,
    /// To be announced once more.
    pub(super) announce: Vec<usize>,
}

impl Outcome {
    /// A transaction is committed.
    pub(super) fn stored(&mut self, events: &[Pending<'_>], written: &Written<'_>) {
        self.at = Some(service::clock::now());
        let refused = written.refused.iter().filter_map(|letter| letter.event_id);
        let refused: HashSet<Uuid> = refused.collect();
        let items = events
            .iter()
            .filter(|pending| !refused.contains(&pending.event.event_id))
            .map(|pending| pending.item);
        self.events.extend(items);
        self.new
            .extend(written.new.iter().map(|pending| pending.item));
    }
}

/// A batch after its commit.
#[derive(Debug)]
pub(super) struct Committed {
    pub(super) batch: Decoded,
    pub(super) outcome: Outcome,
    pub(super) done: Vec<(Partition, i64)>,
}

/// The stage of one worker.
pub(super) struct Settle {
    pub(super) instrumentation: Option<Instrumentation>,
    pub(super) metrics: Arc<Metrics>,
}

impl Settle {
    /// Settles every batch that comes, in order, until there are no more.
    pub(super) async fn run(
        self,
        mut input: mpsc::Receiver<Committed>,
        output: mpsc::Sender<Stored>,
    ) {
        while let Some(committed) = input.recv().await {
            if output.send(self.settle(committed)).await.is_err() {
                break;
            }
        }
    }

    fn settle(&self, committed: Committed) -> Stored {
        let Committed {
            batch,
            mut outcome,
            done,
        } = committed;
        let event = |at: &usize| match &batch.items.get(*at)?.content {
            Content::Event { event, .. } => Some((event.as_ref(), outcome.new.contains(*at))),
            Content::Dead(_) => None,
        };
        if let Some(at) = outcome.at {
            let events = || outcome.events.iter().filter_map(event);
            self.metrics.stored(at, events());
            if let Some(instrumentation) = &self.instrumentation {
                instrumentation.note(events());
            }
        }
        outcome.new.extend(outcome.announce);
        let announce = events(batch.items, &outcome.new);
        // The next records need not wait until Kafka has acknowledged what is told of these.
        let mut permits = batch.permits;
        permits.iter_mut().for_each(Permit::give_room_back);
        Stored {
            announce,
            done,
            permits,
        }
    }
}

/// The events of these items.
#[expect(
    clippy::vec_box,
    reason = "they are boxed already, and half a KiB each"
)]
fn events(items: Vec<Item>, wanted: &Items) -> Vec<Box<Event>> {
    let mut events = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        if let Content::Event { event, .. } = item.content
            && wanted.contains(index)
        {
            events.push(event);
        }
    }
    events
}
