//! One partition while it is assigned.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// No offset known yet.
pub(super) const UNKNOWN: i64 = -1;

/// One partition while it is assigned. Losing it ends the assignment; a later one is a new value.
#[derive(Debug)]
pub(super) struct Assignment {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    /// Index of the worker whose queue gets its records.
    pub(super) worker: usize,
    pub(super) paused: AtomicBool,
    /// Nothing is to be read of it before an offset is known from which on.
    pub(super) is_unplaced: bool,
    pub(super) revoked: Arc<AtomicBool>,
    /// Next offset after what the writers stored.
    pub(super) done: AtomicI64,
    /// Next offset as last sent to Kafka.
    pub(super) committed: AtomicI64,
    /// First offset sent to the worker: what is done is counted from there.
    pub(super) first: AtomicI64,
    /// Everything below was sent to the worker; from where it was placed on.
    pub(super) sent: AtomicI64,
    /// From the statistics: the log's end, and where the group stood.
    pub(super) high: AtomicI64,
    pub(super) position: AtomicI64,
    /// From where on it is read, if that was given.
    pub(super) placed_at: i64,
}

/// From where a partition is read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Start {
    /// From where the group stands.
    Committed,
    /// Not yet.
    Unplaced,
    /// From this offset.
    At(i64),
}

impl Assignment {
    pub(super) fn new(topic: Arc<str>, partition: i32, worker: usize, start: Start) -> Self {
        let placed_at = match start {
            Start::At(offset) => offset,
            Start::Committed | Start::Unplaced => UNKNOWN,
        };
        Self {
            topic,
            partition,
            worker,
            paused: AtomicBool::new(false),
            is_unplaced: matches!(start, Start::Unplaced),
            revoked: Arc::default(),
            done: AtomicI64::new(UNKNOWN),
            committed: AtomicI64::new(UNKNOWN),
            first: AtomicI64::new(UNKNOWN),
            sent: AtomicI64::new(placed_at),
            high: AtomicI64::new(UNKNOWN),
            position: AtomicI64::new(placed_at),
            placed_at,
        }
    }

    pub(super) fn revoked(&self) -> bool {
        self.revoked.load(Ordering::Relaxed)
    }

    /// Whether there is no offset yet from which to read it.
    pub(super) fn is_unplaced(&self) -> bool {
        self.is_unplaced
    }

    /// Notes that a chunk of the records from `first` to `last` goes to the worker; the offset after
    /// the chunk before, or where reading began.
    pub(super) fn sends(&self, first: i64, last: i64) -> i64 {
        if self.first.load(Ordering::Relaxed) == UNKNOWN {
            self.first.store(first, Ordering::Relaxed);
        }
        match self.sent.swap(last + 1, Ordering::Relaxed) {
            UNKNOWN => first,
            next => next,
        }
    }

    /// What a chunk of its records is created with.
    pub(super) fn of_chunk(&self) -> ((Arc<str>, i32), Arc<AtomicBool>) {
        let partition = (Arc::clone(&self.topic), self.partition);
        (partition, Arc::clone(&self.revoked))
    }

    pub(super) fn is(&self, topic: &str, partition: i32) -> bool {
        self.partition == partition && &*self.topic == topic
    }
}
