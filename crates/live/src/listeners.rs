//! The listeners of one channel. The caller holds the lock and knows the channel's cursor: those
//! who are live have been given everything up to it, and nothing after it.

use std::sync::Arc;

use crate::id::{Resume, StreamId};
use crate::message::Entry;
use crate::queue::{Pushed, Queue};
use crate::sse;
use crate::subscription::{Batch, Delivery, Reset};

/// Bytes of a batch, at most, unless it is one message: so that a queue is not overrun by one push.
const BATCH_BYTES: usize = 64 * 1024;

/// How far a listener is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It has been told nothing yet.
    Starting(Resume),
    /// It reads history, at its own pace, and has been given everything up to that id.
    Behind(StreamId),
    /// It has been given everything up to the channel's cursor.
    Live,
}

#[derive(Debug)]
struct Listener {
    id: u64,
    phase: Phase,
    queue: Arc<Queue>,
}

/// The listeners of one channel, by id.
#[derive(Debug, Default)]
pub(crate) struct Listeners(Vec<Listener>);

impl Listeners {
    /// Adds a listener; ids rise.
    pub(crate) fn join(&mut self, id: u64, resume: Resume, queue: Arc<Queue>) {
        if self.0.is_empty() {
            // Most channels have one listener, and there are many channels.
            self.0.reserve_exact(1);
        }
        self.0.push(Listener {
            id,
            phase: Phase::Starting(resume),
            queue,
        });
    }

    /// Removes a listener, if it is still there.
    pub(crate) fn leave(&mut self, id: u64) {
        if let Ok(at) = self.at(id) {
            self.0.remove(at);
        }
    }

    /// Whether nobody listens.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How far that listener is; `None` if it is gone.
    pub(crate) fn phase(&self, id: u64) -> Option<Phase> {
        Some(self.0[self.at(id).ok()?].phase)
    }

    /// Gives it to everyone who is live. Whoever has no room is ended.
    pub(crate) fn tell(&mut self, delivery: &Delivery) {
        self.0.retain(|listener| {
            listener.phase != Phase::Live || give(&listener.queue, delivery.clone())
        });
    }

    /// Begins a listener as was decided; `cursor` is the channel's.
    pub(crate) fn start(
        &mut self,
        id: u64,
        decision: Result<Option<StreamId>, Reset>,
        cursor: StreamId,
    ) {
        let (phase, delivery) = match decision {
            Ok(None) => (Phase::Live, Delivery::Begun { cursor }),
            Ok(Some(after)) => (Phase::Behind(after), Delivery::Begun { cursor: after }),
            Err(reason) => (Phase::Live, Delivery::Reset { reason, cursor }),
        };
        self.give_one(id, phase, delivery);
    }

    /// Gives a listener that is behind what comes next, as much as it has room for: `batches` are
    /// everything up to `end`, and `all` says that this is the channel's cursor.
    pub(crate) fn catch_up(
        &mut self,
        id: u64,
        batches: impl IntoIterator<Item = Arc<Batch>>,
        end: StreamId,
        all: bool,
    ) {
        let Ok(at) = self.at(id) else { return };
        let listener = &mut self.0[at];
        let mut room = true;
        for batch in batches {
            let Some(last) = batch.entries().last().map(|entry| entry.id) else {
                continue;
            };
            if listener.queue.push(Delivery::Messages(batch)) == Pushed::Full {
                room = false;
                break;
            }
            listener.phase = Phase::Behind(last);
        }
        let live = room && all;
        if live {
            listener.phase = Phase::Live;
        } else if room {
            listener.phase = Phase::Behind(end);
        }
        listener.queue.set_behind(!live);
    }

    /// Bytes a batch for that listener may have.
    pub(crate) fn batch_bytes(&self, id: u64) -> usize {
        let limit = self.at(id).map(|at| self.0[at].queue.limit());
        limit.unwrap_or(BATCH_BYTES).min(BATCH_BYTES)
    }

    /// Ends all of them.
    pub(crate) fn close(&mut self) {
        for listener in self.0.drain(..) {
            listener.queue.close();
        }
    }

    fn give_one(&mut self, id: u64, phase: Phase, delivery: Delivery) {
        let Ok(at) = self.at(id) else { return };
        self.0[at].phase = phase;
        if !give(&self.0[at].queue, delivery) {
            self.0.remove(at);
        }
    }

    fn at(&self, id: u64) -> Result<usize, usize> {
        self.0.binary_search_by_key(&id, |listener| listener.id)
    }
}

fn give(queue: &Queue, delivery: Delivery) -> bool {
    let queued = queue.push(delivery) == Pushed::Queued;
    if !queued {
        queue.overflow();
    }
    queued
}

/// Messages as batches of a bearable size, ready to be shared.
pub(crate) fn batches(entries: Vec<Entry>, bytes: usize) -> Vec<Arc<Batch>> {
    let mut batches = Vec::new();
    let mut current = Vec::new();
    let mut size = 0;
    for entry in entries {
        let more = sse::size(&entry);
        if !current.is_empty() && size + more > bytes {
            batches.push(Arc::new(Batch::new(std::mem::take(&mut current))));
            size = 0;
        }
        size += more;
        current.push(entry);
    }
    if !current.is_empty() {
        batches.push(Arc::new(Batch::new(current)));
    }
    batches
}

/// The same for everyone who is live.
pub(crate) fn shared_batches(entries: Vec<Entry>) -> Vec<Arc<Batch>> {
    batches(entries, BATCH_BYTES)
}
