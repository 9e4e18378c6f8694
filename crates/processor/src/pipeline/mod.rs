//! From a log into PostgreSQL: gather → decode → write → settle → announce or deliver, for each worker.
//!
//! The stages run side by side, so that the next batch is decoded while this one commits and the
//! last one is announced. A partition always goes to the same worker, so its order is kept. One
//! [`Pipeline`] serves every log; [`After`] is what comes after the commit.

pub mod announce;
pub mod announcement;
pub mod batch;
mod dead_letter;
pub mod decode;
pub mod deliver;
pub mod detour;
pub mod outbox_relay;
pub mod placement;
pub mod plan;
pub mod rewinds;
pub mod settle;
pub mod write;

use std::sync::Arc;
use std::time::Duration;

use domain::fold::Extensions;
use eventlog::{Publisher, Source, WorkerQueue};
use store::Database;
use store::outbox::{Announce, Sinks};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::bridge::DirectInput;
use crate::instrumentation::Instrumentation;
use crate::metrics::Metrics;
use crate::pace::Pace;
use crate::record::RecordDecoder;
use crate::rules::RuleCache;
use announce::Announcer;
use announcement::Announcements;
use batch::BatchLimits;
use decode::Decoder;
use deliver::Deliverer;
use detour::Detour;
use outbox_relay::OutboxRelay;
use settle::Stored;
use write::WriteStage;

/// How far apart the batches of a worker are under load. Storing has 200 ms until an event can be read.
const STORE_INTERVAL: Duration = Duration::from_millis(80);
/// The same while a listener gets the events after the commit.
const DELIVER_INTERVAL: Duration = Duration::from_millis(5);

/// What the workers need to know and share.
#[derive(Clone)]
pub struct Pipeline {
    /// Where events are stored.
    pub db: Database,
    /// The consumer that the queues belong to.
    pub source: Arc<dyn Source>,
    /// Reads its records.
    pub records: RecordDecoder,
    /// What comes after the commit.
    pub after: After,
    /// Where announcements go.
    pub announcements: Announcements,
    /// Where announcements go that Kafka does not take in time.
    pub detour: Detour,
    /// Gets a notice of what is stored, if it is announced on NATS too.
    pub nats: Option<mpsc::Sender<()>>,
    /// Records and bytes of a batch.
    pub batch: BatchLimits,
    /// Types that a tenant's day is counted by.
    pub types_a_day: usize,
    /// What is to be done with which events.
    pub rules: RuleCache,
    /// Reducers and upcasters.
    pub extensions: Arc<Extensions>,
    /// Takes note of how events are built.
    pub(crate) instrumentation: Option<Instrumentation>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// What comes after the commit.
#[derive(Clone)]
pub enum After {
    /// A log that keeps its records, and which the bridge consumes: stored events are announced
    /// before their records are done.
    Announce(Arc<dyn Publisher>),
    /// A log whose records are gone once they are stored, and which the bridge does not consume:
    /// announcements go through the outbox, and listeners get the events from here.
    Deliver {
        /// The way to listeners, if there are any.
        input: Option<DirectInput>,
        /// Where announcements go; without Kafka there are none.
        producer: Option<Arc<dyn Publisher>>,
    },
}

impl Pipeline {
    /// Starts one line of stages for each queue. The tasks end once the queues have ended and all
    /// they gave is stored and announced or delivered.
    pub fn start(&self, queues: Vec<WorkerQueue>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        match &self.after {
            After::Announce(producer) => {
                for queue in queues {
                    // Kafka has the log's record until it has the announcement.
                    let stored = self.store(&mut tasks, queue, false);
                    let announcer = Announcer::new(
                        Arc::clone(producer),
                        Arc::clone(&self.source),
                        &self.announcements,
                        self.detour.clone(),
                        Arc::clone(&self.metrics),
                    );
                    tasks.spawn(announcer.run(stored));
                }
            }
            After::Deliver { input, producer } => {
                // One notice is enough, however much was stored since the last.
                let (notify, notices) = mpsc::channel(1);
                let deliverer = Deliverer::new(Arc::clone(&self.source), input.clone(), notify);
                for queue in queues {
                    let stored = self.store(&mut tasks, queue, producer.is_some());
                    tasks.spawn(deliverer.clone().run(stored));
                }
                if let Some(producer) = producer {
                    let relay = OutboxRelay::new(
                        self.db.clone(),
                        Arc::clone(producer),
                        &self.announcements,
                        Arc::clone(&self.metrics),
                    );
                    let relay = relay.ending(self.detour.clone());
                    tasks.spawn(relay.run(notices));
                }
            }
        }
        tasks
    }

    /// The stages up to the commit; what they stored comes out of the receiver. With `kafka` what is
    /// announced there waits in the outbox.
    fn store(
        &self,
        tasks: &mut JoinSet<()>,
        mut queue: WorkerQueue,
        kafka: bool,
    ) -> mpsc::Receiver<Stored> {
        let decoder = Decoder::new(self.records.clone());
        let stage = WriteStage::new(
            self.db.clone(),
            Arc::clone(&self.source),
            Announce {
                to: Sinks {
                    kafka,
                    nats: self.nats.is_some(),
                },
                as_message: announcement::message,
            },
            self.types_a_day,
            self.rules.clone(),
            Arc::clone(&self.extensions),
            Arc::clone(&self.metrics),
        )
        .with_instrumentation(self.instrumentation.clone())
        .notifying(self.nats.clone());
        let (limits, rules) = (self.batch, self.rules.clone());
        let mut pace = Pace::new();
        let after = self.after.clone();
        let interval = move || match &after {
            After::Deliver { input, .. } if input.as_ref().is_some_and(DirectInput::listened) => {
                DELIVER_INTERVAL
            }
            _ => STORE_INTERVAL,
        };
        // One batch waits while one is worked on: enough to overlap, little enough to bound memory.
        let (decoded, to_write) = mpsc::channel(1);
        let (written, stored) = mpsc::channel(1);
        tasks.spawn(async move {
            while let Some(batch) = batch::gather(&mut queue, limits, &interval, &mut pace).await {
                let rules = rules.current().await;
                if decoded.send(decoder.decode(batch, &rules)).await.is_err() {
                    break;
                }
            }
        });
        tasks.spawn(stage.run(to_write, written));
        stored
    }
}

#[cfg(test)]
mod tests;
