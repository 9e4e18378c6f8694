//! Consuming from PostgreSQL: a task that owns partitions of the log, reads them from their stored
//! positions, and deals the records to the workers' queues, as much as has room.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use backon::ExponentialBackoff;
use futures_util::FutureExt;
use store::log::{Cursor, Lease, LogPosition, Reader, Row};
use store::timeout::{with_timeout, with_timeout_of};
use store::{Database, Error, LogThrottle};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::backlog::count;
use super::backoff::pauses;
use super::handle::{Ended, Handle, Owner, Shared};
use super::ownership::{Held, Owned, Ownership};
use super::vacuum::Vacuum;
use crate::delivery_positions::DeliveryPositions;
use crate::record::Record;
use crate::worker_queue::{Chunk, Permit, WorkerQueue, WorkerSender, worker_queues};

/// How often the partitions are divided again, and looked at although nothing was notified.
const BALANCE: Duration = Duration::from_secs(1);
/// How far apart two reads are of what is appended meanwhile: each costs as much as many rows.
const APART: Duration = Duration::from_millis(4);
/// Rows of one partition read at a time.
const ROWS: i64 = 500;
/// How often a drained consumer looks whether everything has come back, and how often it writes
/// positions meanwhile, which also keeps its session.
const WATCH: Duration = Duration::from_millis(10);
const KEEP: Duration = Duration::from_secs(1);

/// A processor's share of the Postgres log.
pub struct PostgresSource;

impl PostgresSource {
    /// Starts a task that acquires its share of the log's 16 partitions and deals their records to
    /// the queues of `workers` workers. The buffered records take at most about `buffer_bytes`,
    /// divided evenly among the queues. `tracks_delivery`: what is marked done is also delivered to
    /// listeners who outlive this process, so the positions of delivery are kept beside the stored
    /// ones. Waits for nothing; must be called within a tokio runtime.
    ///
    /// A record stays in the log until a storing transaction deletes it; what was handed out and not
    /// deleted comes again after a restart, or when its partition changes hands.
    #[must_use]
    pub fn start(
        db: &Database,
        workers: usize,
        buffer_bytes: usize,
        tracks_delivery: bool,
    ) -> (Handle, Vec<WorkerQueue>) {
        let room_made = Arc::new(Notify::new());
        let (senders, queues) = worker_queues(workers, buffer_bytes, Some(&room_made));
        let (stop, stopping) = watch::channel(None);
        let (closed, closing) = watch::channel(false);
        let delivery = Arc::new(DeliveryPositions::new(Uuid::new_v4(), tracks_delivery));
        let rooms = senders.iter().map(|sender| Arc::clone(&sender.room));
        let shared = Arc::new(Shared::new(
            rooms.collect(),
            Arc::clone(&delivery),
            Arc::clone(&room_made),
            stop,
        ));
        let task = Task {
            db: db.clone(),
            lease: None,
            ours: Ownership::new(senders.len(), delivery),
            senders,
            room_made,
            appended: Arc::default(),
            shared: Arc::clone(&shared),
            next_balance: Instant::now(),
            last_read: Instant::now(),
            vacuum: Vacuum::new(db.clone()),
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
    /// Kept after the end of reading, until the positions are final.
    lease: Option<Arc<Lease>>,
    ours: Ownership,
    senders: Vec<WorkerSender>,
    /// Notified when a permit is given back, and of a seek.
    room_made: Arc<Notify>,
    /// Notified by PostgreSQL after every append.
    appended: Arc<Notify>,
    shared: Arc<Shared>,
    next_balance: Instant,
    last_read: Instant,
    vacuum: Vacuum,
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
        let mut backoff: ExponentialBackoff = pauses();
        loop {
            let error = match self.connect().await {
                Ok((lease, reader)) => {
                    backoff = pauses();
                    self.set_connected(true);
                    let lease = self.lease.insert(Arc::new(lease)).clone();
                    let Err(error) = self.consume(&lease, &reader).await;
                    error
                }
                Err(error) => error,
            };
            // The server gives our partitions to others once the connection is closed, here.
            self.lease = None;
            self.set_connected(false);
            self.ours.clear();
            self.show_ownership();
            self.complain(&error);
            tokio::time::sleep(backoff.next().unwrap_or(BALANCE)).await;
        }
    }

    async fn connect(&self) -> Result<(Lease, Reader), Error> {
        let owner = self.shared.delivery.owner();
        let lease = Lease::connect(&self.db, owner, Arc::clone(&self.appended));
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
                with_timeout(self.ours.write_live(lease, false)).await?;
                self.vacuum();
                self.ours.look_everywhere();
            }
            for (partition, offset) in self.shared.take_seeks() {
                self.ours.seek(partition, offset);
            }
            // What is appended from here on is notified again.
            if self.appended.notified().now_or_never().is_some() {
                self.ours.look_everywhere();
            }
            if self.read(reader).await? {
                continue;
            }
            tokio::select! {
                () = self.appended.notified() => {
                    self.ours.look_everywhere();
                    tokio::time::sleep_until((self.last_read + APART).into()).await;
                }
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
            self.last_read = Instant::now();
            self.vacuum.read(rows.len());
            self.take(&cursors, rows);
        }
        let held = self.ours.held_bytes();
        self.shared.held.store(held, Ordering::Relaxed);
        Ok(busy)
    }

    /// What to read next: partitions that may have more, as far as their worker's queue has room.
    fn cursors(&mut self) -> Vec<Cursor> {
        let mut cursors = Vec::new();
        for (worker, sender) in self.senders.iter_mut().enumerate() {
            let wanting = self.ours.partitions.iter();
            let wanting = wanting.filter(|owned| owned.worker == worker && owned.wants_more());
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
                from: LogPosition {
                    partition: owned.partition,
                    offset: owned.next,
                },
                bytes: i64::try_from(share).unwrap_or(i64::MAX),
            }));
        }
        cursors
    }

    /// Deals the rows that were read for these cursors.
    fn take(&mut self, cursors: &[Cursor], rows: Vec<Row>) {
        // With whether there was more after the last.
        let mut by_partition: HashMap<i16, (Vec<Record>, bool)> =
            HashMap::with_capacity(cursors.len());
        let mut topics: Vec<Arc<str>> = Vec::new();
        for row in rows {
            let (records, more) = by_partition.entry(row.position.partition).or_default();
            *more = row.more;
            records.push(record(row, &mut topics));
        }
        for cursor in cursors {
            let partition = cursor.from.partition;
            let of = |owned: &&mut Owned| owned.partition == partition;
            let Some(owned) = self.ours.partitions.iter_mut().find(of) else {
                continue;
            };
            let (records, more) = by_partition.remove(&partition).unwrap_or_default();
            owned.more = more;
            let Some(last) = records.last() else {
                continue;
            };
            let from = std::mem::replace(&mut owned.next, last.offset + 1);
            let bytes = records.iter().map(Record::memory).sum();
            let held = Held {
                from,
                records,
                bytes,
            };
            deliver(&self.shared, &self.senders, owned, held);
        }
    }

    fn vacuum(&mut self) {
        let empty = self.ours.partitions.iter().all(|owned| !owned.more)
            && self.senders.iter().all(|sender| sender.room.used() == 0);
        self.vacuum.run(empty);
    }

    /// Ends the queues and waits until the workers are through. The lease is kept until then, so that
    /// the next owner of the partitions finds the positions of delivery as they are at the end.
    async fn drain(&mut self, grace: Duration) {
        let deadline = Instant::now() + grace;
        self.ours.revoke_all();
        self.shared.state().assigned.clear();
        for sender in &mut self.senders {
            sender.chunks = None;
        }
        let mut next_write = Instant::now() + KEEP;
        while self.senders.iter().any(|sender| sender.room.used() > 0) && Instant::now() < deadline
        {
            tokio::time::sleep(WATCH).await;
            if Instant::now() >= next_write {
                next_write = Instant::now() + KEEP;
                self.write_last().await;
            }
        }
        self.write_last().await;
        self.lease = None;
    }

    async fn write_last(&mut self) {
        let Some(lease) = &self.lease else { return };
        let written = with_timeout_of(KEEP, self.ours.write_live(lease, true)).await;
        if let Err(error) = written {
            tracing::warn!(error = %error, "positions of delivery not written; listeners may be told of a gap");
            self.lease = None;
        }
    }

    fn show_ownership(&self) {
        let owned = self.ours.partitions.iter();
        let mut assigned: Vec<i16> = owned.map(|owned| owned.partition).collect();
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
            tracing::warn!(error = %error, "the consumer of the postgres log connects again");
        }
    }
}

/// Sends records to their worker, or holds them where its queue has no room.
fn deliver(shared: &Shared, senders: &[WorkerSender], owned: &mut Owned, held: Held) {
    let Some(sender) = senders.get(owned.worker) else {
        return;
    };
    let Some(buffer) = sender.room.acquire_oversized(held.bytes) else {
        owned.held = Some(held);
        return;
    };
    let Some(chunks) = &sender.chunks else { return };
    let partition = owned.out.acquire(held.bytes).ok();
    let chunk = Chunk::new(
        held.from,
        held.records,
        Permit::new(buffer, partition),
        (Arc::clone(&shared.log), i32::from(owned.partition)),
        Arc::clone(&owned.revoked),
    );
    if chunks.send(chunk).is_err() {
        // Its worker is gone. The rows stay in the log, so they are read again after a restart.
        shared.state().problem = Some(format!("nobody reads the queue of worker {}", owned.worker));
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
