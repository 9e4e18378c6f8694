//! What waits for one listener: bounded in bytes, taken all at once.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use crate::subscription::Delivery;

/// What a delivery without messages counts for.
const CONTROL_BYTES: usize = 64;

/// A listener that was busy once does not keep the room for it.
const KEPT_ROOM: usize = 8;

/// Locks; what is behind our locks stays whole even if a holder panicked.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What became of a delivery that was to be queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It waits for the listener.
    Queued,
    /// There is no room.
    Full,
}

/// What [`Queue::take`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Something; it has been taken.
    Some,
    /// Nothing, and nothing will come.
    Ended,
    /// Nothing yet; the waker is kept. `ask`: history is to be asked for.
    Nothing { ask: bool },
}

/// The queue of one listener.
#[derive(Debug)]
pub(crate) struct Queue(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    waiting: VecDeque<Delivery>,
    /// Bytes waiting, and those the listener took last and may still be busy with.
    bytes: usize,
    taken_bytes: usize,
    limit: usize,
    waker: Option<Waker>,
    ended: bool,
    slow: bool,
    /// The waker is only for the listener's end: it is busy with what it took.
    busy: bool,
    /// The listener is reading history: when it has nothing left, it asks for more.
    behind: bool,
}

impl Queue {
    /// An empty queue for `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self(Mutex::new(Inner {
            waiting: VecDeque::new(),
            bytes: 0,
            taken_bytes: 0,
            limit,
            waker: None,
            ended: false,
            slow: false,
            busy: false,
            behind: false,
        }))
    }

    /// Queues it. A single message always finds room in an empty queue: it could never be had
    /// otherwise.
    pub(crate) fn push(&self, delivery: Delivery) -> Pushed {
        let (size, alone) = match &delivery {
            Delivery::Messages(batch) => (batch.size(), batch.entries().len() == 1),
            _ => (CONTROL_BYTES, true),
        };
        let mut inner = lock(&self.0);
        if inner.ended {
            return Pushed::Queued;
        }
        let fits = inner.bytes + size <= inner.limit || (alone && inner.bytes == 0);
        if !fits {
            return Pushed::Full;
        }
        inner.bytes += size;
        inner.waiting.push_back(delivery);
        if !inner.busy {
            wake(inner);
        }
        Pushed::Queued
    }

    /// Ends it as too slow: what waits is freed, so that memory is not held by one who does not
    /// read.
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

    /// Sets whether the listener is to ask for more when it has nothing left.
    pub(crate) fn set_behind(&self, behind: bool) {
        let mut inner = lock(&self.0);
        inner.behind = behind;
        if behind && inner.waiting.is_empty() && !inner.busy {
            wake(inner);
        }
    }

    /// Most bytes that may wait.
    pub(crate) fn limit(&self) -> usize {
        lock(&self.0).limit
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
        // Whoever asks again is done with what it took before.
        inner.bytes -= std::mem::take(&mut inner.taken_bytes);
        if inner.waiting.is_empty() {
            if inner.ended {
                return Taken::Ended;
            }
            // One of the two keeps a little room; an idle listener needs no more.
            if inner.waiting.capacity() > 0 || into.capacity() > KEPT_ROOM {
                *into = VecDeque::new();
            }
            inner.keep(cx.waker());
            let ask = std::mem::take(&mut inner.behind);
            return Taken::Nothing { ask };
        }
        std::mem::swap(into, &mut inner.waiting);
        inner.taken_bytes = inner.bytes;
        if inner.waiting.capacity() > KEPT_ROOM {
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

/// Wakes outside of the lock: the woken one takes it first thing.
fn wake(mut inner: MutexGuard<'_, Inner>) {
    let waker = inner.waker.take();
    drop(inner);
    if let Some(waker) = waker {
        waker.wake();
    }
}
