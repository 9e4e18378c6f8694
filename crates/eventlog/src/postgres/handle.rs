//! What the others see of a consumer of the Postgres log.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use store::log::{Backlog, PARTITIONS};
use tokio::sync::watch;

use crate::byte_budget::ByteBudget;
use crate::{BoxFuture, PartitionLag, Source};

/// Tells that the task is gone, however it went.
pub(super) struct Ended {
    pub(super) shared: Arc<Shared>,
    pub(super) closed: watch::Sender<bool>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.shared.connected.store(false, Ordering::Relaxed);
        if self.shared.stop.borrow().is_none() {
            self.shared.state().problem = Some("the consumer's task ended".to_owned());
        }
        self.closed.send_replace(true);
    }
}

/// What the task and the handles share.
pub(super) struct Shared {
    pub(super) rooms: Vec<Arc<ByteBudget>>,
    pub(super) state: Mutex<State>,
    pub(super) connected: AtomicBool,
    pub(super) held: AtomicUsize,
    pub(super) pauses: AtomicU64,
    pub(super) done: [AtomicI64; PARTITIONS as usize],
    pub(super) log: Arc<str>,
    /// How long the shutdown may take, once there is one.
    pub(super) stop: watch::Sender<Option<Duration>>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) assigned: Vec<i16>,
    pub(super) problem: Option<String>,
    pub(super) depths: Option<HashMap<i16, i64>>,
    pub(super) backlog: Option<Backlog>,
}

impl Shared {
    pub(super) fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }
}

/// Steers a consumer of the Postgres log. Clones steer the same one; dropping the last closes it
/// without waiting for the partitions.
#[derive(Clone)]
pub struct Handle {
    pub(super) owner: Arc<Owner>,
}

pub(super) struct Owner {
    pub(super) shared: Arc<Shared>,
    pub(super) closing: watch::Receiver<bool>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.stop.send_if_modified(|stop| {
            let running = stop.is_none();
            stop.get_or_insert(Duration::ZERO);
            running
        });
    }
}

impl Handle {
    fn shared(&self) -> &Shared {
        &self.owner.shared
    }

    /// What waits in the whole log, whoever owns it; seconds old. `None` until it was looked at.
    #[must_use]
    pub fn backlog(&self) -> Option<Backlog> {
        self.shared().state().backlog
    }
}

impl Source for Handle {
    fn mark_done(&self, _topic: &str, partition: i32, next_offset: i64) {
        // For the lag's sake: what was stored left the log in the same transaction.
        let done = usize::try_from(partition).ok();
        if let Some(done) = done.and_then(|partition| self.shared().done.get(partition)) {
            done.fetch_max(next_offset, Ordering::Relaxed);
        }
    }

    fn lag(&self) -> Vec<PartitionLag> {
        let state = self.shared().state();
        let of = |partition: &i16| {
            let done = self
                .shared()
                .done
                .get(usize::from(partition.unsigned_abs()));
            let done = done.map_or(0, |done| done.load(Ordering::Relaxed));
            PartitionLag {
                topic: Arc::clone(&self.shared().log),
                partition: i32::from(*partition),
                lag: state
                    .depths
                    .as_ref()
                    .map(|depths| depths.get(partition).copied().unwrap_or(0)),
                done: (done > 0).then_some(done),
                high: None,
            }
        };
        state.assigned.iter().map(of).collect()
    }

    fn assigned(&self) -> Vec<(Arc<str>, i32)> {
        let state = self.shared().state();
        let partitions = state.assigned.iter();
        partitions
            .map(|partition| (Arc::clone(&self.shared().log), i32::from(*partition)))
            .collect()
    }

    fn connected(&self) -> bool {
        self.shared().is_connected()
    }

    fn problem(&self) -> Option<String> {
        self.shared().state().problem.clone()
    }

    fn buffered_bytes(&self) -> usize {
        let handed_out: usize = self.shared().rooms.iter().map(|room| room.used()).sum();
        handed_out + self.shared().held.load(Ordering::Relaxed)
    }

    fn pauses(&self) -> u64 {
        self.shared().pauses.load(Ordering::Relaxed)
    }

    fn shutdown(&self, grace: Duration) -> BoxFuture<'_, ()> {
        self.shared().stop.send_replace(Some(grace));
        let mut closing = self.owner.closing.clone();
        Box::pin(async move {
            // An error means that the sender is gone, and with it the task.
            let _ = closing.wait_for(|closed| *closed).await;
        })
    }
}
