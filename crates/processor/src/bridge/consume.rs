//! Kafka → Redis, one lane: take what is there, settle it, say that it is done. A partition stays on
//! its lane and the next batch waits for this one, so a user's events keep their order.

use std::collections::HashMap;
use std::sync::Arc;

use eventlog::Record;
use eventlog::Source as _;
use eventlog::WorkerQueue;
use eventlog::kafka::Handle;
use time::OffsetDateTime;

use super::evaluate::{Evaluator, position};
use super::publish::{Batch, PublishOutcome, Publisher};

/// Records settled together at most; their offsets are done together too (S2-11).
const BATCH: usize = 100;

/// A partition of a topic.
type Partition = (Arc<str>, i32);

/// See the module.
pub struct Worker {
    consumer: Handle,
    evaluator: Arc<Evaluator>,
    publisher: Arc<Publisher>,
    /// The name of each partition in [`live::Position`].
    names: HashMap<Partition, Arc<str>>,
    /// Up to where each partition is done, where Kafka was not told yet.
    done: HashMap<Partition, i64>,
}

impl Worker {
    /// A pump for one lane of that consumer.
    #[must_use]
    pub fn new(consumer: Handle, evaluator: Arc<Evaluator>, publisher: Arc<Publisher>) -> Self {
        Self {
            consumer,
            evaluator,
            publisher,
            names: HashMap::new(),
            done: HashMap::new(),
        }
    }

    /// Pumps until the lane ends, or the bridge stops while Redis is given up.
    pub async fn run(mut self, mut lane: WorkerQueue) {
        let mut changes = self.publisher.gate.changes();
        loop {
            let first = tokio::select! {
                first = lane.recv() => first,
                Ok(()) = changes.changed() => {
                    self.mark_done();
                    continue;
                }
            };
            let Some(first) = first else { break };
            let (mut records, permit) = first.into_parts();
            let mut permits = vec![permit];
            while records.len() < BATCH
                && let Some(chunk) = lane.try_recv()
            {
                let (more, permit) = chunk.into_parts();
                records.extend(more);
                permits.push(permit);
            }
            for batch in records.chunks(BATCH) {
                if self.settle(batch).await == PublishOutcome::Stopped {
                    return;
                }
            }
        }
        self.mark_done();
    }

    async fn settle(&mut self, records: &[Record]) -> PublishOutcome {
        let now = service::clock::now();
        let mut batch = Batch::begin();
        let waited = self.publisher.metrics.consume_seconds.local();
        for record in records {
            if let Some(seconds) = age(record, now) {
                waited.observe(seconds);
            }
            let position = position(self.name(record), record);
            match self.evaluator.record(record, now, Some(position)) {
                Ok(ready) => batch.push(*ready, &record.topic),
                Err(ended) => self.publisher.ended(&ended, batch.taken()),
            }
        }
        waited.flush();
        let settled = self.publisher.settle(batch, false).await;
        if settled != PublishOutcome::Stopped {
            for record in records {
                let partition = (Arc::clone(&record.topic), record.partition);
                self.done.insert(partition, record.offset + 1);
            }
            self.mark_done();
        }
        settled
    }

    fn name(&mut self, record: &Record) -> &Arc<str> {
        let partition = (Arc::clone(&record.topic), record.partition);
        self.names
            .entry(partition)
            .or_insert_with(|| format!("{}/{}", record.topic, record.partition).into())
    }

    /// Tells Kafka (through its client, which commits every so many records or seconds), unless messages were
    /// dropped and listeners do not know it yet: should we die now, those are to be read again.
    fn mark_done(&mut self) {
        if self.publisher.gate.unreported_drops() > 0 {
            return;
        }
        for ((topic, partition), next) in self.done.drain() {
            self.consumer.mark_done(&topic, partition, next);
        }
    }
}

/// Seconds since the record was written.
fn age(record: &Record, now: OffsetDateTime) -> Option<f64> {
    let written = i128::from(record.timestamp_ms?) * 1_000_000;
    let written = OffsetDateTime::from_unix_timestamp_nanos(written).ok()?;
    Some((now - written).as_seconds_f64().max(0.0))
}
