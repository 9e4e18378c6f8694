//! What callers have enqueued: its bounds, its rows, and its acknowledgement.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::Registry;
use store::log::{NewRow, PARTITIONS, pack_headers, partition_of};
use tokio::sync::{Notify, oneshot};

use crate::publisher::PublishError;
use crate::queue::{Queue, Reservation};
use crate::record::{Headers, Outgoing};

/// What a record costs beside its bytes, here and in the statement.
const RECORD_OVERHEAD: usize = 128;

/// Longest name of a topic, as in Kafka.
const TOPIC_BYTES: usize = 249;

/// Bounds of a [`PostgresLog`](super::PostgresLog).
#[derive(Debug, Clone)]
pub struct PostgresLogConfig {
    /// Largest record in bytes.
    pub max_message_bytes: usize,
    /// Most records enqueued; must be at least the largest batch.
    pub queue_max_messages: usize,
    /// Most bytes enqueued; must be at least the largest batch.
    pub queue_max_bytes: usize,
    /// Records of one statement; the last batch taken may go beyond it.
    pub batch_records: usize,
    /// Bytes of one statement; the last batch taken may go beyond it.
    pub batch_bytes: usize,
    /// A statement not answered within this time fails, and its connection is given up.
    pub message_timeout: Duration,
}

impl Default for PostgresLogConfig {
    fn default() -> Self {
        Self {
            max_message_bytes: 8 * 1024 * 1024,
            queue_max_messages: 100_000,
            queue_max_bytes: 64 * 1024 * 1024,
            batch_records: 5_000,
            batch_bytes: 4 * 1024 * 1024,
            message_timeout: Duration::from_secs(5),
        }
    }
}

/// What the callers and the writer share.
pub(super) struct Shared {
    pub(super) config: PostgresLogConfig,
    connected: AtomicBool,
    pub(super) queue: Arc<Queue>,
    /// Notified whenever a batch is answered.
    pub(super) answered: Notify,
    /// Deals records without a key to the partitions.
    next_partition: AtomicUsize,
}

impl Shared {
    pub(super) fn new(
        config: PostgresLogConfig,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let (records, bytes) = (config.queue_max_messages, config.queue_max_bytes);
        Ok(Self {
            config,
            connected: AtomicBool::new(false),
            queue: Queue::new(registry, "eventlog_postgres", records, bytes)?,
            answered: Notify::new(),
            next_partition: AtomicUsize::new(0),
        })
    }

    /// Checks the batch, makes its rows and reserves their room.
    pub(super) fn rows(
        &self,
        records: &[Outgoing],
    ) -> Result<(Vec<Row>, Reservation), PublishError> {
        if !self.is_connected() {
            return Err(PublishError::Unavailable);
        }
        let config = &self.config;
        let mut rows: Vec<Row> = Vec::with_capacity(records.len());
        let mut bytes = 0;
        // Headers are shared by the records of a request more often than not.
        let mut packed: Option<(&Headers, Arc<[u8]>)> = None;
        for record in records {
            let headers = match &packed {
                Some((headers, packed)) if **headers == record.headers => Arc::clone(packed),
                _ => {
                    let fresh: Arc<[u8]> = pack_headers(record.headers.iter()).into();
                    Arc::clone(&packed.insert((&record.headers, fresh)).1)
                }
            };
            let size = record.key.len() + record.payload.len() + headers.len();
            if size > config.max_message_bytes {
                return Err(PublishError::TooLarge);
            }
            if record.topic.len() > TOPIC_BYTES || record.topic.contains('\0') {
                return Err(PublishError::Failed(
                    "a topic's name is too long or holds a NUL".to_owned(),
                ));
            }
            bytes += size + record.topic.len() + RECORD_OVERHEAD;
            rows.push(Row {
                partition: self.partition(&record.key),
                record: record.clone(),
                headers,
            });
        }
        let reservation = self.queue.reserve(rows.len(), bytes)?;
        Ok((rows, reservation))
    }

    fn partition(&self, key: &[u8]) -> i16 {
        if key.is_empty() {
            let next = self.next_partition.fetch_add(1, Ordering::Relaxed);
            i16::try_from(next % usize::from(PARTITIONS.unsigned_abs())).unwrap_or(0)
        } else {
            partition_of(key)
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    pub(super) fn set_connected(&self, connected: bool) {
        if self.connected.swap(connected, Ordering::Relaxed) != connected {
            tracing::info!(connected, "postgres log connection");
        }
    }
}

/// The records of one call, and the room they take. Dropped without an answer they failed, so a call
/// is answered and its room given back even if the writer ends.
pub(super) struct Pending {
    shared: Arc<Shared>,
    pub(super) records: Vec<Row>,
    pub(super) bytes: usize,
    /// What the answer needs; taken by it.
    open: Option<(Reservation, oneshot::Sender<Result<(), PublishError>>)>,
}

impl Pending {
    /// Makes one of records whose room is reserved; the receiver gets the answer.
    pub(super) fn new(
        shared: Arc<Shared>,
        records: Vec<Row>,
        reservation: Reservation,
    ) -> (Self, oneshot::Receiver<Result<(), PublishError>>) {
        let (ack, acknowledged) = oneshot::channel();
        let pending = Self {
            shared,
            records,
            bytes: reservation.bytes(),
            open: Some((reservation, ack)),
        };
        (pending, acknowledged)
    }

    /// Answers the caller.
    pub(super) fn answer(mut self, outcome: &Result<(), PublishError>) {
        self.settle(outcome);
    }

    fn settle(&mut self, outcome: &Result<(), PublishError>) {
        let Some((reservation, ack)) = self.open.take() else {
            return;
        };
        reservation.finish(outcome.as_ref().err());
        // Nobody may be waiting.
        let _ = ack.send(outcome.clone());
        self.shared.answered.notify_waiters();
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.settle(&Err(PublishError::Unavailable));
    }
}

/// A record with what its row has beside it.
pub(super) struct Row {
    pub(super) partition: i16,
    pub(super) record: Outgoing,
    pub(super) headers: Arc<[u8]>,
}

impl Row {
    pub(super) fn new_row(&self) -> NewRow<'_> {
        let key = &self.record.key;
        NewRow {
            partition: self.partition,
            topic: &self.record.topic,
            key: (!key.is_empty()).then_some(key),
            headers: &self.headers,
            payload: Some(&self.record.payload),
        }
    }
}
