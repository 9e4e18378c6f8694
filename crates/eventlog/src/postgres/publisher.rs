//! Publishing into PostgreSQL: what a call may enqueue, and its acknowledgement.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::Registry;
use store::Database;
use store::log::{PARTITIONS, pack_headers, partition_of};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::writer::{Pending, Row, Writer};
use crate::queue::{Queue, Reservation};
use crate::{Acknowledgement, BoxFuture, Headers, Outgoing, PublishError, Publisher};

/// What a record costs beside its bytes, here and in the statement.
const RECORD_OVERHEAD: usize = 128;

/// Longest name of a topic, as in Kafka.
const TOPIC_BYTES: usize = 249;

/// Bounds of a [`PostgresLog`].
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

/// Publishes into the Postgres log. Clones share one queue and one connection; once the last is
/// dropped, what is enqueued is still written.
///
/// A call either enqueues all its records or none. While the database cannot be reached a call
/// answers [`PublishError::Unavailable`] at once. A connection lost while a statement runs fails its
/// records although they may have been written: a retry must carry the same event ids.
#[derive(Clone)]
pub struct PostgresLog {
    shared: Arc<Shared>,
    queue: UnboundedSender<Pending>,
}

/// What the callers and the writer share.
pub(super) struct Shared {
    pub(super) config: PostgresLogConfig,
    connected: AtomicBool,
    pub(super) queue: Arc<Queue>,
    /// Told whenever a batch is answered.
    pub(super) answered: Notify,
    /// Deals records without a key to the partitions.
    next_partition: AtomicUsize,
}

impl PostgresLog {
    /// Starts the task that connects and writes; waits for nothing ([`Self::connected`] tells). Must
    /// be called within a tokio runtime.
    ///
    /// # Errors
    /// The registry already holds metrics of these names.
    pub fn new(
        db: &Database,
        config: PostgresLogConfig,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let shared = Arc::new(Shared::new(config, registry)?);
        let (queue, pending) = unbounded_channel();
        let writer = Writer::new(db.clone(), Arc::clone(&shared), pending);
        tokio::spawn(writer.run());
        Ok(Self { shared, queue })
    }

    /// Enqueues the records and returns the acknowledgement of all of them as one future. Dropping
    /// the future does not take the records back.
    ///
    /// # Errors
    /// Nothing was enqueued: [`PublishError::Unavailable`] while the database cannot be reached,
    /// [`PublishError::Full`] without room for the batch, [`PublishError::TooLarge`] if a record
    /// exceeds `max_message_bytes`, [`PublishError::Failed`] if a topic's name is none of Kafka's.
    pub fn publish(&self, records: &[Outgoing]) -> Result<Acknowledgement, PublishError> {
        let shared = &self.shared;
        let refused = |error: &PublishError| shared.queue.failed(error);
        let (rows, reservation) = shared.admit(records).inspect_err(refused)?;
        let (pending, acknowledged) = Pending::new(Arc::clone(shared), rows, reservation);
        if records.is_empty() {
            pending.answer(&Ok(()));
        } else {
            // One that comes back, because the runtime is shutting down, answers for itself.
            let _ = self.queue.send(pending);
        }
        Ok(Box::pin(async {
            acknowledged.await.unwrap_or(Err(PublishError::Unavailable))
        }))
    }

    /// Whether the database is reachable and has the log's schema, as far as is known: false as soon
    /// as the connection breaks.
    #[must_use]
    pub fn connected(&self) -> bool {
        self.shared.connected.load(Ordering::Relaxed)
    }

    /// Waits until everything enqueued is acknowledged or failed.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`] if records are still in flight after `limit`.
    pub async fn flush(&self, limit: Duration) -> Result<(), PublishError> {
        let empty = async {
            loop {
                let answered = self.shared.answered.notified();
                tokio::pin!(answered);
                answered.as_mut().enable();
                if self.shared.queue.records() == 0 {
                    return;
                }
                answered.await;
            }
        };
        tokio::time::timeout(limit, empty)
            .await
            .map_err(|_| PublishError::Unavailable)
    }
}

impl Publisher for PostgresLog {
    fn publish(&self, records: &[Outgoing]) -> Result<Acknowledgement, PublishError> {
        PostgresLog::publish(self, records)
    }

    fn connected(&self) -> bool {
        PostgresLog::connected(self)
    }

    fn flush(&self, limit: Duration) -> BoxFuture<'_, Result<(), PublishError>> {
        Box::pin(PostgresLog::flush(self, limit))
    }
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
    fn admit(&self, records: &[Outgoing]) -> Result<(Vec<Row>, Reservation), PublishError> {
        if !self.connected.load(Ordering::Relaxed) {
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

    pub(super) fn set_connected(&self, connected: bool) {
        if self.connected.swap(connected, Ordering::Relaxed) != connected {
            tracing::info!(connected, "postgres log connection");
        }
    }
}
