//! Publishing into PostgreSQL: what many callers have queued goes in one statement, and its commit
//! acknowledges them all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use prometheus::Registry;
use store::log::{Appender, LANES, NewRow, lane_of, pack_headers};
use store::{Database, Error, Kind};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, oneshot};

use super::Backoff;
use crate::queue::Queue;
use crate::{Acknowledgement, BoxFuture, Headers, Outgoing, PublishError, Publisher};

/// What a record costs beside its bytes, here and in the statement.
const RECORD_OVERHEAD: usize = 128;

/// Longest name of a topic, as in Kafka.
const TOPIC_BYTES: usize = 249;

/// The same complaint is logged no more often than this.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

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

struct Shared {
    config: PostgresLogConfig,
    connected: AtomicBool,
    queue: Queue,
    /// Told whenever a batch is answered.
    answered: Notify,
    /// Deals records without a key to the lanes.
    next_lane: AtomicUsize,
}

/// The records of one call.
struct Pending {
    records: Vec<Row>,
    bytes: usize,
    since: Instant,
    ack: oneshot::Sender<Result<(), PublishError>>,
}

struct Row {
    lane: i16,
    record: Outgoing,
    headers: Arc<[u8]>,
}

impl Row {
    fn new_row(&self) -> NewRow<'_> {
        let key = &self.record.key;
        NewRow {
            lane: self.lane,
            topic: &self.record.topic,
            key: (!key.is_empty()).then_some(key),
            headers: &self.headers,
            payload: Some(&self.record.payload),
        }
    }
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
        let shared = Arc::new(Shared {
            config,
            connected: AtomicBool::new(false),
            queue: Queue::new(registry, "eventlog_postgres")?,
            answered: Notify::new(),
            next_lane: AtomicUsize::new(0),
        });
        let (queue, pending) = unbounded_channel();
        let writer = Writer {
            db: db.clone(),
            shared: Arc::clone(&shared),
            pending,
            complained: None,
        };
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
        let (rows, bytes) = shared.admit(records).inspect_err(refused)?;
        let (ack, acknowledged) = oneshot::channel();
        let pending = Pending {
            records: rows,
            bytes,
            since: Instant::now(),
            ack,
        };
        if pending.records.is_empty() {
            return Ok(Box::pin(std::future::ready(Ok(()))));
        }
        if let Err(refused) = self.queue.send(pending) {
            // Its task is gone: the runtime is shutting down.
            shared.answer(refused.0, &Err(PublishError::Unavailable));
            return Err(PublishError::Unavailable);
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
    /// Checks the batch, makes its rows and reserves their room.
    fn admit(&self, records: &[Outgoing]) -> Result<(Vec<Row>, usize), PublishError> {
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
                lane: self.lane(&record.key),
                record: record.clone(),
                headers,
            });
        }
        self.queue.reserve(
            rows.len(),
            bytes,
            config.queue_max_messages,
            config.queue_max_bytes,
        )?;
        Ok((rows, bytes))
    }

    fn lane(&self, key: &[u8]) -> i16 {
        if key.is_empty() {
            let next = self.next_lane.fetch_add(1, Ordering::Relaxed);
            i16::try_from(next % usize::from(LANES.unsigned_abs())).unwrap_or(0)
        } else {
            lane_of(key)
        }
    }

    fn answer(&self, pending: Pending, outcome: &Result<(), PublishError>) {
        self.queue.release(pending.records.len(), pending.bytes);
        self.queue
            .answered(pending.since.elapsed(), outcome.as_ref().err());
        // Nobody may be waiting.
        let _ = pending.ack.send(outcome.clone());
        self.answered.notify_waiters();
    }

    fn set_connected(&self, connected: bool) {
        if self.connected.swap(connected, Ordering::Relaxed) != connected {
            tracing::info!(connected, "postgres log connection");
        }
    }
}

/// The task that writes.
struct Writer {
    db: Database,
    shared: Arc<Shared>,
    pending: UnboundedReceiver<Pending>,
    complained: Option<Instant>,
}

impl Writer {
    async fn run(mut self) {
        let mut backoff = Backoff::new();
        loop {
            match Appender::connect(&self.db).await {
                Ok(appender) => {
                    backoff = Backoff::new();
                    self.shared.set_connected(true);
                    let ended = self.write(appender).await;
                    self.shared.set_connected(false);
                    if ended {
                        return;
                    }
                }
                Err(error) => self.complain(&error),
            }
            // Those who came before it broke; who comes now is refused at once.
            while let Ok(pending) = self.pending.try_recv() {
                self.shared.answer(pending, &Err(PublishError::Unavailable));
            }
            if self.pending.is_closed() {
                return;
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    /// Writes until the connection breaks; true if there is nobody left to write for.
    async fn write(&mut self, mut appender: Appender) -> bool {
        loop {
            let first = tokio::select! {
                biased;
                pending = self.pending.recv() => match pending {
                    Some(pending) => pending,
                    None => return true,
                },
                () = appender.closed() => return false,
            };
            let batch = self.gather(first);
            if !self.append(&appender, batch).await || appender.is_closed() {
                return false;
            }
        }
    }

    /// What else is queued, up to the limits of a statement.
    fn gather(&mut self, first: Pending) -> Vec<Pending> {
        let config = &self.shared.config;
        let (mut records, mut bytes) = (first.records.len(), first.bytes);
        let mut batch = vec![first];
        while records < config.batch_records
            && bytes < config.batch_bytes
            && let Ok(more) = self.pending.try_recv()
        {
            records += more.records.len();
            bytes += more.bytes;
            batch.push(more);
        }
        batch
    }

    /// Writes a batch and answers it. False if the connection must not be used again.
    async fn append(&mut self, appender: &Appender, batch: Vec<Pending>) -> bool {
        let result = self.execute(appender, &batch).await;
        match result {
            Ok(()) => self.answer(batch, &Ok(())),
            Err(Some(error)) if error.kind() == Kind::Data && batch.len() > 1 => {
                // One of them is to blame: each for itself.
                for pending in batch {
                    if !Box::pin(self.append(appender, vec![pending])).await {
                        return false;
                    }
                }
            }
            Err(Some(error)) => {
                self.complain(&error);
                let answer = match error.kind() {
                    Kind::Data => PublishError::Failed(error.to_string()),
                    Kind::Transient | Kind::Raced => PublishError::Unavailable,
                };
                self.answer(batch, &Err(answer));
            }
            Err(None) => {
                tracing::warn!("the database does not answer; its connection is given up");
                self.answer(batch, &Err(PublishError::Unavailable));
                return false;
            }
        }
        true
    }

    /// `None` as an error: no answer in time.
    async fn execute(&self, appender: &Appender, batch: &[Pending]) -> Result<(), Option<Error>> {
        let records = batch.iter().flat_map(|pending| &pending.records);
        let rows: Vec<NewRow<'_>> = records.map(Row::new_row).collect();
        let limit = self.shared.config.message_timeout;
        match tokio::time::timeout(limit, appender.append(&rows)).await {
            Ok(result) => result.map_err(Some),
            Err(_) => Err(None),
        }
    }

    fn answer(&self, batch: Vec<Pending>, outcome: &Result<(), PublishError>) {
        for pending in batch {
            self.shared.answer(pending, outcome);
        }
    }

    fn complain(&mut self, error: &Error) {
        if self
            .complained
            .is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY)
        {
            self.complained = Some(Instant::now());
            tracing::warn!(error = %error, "postgres log");
        }
    }
}
