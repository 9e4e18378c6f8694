//! From the log into PostgreSQL: gather → decode → write → announce, one such line per writer.
//!
//! The stages run side by side, so that the next batch is decoded while this one commits and the
//! last one is announced. A partition always goes down the same line, so its order is kept.
//!
//! [`Pipeline`] is the one for Kafka, [`postgres::PostgresPipeline`] the one for the Postgres log:
//! the stages are the same, but for how they know what is stored ([`progress`]) and for what comes
//! after the commit.

pub mod announce;
pub mod batch;
pub mod decode;
mod offsets;
pub mod partitions;
pub mod postgres;
pub mod progress;
mod rows;
pub mod untold;
pub mod write;

use std::sync::Arc;

use domain::Limits;

use eventlog::WorkerQueue;
use eventlog::kafka::{Handle, Producer};
use store::Database;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::metrics::Metrics;
use announce::Announcer;
use batch::BatchLimits;
use decode::Decoder;
use partitions::Partitions;
use progress::Progress;
use write::{Stored, WriteStage};

/// What the lines need to know and share.
#[derive(Clone)]
pub struct Pipeline {
    /// Where events are stored.
    pub db: Database,
    /// The consumer that the queues belong to.
    pub consumer: Handle,
    /// Where announcements go.
    pub producer: Arc<Producer>,
    /// Makes the partitions that a batch needs.
    pub partitions: Partitions,
    /// Rows and bytes of a batch.
    pub batch: BatchLimits,
    /// What one event may be.
    pub limits: Limits,
    /// Prepended to every topic name.
    pub topic_prefix: String,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

impl Pipeline {
    /// Starts one line per queue. The tasks end once their queue has ended and all it gave is
    /// stored and announced.
    pub fn start(&self, queues: Vec<WorkerQueue>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for queue in queues {
            let decoder = Decoder::new(
                self.limits,
                self.topic_prefix.clone(),
                self.partitions.interval(),
            );
            let stage = WriteStage::new(
                self.db.clone(),
                Progress::offsets(self.consumer.clone()),
                self.partitions.clone(),
                Arc::clone(&self.metrics),
            );
            let to_announce = line(&mut tasks, queue, self.batch, decoder, stage);
            let announcer = Announcer::new(
                Arc::clone(&self.producer),
                self.consumer.clone(),
                announcements(&self.topic_prefix),
                Arc::clone(&self.metrics),
            );
            tasks.spawn(announcer.run(to_announce));
        }
        tasks
    }
}

/// The stages up to the commit; what they stored comes out of the receiver.
fn line(
    tasks: &mut JoinSet<()>,
    mut queue: WorkerQueue,
    limits: BatchLimits,
    decoder: Decoder,
    stage: WriteStage,
) -> mpsc::Receiver<Stored> {
    // One batch waits while one is worked on: enough to overlap, little enough to bound memory.
    let (decoded, to_write) = mpsc::channel(1);
    let (written, stored) = mpsc::channel(1);
    tasks.spawn(async move {
        while let Some(batch) = batch::gather(&mut queue, limits).await {
            if decoded.send(decoder.decode(batch)).await.is_err() {
                break;
            }
        }
    });
    tasks.spawn(stage.run(to_write, written));
    stored
}

/// Full name of the topic that announcements go to.
fn announcements(topic_prefix: &str) -> String {
    format!("{topic_prefix}{}", domain::subject::ANNOUNCEMENTS)
}
