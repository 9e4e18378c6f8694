//! The listeners of one channel. The caller holds the lock and knows the channel's cursor:
//! listeners that are live have received everything up to it, and nothing after it.

use std::sync::Arc;

use crate::delivery::{BATCH_BYTES, Batch, Delivery};
use crate::id::{Resume, StreamId};
use crate::message::{Entry, Message};
use crate::queue::Queue;
use crate::resume::Reset;

/// How far a listener is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It has received nothing yet.
    Starting(Resume),
    /// It reads history, at its own pace, and has received everything up to that id.
    Behind(StreamId),
    /// It has received everything up to the channel's cursor.
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

    /// Whether the channel has no listener.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How far that listener is; `None` if it is gone.
    pub(crate) fn phase(&self, id: u64) -> Option<Phase> {
        Some(self.0[self.at(id).ok()?].phase)
    }

    /// Delivers to all listeners that are live. Ends and removes those without room.
    pub(crate) fn deliver(&mut self, delivery: &Delivery) {
        self.0.retain(|listener| {
            listener.phase != Phase::Live || listener.deliver_or_end(delivery.clone())
        });
    }

    /// Delivers messages to all listeners that are live.
    pub(crate) fn deliver_messages(&mut self, entries: Vec<Entry>) {
        for batch in Batch::split(entries, BATCH_BYTES) {
            self.deliver(&Delivery::Messages(batch));
        }
    }

    /// Delivers a message that is in no channel to all listeners that have begun. Those without room miss
    /// it: it must not end what they listen to.
    pub(crate) fn send_transient(&self, message: &Arc<Message>) {
        for listener in &self.0 {
            if !matches!(listener.phase, Phase::Starting(_)) {
                listener
                    .queue
                    .push(Delivery::Transient(Arc::clone(message)));
            }
        }
    }

    /// Begins a listener as decided; `cursor` is the channel's.
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
        let Ok(at) = self.at(id) else { return };
        self.0[at].phase = phase;
        if !self.0[at].deliver_or_end(delivery) {
            self.0.remove(at);
        }
    }

    /// Delivers to a listener that is behind as much as it has room for: `batches` are everything
    /// up to `end`, and `all` says that this is the channel's cursor.
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
            if !listener.queue.push(Delivery::Messages(batch)) {
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
        let limit = self.at(id).map(|at| self.0[at].queue.limit_bytes());
        limit.unwrap_or(BATCH_BYTES).min(BATCH_BYTES)
    }

    /// Ends all listeners.
    pub(crate) fn close(&mut self) {
        for listener in self.0.drain(..) {
            listener.queue.close();
        }
    }

    fn at(&self, id: u64) -> Result<usize, usize> {
        self.0.binary_search_by_key(&id, |listener| listener.id)
    }
}

impl Listener {
    /// Queues the delivery; `false` if there was no room, and the listener is ended as too slow.
    fn deliver_or_end(&self, delivery: Delivery) -> bool {
        let queued = self.queue.push(delivery);
        if !queued {
            self.queue.overflow();
        }
        queued
    }
}
