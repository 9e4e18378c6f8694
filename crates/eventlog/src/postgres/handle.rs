//! What others see of a consumer of the Postgres log.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use store::log::{Backlog, LOG};
use tokio::sync::{Notify, watch};

use crate::byte_budget::ByteBudget;
use crate::delivery_positions::DeliveryPositions;
use crate::future::BoxFuture;
use crate::source::{PartitionLag, Source};

/// Reports that the task is gone, for whatever reason.
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
    rooms: Vec<Arc<ByteBudget>>,
    state: Mutex<State>,
    pub(super) connected: AtomicBool,
    pub(super) held: AtomicUsize,
    pub(super) pauses: AtomicU64,
    pub(super) delivery: Arc<DeliveryPositions>,
    pub(super) log: Arc<str>,
    /// Partitions to read again, and from where.
    seeks: Mutex<Vec<(i16, i64)>>,
    wake: Arc<Notify>,
    /// How long the shutdown may take, once there is one.
    stop: watch::Sender<Option<Duration>>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) assigned: Vec<i16>,
    pub(super) problem: Option<String>,
    pub(super) depths: Option<HashMap<i16, i64>>,
    pub(super) backlog: Option<Backlog>,
}

impl Shared {
    pub(super) fn new(
        rooms: Vec<Arc<ByteBudget>>,
        delivery: Arc<DeliveryPositions>,
        wake: Arc<Notify>,
        stop: watch::Sender<Option<Duration>>,
    ) -> Self {
        Self {
            rooms,
            state: Mutex::default(),
            connected: AtomicBool::new(false),
            held: AtomicUsize::new(0),
            pauses: AtomicU64::new(0),
            delivery,
            log: LOG.into(),
            seeks: Mutex::default(),
            wake,
            stop,
        }
    }

    pub(super) fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    pub(super) fn take_seeks(&self) -> Vec<(i16, i64)> {
        std::mem::take(&mut *self.seeks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Steers a consumer of the Postgres log. Clones steer the same one; dropping the last closes it
/// without waiting for the queues.
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

    /// What waits in the whole log, whichever consumer owns it; seconds old. `None` until it was
    /// counted.
    #[must_use]
    pub fn backlog(&self) -> Option<Backlog> {
        self.shared().state().backlog
    }
}

impl Source for Handle {
    fn mark_done(&self, _topic: &str, partition: i32, next_offset: i64) {
        self.shared().delivery.delivered(partition, next_offset);
    }

    fn lag(&self) -> Vec<PartitionLag> {
        let state = self.shared().state();
        let of = |partition: &i16| {
            let number = i32::from(*partition);
            let done = self.shared().delivery.next(number);
            let depth = |depths: &HashMap<i16, i64>| depths.get(partition).copied().unwrap_or(0);
            PartitionLag {
                topic: Arc::clone(&self.shared().log),
                partition: number,
                lag: state.depths.as_ref().map(depth),
                done: (done > 0).then_some(done),
                high: None,
            }
        };
        state.assigned.iter().map(of).collect()
    }

    fn assigned(&self) -> Vec<(Arc<str>, i32)> {
        let state = self.shared().state();
        let assigned = state.assigned.iter();
        assigned
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

    fn seek(&self, _topic: &str, partition: i32, offset: i64) {
        // The log has 16 partitions.
        let partition = i16::try_from(partition).unwrap_or(-1);
        let mut seeks = self
            .shared()
            .seeks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        seeks.push((partition, offset));
        self.shared().wake.notify_one();
    }

    fn fills_up(&self) -> bool {
        true
    }

    fn delivery(&self) -> Option<&DeliveryPositions> {
        Some(&self.shared().delivery)
    }
}
