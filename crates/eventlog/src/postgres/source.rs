//! Consuming from PostgreSQL: a task that owns partitions of the log, reads them behind cursors and deals
//! the records to the workers, as much as has room.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use store::LogThrottle;
use store::log::{self, Cursor, Lease, LogPosition, Reader, Row};
use store::timeout::with_timeout;
use store::{Database, Error};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::counting::count;
use super::handle::{Ended, Handle, Owner, Shared};
use super::ownership::{Held, Owned, Ownership};
use super::{Backoff, LOG};
use crate::Record;
use crate::worker_queue::{Chunk, Permit, WorkerQueue, WorkerSender, worker_queues};

/// How often the partitions are divided anew, and looked at although nobody said that there is more.
const BALANCE: Duration = Duration::from_secs(1);
/// Rows of one partition read at a time.
const ROWS: i64 = 500;
/// The table is vacuumed after this many rows; after fewer when everything is stored, and after fewer
/// still when nothing more comes. (Giving pages back stops the others for a moment.)
const VACUUM_AFTER: u64 = 50_000;
const VACUUM_EMPTY_AFTER: u64 = 10_000;
const VACUUM_QUIET_AFTER: u64 = 1_000;
const QUIET: Duration = Duration::from_secs(5);
/// How often a drained consumer looks whether everything has come back.
const WATCH: Duration = Duration::from_millis(10);

/// A processor's share of the Postgres log.
pub struct PostgresSource;

impl PostgresSource {
    /// Starts a task that takes its share of the log's 16 partitions and deals their records to `partitions`
    /// partitions. The buffered records take at most about `buffer_bytes`, divided evenly among the
    /// partitions. Waits for nothing; must be called within a tokio runtime.
    ///
    /// A record stays in the log until a storing transaction removes it; what was handed out and not
    /// removed comes again after a restart, or when its partition changes hands.
    #[must_use]
    pub fn start(db: &Database, workers: usize, buffer_bytes: usize) -> (Handle, Vec<WorkerQueue>) {
        let room_made = Arc::new(Notify::new());
        let (senders, queues) = worker_queues(workers, buffer_bytes, Some(&room_made));
        let (stop, stopping) = watch::channel(None);
        let (closed, closing) = watch::channel(false);
        let shared = Arc::new(Shared {
            rooms: senders
                .iter()
                .map(|partition| Arc::clone(&partition.room))
                .collect(),
            state: Mutex::default(),
            connected: AtomicBool::new(false),
            held: AtomicUsize::new(0),
            pauses: AtomicU64::new(0),
            done: Default::default(),
            log: LOG.into(),
            stop,
        });
        let task = Task {
            db: db.clone(),
            ours: Ownership::new(senders.len()),
            senders,
            room_made,
            appended: Arc::default(),
            shared: Arc::clone(&shared),
            next_balance: Instant::now(),
            read_since_vacuum: 0,
            last_read: Instant::now(),
            vacuuming: None,
            complaint: LogThrottle::default(),
        };
        let ended = Ended {
            shared: Arc::clone(&shared),
            closed,
        };
        tokio::spawn(async move {
            let _ended = ended;
            task.run(stopping).await;
        });
        let owner = Arc::new(Owner { shared, closing });
        (Handle { owner }, queues)
    }
}

/// The task that reads.
struct Task {
    db: Database,
    ours: Ownership,
    senders: Vec<WorkerSender>,
    /// Told when a permit is given back.
    room_made: Arc<Notify>,
    /// Told by PostgreSQL after every append.
    appended: Arc<Notify>,
    shared: Arc<Shared>,
    next_balance: Instant,
    read_since_vacuum: u64,
    last_read: Instant,
    vacuuming: Option<JoinHandle<()>>,
    complaint: LogThrottle,
}

impl Task {
    async fn run(mut self, mut stopping: watch::Receiver<Option<Duration>>) {
        let counting = count(self.db.clone(), Arc::clone(&self.shared));
        tokio::select! {
            () = self.serve() => {}
            () = counting => {}
            _ = stopping.wait_for(Option::is_some) => {}
        }
        let grace = stopping.borrow().unwrap_or_default();
        self.drain(grace).await;
        tracing::info!("consumer of the postgres log closed");
    }

    /// For ever: connects, owns, reads, and connects again when that breaks.
    async fn serve(&mut self) {
        let mut backoff = Backoff::new();
        loop {
            let error = match self.connect().await {
                Ok((lease, reader)) => {
                    backoff = Backoff::new();
                    self.set_connected(true);
                    let Err(error) = self.consume(&lease, &reader).await;
                    // The server gives our partitions to others once the connection is closed, here.
                    error
                }
                Err(error) => error,
            };
            self.set_connected(false);
            self.ours.clear();
            self.show_ownership();
            self.complain(&error);
            tokio::time::sleep(backoff.next()).await;
        }
    }

    async fn connect(&self) -> Result<(Lease, Reader), Error> {
        let lease = Lease::connect(&self.db, Arc::clone(&self.appended));
        let reader = Reader::connect(&self.db);
        with_timeout(async { tokio::try_join!(lease, reader) }).await
    }

    async fn consume(
        &mut self,
        lease: &Lease,
        reader: &Reader,
    ) -> Result<std::convert::Infallible, Error> {
        self.next_balance = Instant::now();
        loop {
            if lease.is_closed() {
                return Err(Error::Pool(
                    "the connection that owns the partitions is lost".to_owned(),
                ));
            }
            if Instant::now() >= self.next_balance {
                self.next_balance = Instant::now() + BALANCE;
                if with_timeout(self.ours.balance(lease)).await? {
                    self.show_ownership();
                }
                self.vacuum();
                self.ours.look_everywhere();
            }
            // What is appended from here on is told again.
            if self.appended.notified().now_or_never().is_some() {
                self.ours.look_everywhere();
            }
            if self.read(reader).await? {
                continue;
            }
            tokio::select! {
                () = self.appended.notified() => self.ours.look_everywhere(),
                () = self.room_made.notified() => {}
                () = tokio::time::sleep_until(self.next_balance.into()) => {}
            }
        }
    }

    /// Hands over what is held and reads what there is room for. False if there was nothing to do.
    async fn read(&mut self, reader: &Reader) -> Result<bool, Error> {
        let mut busy = false;
        for owned in &mut self.ours.partitions {
            if let Some(held) = owned.held.take() {
                deliver(&self.shared, &self.senders, owned, held);
                busy |= owned.held.is_none();
            }
        }
        let cursors = self.cursors();
        if !cursors.is_empty() {
            busy = true;
            let rows = with_timeout(reader.read(&cursors, ROWS)).await?;
            if !rows.is_empty() {
                self.read_since_vacuum += rows.len() as u64;
                self.last_read = Instant::now();
            }
            self.take(&cursors, rows);
        }
        let held = self.ours.held_bytes();
        self.shared.held.store(held, Ordering::Relaxed);
        Ok(busy)
    }

    /// What to read next: partitions that may have more, as far as their worker has room.
    fn cursors(&mut self) -> Vec<Cursor> {
        let mut cursors = Vec::new();
        for (index, sender) in self.senders.iter_mut().enumerate() {
            let wanting = self.ours.partitions.iter();
            let wanting = wanting.filter(|owned| owned.index == index && owned.wants_more());
            let wanting: Vec<&Owned> = wanting.collect();
            let full = !wanting.is_empty() && !sender.room.half_free();
            if full && !sender.paused {
                self.shared.pauses.fetch_add(1, Ordering::Relaxed);
            }
            sender.paused = full;
            if full || wanting.is_empty() {
                continue;
            }
            let share = sender.room.free() / wanting.len();
            cursors.extend(wanting.iter().map(|owned| Cursor {
                after: LogPosition {
                    partition: owned.partition,
                    offset: owned.after,
                },
                bytes: i64::try_from(share).unwrap_or(i64::MAX),
            }));
        }
        cursors
    }

    /// Deals the rows that were read for these cursors.
    fn take(&mut self, cursors: &[Cursor], rows: Vec<Row>) {
        let mut by_partition: HashMap<i16, Vec<Record>> = HashMap::with_capacity(cursors.len());
        let mut topics: Vec<Arc<str>> = Vec::new();
        for row in rows {
            by_partition
                .entry(row.position.partition)
                .or_default()
                .push(record(row, &mut topics));
        }
        for cursor in cursors {
            let partition = cursor.after.partition;
            let Some(owned) = self
                .ours
                .partitions
                .iter_mut()
                .find(|owned| owned.partition == partition)
            else {
                continue;
            };
            let records = by_partition.remove(&partition).unwrap_or_default();
            let Some(last) = records.last() else {
                owned.more = false;
                continue;
            };
            owned.after = last.offset;
            let bytes = records.iter().map(Record::memory).sum();
            deliver(&self.shared, &self.senders, owned, Held { records, bytes });
        }
    }

    /// Has the table vacuumed when enough was read since the last time.
    fn vacuum(&mut self) {
        let empty = self.ours.partitions.iter().all(|partition| !partition.more)
            && self
                .senders
                .iter()
                .all(|partition| partition.room.used() == 0);
        let enough = match empty {
            false => VACUUM_AFTER,
            true if self.last_read.elapsed() < QUIET => VACUUM_EMPTY_AFTER,
            true => VACUUM_QUIET_AFTER,
        };
        let running = self
            .vacuuming
            .as_ref()
            .is_some_and(|task| !task.is_finished());
        if self.read_since_vacuum >= enough && !running {
            self.read_since_vacuum = 0;
            let db = self.db.clone();
            self.vacuuming = Some(tokio::spawn(async move {
                if let Err(error) = log::vacuum(&db).await {
                    tracing::warn!(error = %error, "the postgres log could not be vacuumed");
                }
            }));
        }
    }

    /// Ends the partitions and waits until the writers are through. The connections are closed already, so
    /// others may read what is still being written: the storing transaction tells.
    async fn drain(&mut self, grace: Duration) {
        let deadline = Instant::now() + grace;
        self.ours.clear();
        self.show_ownership();
        for partition in &mut self.senders {
            partition.chunks = None;
        }
        while self
            .senders
            .iter()
            .any(|partition| partition.room.used() > 0)
            && Instant::now() < deadline
        {
            tokio::time::sleep(WATCH).await;
        }
        if let Some(vacuuming) = self.vacuuming.take() {
            vacuuming.abort();
        }
    }

    fn show_ownership(&self) {
        let mut assigned: Vec<i16> = self
            .ours
            .partitions
            .iter()
            .map(|owned| owned.partition)
            .collect();
        assigned.sort_unstable();
        self.shared.state().assigned = assigned;
    }

    fn set_connected(&self, connected: bool) {
        if self.shared.connected.swap(connected, Ordering::Relaxed) != connected {
            tracing::info!(connected, "postgres log consumer connection");
        }
    }

    fn complain(&mut self, error: &Error) {
        if self.complaint.allows() {
            tracing::warn!(error = %error, "consumer of the postgres log");
        }
    }
}

/// Sends records to their worker, or holds them where it has no room.
fn deliver(shared: &Shared, senders: &[WorkerSender], owned: &mut Owned, held: Held) {
    let Some(sender) = senders.get(owned.index) else {
        return;
    };
    let Some(buffer) = sender.room.acquire_oversized(held.bytes) else {
        owned.held = Some(held);
        return;
    };
    let Some(chunks) = &sender.chunks else { return };
    let partition = owned.out.acquire(held.bytes).ok();
    let chunk = Chunk::new(
        held.records,
        Permit::new(buffer, partition),
        (Arc::clone(&shared.log), i32::from(owned.partition)),
        Arc::clone(&owned.revoked),
    );
    if chunks.send(chunk).is_err() {
        // Its writer is gone. The rows stay in the log, so they are read again after a restart.
        shared.state().problem = Some(format!("nobody reads the queue of worker {}", owned.index));
    }
}

fn record(row: Row, topics: &mut Vec<Arc<str>>) -> Record {
    // A handful of names, each once in memory.
    let topic = match topics.iter().find(|topic| ***topic == *row.topic) {
        Some(topic) => Arc::clone(topic),
        None => {
            topics.push(row.topic.as_str().into());
            topics
                .last()
                .map_or_else(|| row.topic.as_str().into(), Arc::clone)
        }
    };
    Record {
        topic,
        partition: i32::from(row.position.partition),
        offset: row.position.offset,
        timestamp_ms: Some(row.at_ms),
        key: row.key,
        headers: row.headers,
        payload: row.payload,
    }
}
