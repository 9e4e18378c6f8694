//! Kafka → Redis: each worker takes the records of its queue in batches, and marks them as done once
//! they are published, dropped or rejected. A partition stays with its worker and the next batch
//! waits for this one, so a user's events keep their order.

use std::collections::HashMap;
use std::sync::Arc;

use eventlog::Record;
use eventlog::Source as _;
use eventlog::WorkerQueue;
use eventlog::kafka::Handle;
use time::OffsetDateTime;

use super::breaker::PublishOutcome;
use super::evaluate::{Evaluator, position};
use super::publish::{Batch, Publisher};

/// Records published together at most; their offsets are done together too (S2-11).
const BATCH: usize = 100;

/// A worker of the bridge: consumes one queue of records.
pub struct Worker {
    consumer: Handle,
    evaluator: Arc<Evaluator>,
    publisher: Arc<Publisher>,
    partitions: HashMap<(Arc<str>, i32), Partition>,
}

struct Partition {
    /// Its name in [`live::Position`].
    name: Arc<str>,
    /// The next offset after what is done, where the consumer has not been informed yet.
    done: Option<i64>,
}

impl Worker {
    /// A worker for one queue of that consumer.
    #[must_use]
    pub fn new(consumer: Handle, evaluator: Arc<Evaluator>, publisher: Arc<Publisher>) -> Self {
        Self {
            consumer,
            evaluator,
            publisher,
            partitions: HashMap::new(),
        }
    }

    /// Works until the queue ends, or the bridge stops while the breaker is open.
    pub async fn run(mut self, mut queue: WorkerQueue) {
        loop {
            let waiting = self.partitions.values().any(|p| p.done.is_some());
            let first = tokio::select! {
                first = queue.recv() => first,
                () = self.publisher.breaker.drops_reported(), if waiting => {
                    self.mark_done();
                    continue;
                }
            };
            let Some(first) = first else { break };
            let (mut records, permit) = first.into_parts();
            let mut permits = vec![permit];
            // What has come already, and no more: the broker has let it gather.
            while records.len() < BATCH
                && let Some(chunk) = queue.try_recv()
            {
                let (more, permit) = chunk.into_parts();
                records.extend(more);
                permits.push(permit);
            }
            for batch in records.chunks(BATCH) {
                if !self.publish(batch).await {
                    return;
                }
            }
        }
        self.mark_done();
    }

    /// Publishes records; false if the bridge stops before that.
    async fn publish(&mut self, records: &[Record]) -> bool {
        let now = service::clock::now();
        let mut batch = Batch::begin();
        let waited = self.publisher.metrics.collectors.consume_seconds.local();
        for record in records {
            if let Some(seconds) = age(record, now) {
                waited.observe(seconds);
            }
            let position = position(&self.partition(record).name, record);
            match self.evaluator.record(record, now, Some(position)) {
                Ok(ready) => batch.push(*ready, &record.topic),
                Err(rejected) => self.publisher.rejected(&rejected, batch.begun()),
            }
        }
        waited.flush();
        if self.publisher.publish(batch, false).await == PublishOutcome::Stopped {
            return false;
        }
        for record in records {
            self.partition(record).done = Some(record.offset + 1);
        }
        self.mark_done();
        true
    }

    fn partition(&mut self, record: &Record) -> &mut Partition {
        let key = (Arc::clone(&record.topic), record.partition);
        self.partitions.entry(key).or_insert_with(|| Partition {
            name: format!("{}/{}", record.topic, record.partition).into(),
            done: None,
        })
    }

    /// Informs the consumer, which commits after so many records or seconds; but not while dropped
    /// messages are unreported, so that a crash makes them be read again.
    fn mark_done(&mut self) {
        if self.publisher.breaker.unreported_drops() > 0 {
            return;
        }
        for ((topic, number), partition) in &mut self.partitions {
            if let Some(next) = partition.done.take() {
                self.consumer.mark_done(topic, *number, next);
            }
        }
    }
}

/// Seconds since the record was written.
fn age(record: &Record, now: OffsetDateTime) -> Option<f64> {
    let written = i128::from(record.timestamp_ms?) * 1_000_000;
    let written = OffsetDateTime::from_unix_timestamp_nanos(written).ok()?;
    Some((now - written).as_seconds_f64().max(0.0))
}
