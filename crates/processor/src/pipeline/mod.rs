//! From the log into PostgreSQL: gather → decode → write → announce, one such line per writer.
//!
//! The stages run side by side, so that the next batch is decoded while this one commits and the
//! last one is announced. A partition always goes down the same line, so its order is kept.

pub mod announce;
pub mod batch;
pub mod decode;
pub mod partitions;
pub mod write;

use std::sync::Arc;

use domain::Limits;

use eventlog::kafka::{Handle, Lane, Producer};
use store::Database;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::metrics::Metrics;
use announce::Announcer;
use batch::BatchLimits;
use decode::Decoder;
use partitions::Partitions;
use write::WriteStage;

/// What the lines need to know and share.
#[derive(Clone)]
pub struct Pipeline {
    /// Where events are stored.
    pub db: Database,
    /// The consumer that the lanes belong to.
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
    /// Starts one line per lane. The tasks end once their lane has ended and all it gave is
    /// stored and announced.
    pub fn start(&self, lanes: Vec<Lane>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for mut lane in lanes {
            // One batch waits while one is worked on: enough to overlap, little enough to bound
            // memory.
            let (decoded, to_write) = mpsc::channel(1);
            let (written, to_announce) = mpsc::channel(1);
            let decoder = Decoder::new(
                self.limits,
                self.topic_prefix.clone(),
                self.partitions.interval(),
            );
            let limits = self.batch;
            tasks.spawn(async move {
                while let Some(batch) = batch::gather(&mut lane, limits).await {
                    if decoded.send(decoder.decode(batch)).await.is_err() {
                        break;
                    }
                }
            });
            let stage = WriteStage::new(
                self.db.clone(),
                self.consumer.clone(),
                self.partitions.clone(),
                Arc::clone(&self.metrics),
            );
            tasks.spawn(stage.run(to_write, written));
            let announcer = Announcer::new(
                Arc::clone(&self.producer),
                self.consumer.clone(),
                format!("{}{}", self.topic_prefix, domain::subject::ANNOUNCEMENTS),
                Arc::clone(&self.metrics),
            );
            tasks.spawn(announcer.run(to_announce));
        }
        tasks
    }
}
