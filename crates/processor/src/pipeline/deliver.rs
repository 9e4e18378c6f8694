//! Delivers to listeners what was stored from a log that the bridge does not consume.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use eventlog::{Gap, Source};
use tokio::sync::{Mutex, mpsc};

use super::plan::Partition;
use super::settle::Stored;
use crate::bridge::DirectInput;

/// How often gaps are looked for, and what was dropped, without a batch.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The last stage of one worker.
#[derive(Clone)]
pub struct Deliverer {
    source: Arc<dyn Source>,
    input: Option<DirectInput>,
    /// Gets a notice of every batch, for the outbox.
    notify: mpsc::Sender<()>,
    /// Gaps that listeners will know of, once nothing that was dropped is unreported. Shared by all
    /// workers.
    marked: Arc<Mutex<BTreeSet<Gap>>>,
    /// Up to where each partition is delivered, where the source does not know yet.
    done: HashMap<Partition, i64>,
}

impl Deliverer {
    /// Delivers to that input; without one there are no listeners.
    #[must_use]
    pub fn new(
        source: Arc<dyn Source>,
        input: Option<DirectInput>,
        notify: mpsc::Sender<()>,
    ) -> Self {
        Self {
            source,
            input,
            notify,
            marked: Arc::default(),
            done: HashMap::new(),
        }
    }

    /// Delivers every batch that comes, then marks its records as done.
    pub async fn run(mut self, mut stored: mpsc::Receiver<Stored>) {
        loop {
            match tokio::time::timeout(LOOK_EVERY, stored.recv()).await {
                Ok(Some(batch)) => self.deliver(batch).await,
                Ok(None) => break,
                Err(_) => {
                    self.mark_gaps().await;
                }
            }
            self.mark_done();
        }
        self.mark_done();
    }

    async fn deliver(&mut self, batch: Stored) {
        // Full: there is a notice already. Closed: there is no Kafka.
        let _ = self.notify.try_send(());
        // A gap comes before what was stored after it.
        if !self.mark_gaps().await {
            return;
        }
        if let Some(input) = &self.input {
            // Without positions: what is stored is delivered once, and when a partition changes
            // hands, what its last owner still delivers must not count as delivered.
            let events = batch.announce.iter().map(|event| (event.as_ref(), None));
            if !input.publish(events).await {
                return;
            }
        }
        self.done.extend(batch.done);
        self.mark_done();
        // The batch's permits end here.
    }

    /// Marks what is delivered as done, unless messages were dropped and listeners do not know it
    /// yet: should this process end now, the next one has to tell them.
    fn mark_done(&mut self) {
        if self.drops_unreported() {
            return;
        }
        for ((topic, partition), next) in self.done.drain() {
            self.source.mark_done(&topic, partition, next);
        }
    }

    fn drops_unreported(&self) -> bool {
        let drops = self.input.as_ref().map(DirectInput::unreported_drops);
        drops.is_some_and(|drops| drops > 0)
    }

    /// Has listeners know that they may miss what other consumers stored and did not deliver. False
    /// if the bridge stops before that.
    async fn mark_gaps(&self) -> bool {
        let (Some(input), Some(delivery)) = (&self.input, self.source.delivery()) else {
            return true;
        };
        // One worker at a time: for the next one nothing is left to do.
        let mut marked = self.marked.lock().await;
        let gaps = delivery.gaps();
        if gaps.iter().any(|gap| !marked.contains(gap)) {
            if !input.mark_gap().await {
                return false;
            }
            tracing::warn!(
                "a process ended before it delivered all it stored; listeners are told to reset"
            );
            marked.extend(gaps);
        }
        if !marked.is_empty() && !self.drops_unreported() {
            delivery.gaps_delivered(std::mem::take(&mut *marked));
        }
        true
    }
}
