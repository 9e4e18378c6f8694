//! The pipeline of the Postgres log: in the all-in-one shape the only one, beside Kafka the one that
//! brings home what was spilled. It costs next to nothing while the log is empty.
//!
//! Announcements must not wait in memory for a Kafka that is down, which is when events come this
//! way: they are noted in the storing transaction and sent by [`DueAnnouncer`]. Listeners are told
//! here, because the bridge's own consumer only sees Kafka; that a process was killed between the
//! commit and this, they learn by a note of that transaction ([`Untold`]).

use std::sync::Arc;

use domain::Limits;
use eventlog::kafka::Producer;
use eventlog::postgres::Handle;
use eventlog::{Source, WorkerQueue};
use store::Database;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::announce::DueAnnouncer;
use super::batch::BatchLimits;
use super::decode::Decoder;
use super::partitions::Partitions;
use super::progress::Progress;
use super::untold::Untold;
use super::write::{Stored, WriteStage};
use super::{announcements, line};
use crate::bridge::DirectInput;
use crate::metrics::Metrics;

/// What the lines need to know and share.
#[derive(Clone)]
pub struct PostgresPipeline {
    /// Where the log is and events are stored.
    pub db: Database,
    /// The consumer that the queues belong to.
    pub source: Handle,
    /// Where announcements go; without Kafka there are none.
    pub producer: Option<Arc<Producer>>,
    /// Tells listeners; none without the bridge.
    pub feed: Option<DirectInput>,
    /// Notes what they are not told yet; none where they end with this process.
    pub untold: Option<Arc<Untold>>,
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

impl PostgresPipeline {
    /// Starts one line per worker. The tasks end once its queue has ended and all it gave is stored
    /// and told.
    pub fn start(&self, queues: Vec<WorkerQueue>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        // One word is enough, however much was stored since the last.
        let (due, told) = mpsc::channel(1);
        let (tells, tellers) = mpsc::channel(1);
        for queue in queues {
            let decoder = Decoder::new(
                self.limits,
                self.topic_prefix.clone(),
                self.partitions.interval(),
            )
            .of_postgres_log();
            let stage = WriteStage::new(
                self.db.clone(),
                Progress::rows(self.producer.is_some()),
                self.partitions.clone(),
                Arc::clone(&self.metrics),
            )
            .noting(self.untold.clone());
            let stored = line(&mut tasks, queue, self.batch, decoder, stage);
            let teller = Teller {
                source: self.source.clone(),
                feed: self.feed.clone(),
                due: due.clone(),
                _tells: tells.clone(),
            };
            tasks.spawn(teller.run(stored));
        }
        if let Some(untold) = &self.untold {
            tasks.spawn(Arc::clone(untold).keep(tellers));
        }
        if let Some(producer) = &self.producer {
            let announcer = DueAnnouncer::new(
                self.db.clone(),
                Arc::clone(producer),
                announcements(&self.topic_prefix),
                Arc::clone(&self.metrics),
            );
            tasks.spawn(announcer.run(told));
        }
        tasks
    }
}

/// The last stage of one line: tells listeners what was stored.
struct Teller {
    source: Handle,
    feed: Option<DirectInput>,
    due: mpsc::Sender<()>,
    /// Closed when all have ended.
    _tells: mpsc::Sender<()>,
}

impl Teller {
    async fn run(self, mut input: mpsc::Receiver<Stored>) {
        while let Some(mut batch) = input.recv().await {
            // Full: it is told already. Closed: there is no Kafka.
            let _ = self.due.try_send(());
            if let Some(feed) = &self.feed {
                tell(feed, &mut batch).await;
            }
            for ((topic, partition), next) in &batch.done {
                self.source.mark_done(topic, *partition, *next);
            }
            // The batch's permits end here.
        }
    }
}

async fn tell(feed: &DirectInput, batch: &mut Stored) {
    let telling = batch.telling.take();
    if let Some(telling) = &telling
        && !telling.before().await
    {
        return;
    }
    // Without positions: what is stored is told once, and when a partition changes hands, what its last
    // owner still has to tell must not count as told.
    let events = batch.announce.iter().map(|event| (event, None));
    if feed.publish(events).await
        && let Some(telling) = telling
    {
        telling.told();
    }
}

#[cfg(test)]
mod tests;
