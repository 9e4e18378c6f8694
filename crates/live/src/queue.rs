//! What waits for one listener: bounded in bytes, taken all at once.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use crate::delivery::Delivery;
use crate::sse;

/// What a delivery without messages counts for.
const CONTROL_BYTES: usize = 64;

/// Deliveries for which an idle queue keeps room.
const KEPT_CAPACITY: usize = 8;

/// Locks; what is behind our locks stays whole even if a holder panicked.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What [`Queue::take`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Something; it has been taken.
    Some,
    /// Nothing, and nothing will come.
    Ended,
    /// Nothing yet; the waker is kept. `wants_history`: the caller requests more history.
    Nothing { wants_history: bool },
}

/// The queue of one listener.
#[derive(Debug)]
pub(crate) struct Queue(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<Delivery>,
    /// Bytes waiting, and those the listener took last and may still be writing.
    bytes: usize,
    taken_bytes: usize,
    limit_bytes: usize,
    waker: Option<Waker>,
    ended: bool,
    slow: bool,
    /// The waker is only for the listener's end: it is writing what it took.
    busy: bool,
    /// The listener is reading history: when it has nothing left, it requests more.
    behind: bool,
}

impl Queue {
    /// An empty queue for `limit_bytes`.
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self(Mutex::new(Inner {
            limit_bytes,
            ..Inner::default()
        }))
    }

    /// Queues a delivery; `false` if there is no room. A single message always finds room in an
    /// empty queue: it could never be delivered otherwise.
    pub(crate) fn push(&self, delivery: Delivery) -> bool {
        let (size, alone) = match &delivery {
            Delivery::Messages(batch) => (batch.size(), batch.entries().len() == 1),
            Delivery::Transient(message) => (sse::size(message), true),
            _ => (CONTROL_BYTES, true),
        };
        let mut inner = lock(&self.0);
        if inner.ended {
            return true;
        }
        let fits = inner.bytes + size <= inner.limit_bytes || (alone && inner.bytes == 0);
        if fits {
            inner.bytes += size;
            inner.waiting.push_back(delivery);
            if !inner.busy {
                wake(inner);
            }
        }
        fits
    }

    /// Ends it as too slow, and frees what waits: a client that does not read holds no memory.
    pub(crate) fn overflow(&self) {
        let mut inner = lock(&self.0);
        if !inner.ended {
            inner.waiting = VecDeque::from([Delivery::Slow]);
            inner.ended = true;
            inner.slow = true;
        }
        wake(inner);
    }

    /// Ends it; what waits can still be taken.
    pub(crate) fn close(&self) {
        let mut inner = lock(&self.0);
        inner.ended = true;
        wake(inner);
    }

    /// Sets whether the listener requests more history when it has nothing left.
    pub(crate) fn set_behind(&self, behind: bool) {
        let mut inner = lock(&self.0);
        inner.behind = behind;
        if behind && inner.waiting.is_empty() && !inner.busy {
            wake(inner);
        }
    }

    /// Most bytes that may wait.
    pub(crate) fn limit_bytes(&self) -> usize {
        lock(&self.0).limit_bytes
    }

    /// Whether the listener was too slow; if not, the waker is kept for when it is.
    pub(crate) fn is_slow(&self, cx: &mut Context<'_>) -> bool {
        let mut inner = lock(&self.0);
        if !inner.slow {
            inner.busy = true;
            inner.keep(cx.waker());
        }
        inner.slow
    }

    /// Takes everything into `into`, which is empty.
    pub(crate) fn take(&self, into: &mut VecDeque<Delivery>, cx: &mut Context<'_>) -> Taken {
        let mut inner = lock(&self.0);
        inner.busy = false;
        // A listener that asks again is done with what it took before.
        inner.bytes -= std::mem::take(&mut inner.taken_bytes);
        if inner.waiting.is_empty() {
            if inner.ended {
                return Taken::Ended;
            }
            // One of the two keeps a little room; an idle listener needs no more.
            if inner.waiting.capacity() > 0 || into.capacity() > KEPT_CAPACITY {
                *into = VecDeque::new();
            }
            inner.keep(cx.waker());
            let wants_history = std::mem::take(&mut inner.behind);
            return Taken::Nothing { wants_history };
        }
        std::mem::swap(into, &mut inner.waiting);
        inner.taken_bytes = inner.bytes;
        if inner.waiting.capacity() > KEPT_CAPACITY {
            inner.waiting = VecDeque::new();
        }
        Taken::Some
    }
}

impl Inner {
    fn keep(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(kept) => kept.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }
}

/// Wakes outside of the lock: the woken task takes it first thing.
fn wake(mut inner: MutexGuard<'_, Inner>) {
    let waker = inner.waker.take();
    drop(inner);
    if let Some(waker) = waker {
        waker.wake();
    }
}
