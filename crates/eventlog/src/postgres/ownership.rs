//! Which partitions of the log are ours, and how far each was read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use store::Error;
use store::log::{Lease, PARTITIONS};

use crate::byte_budget::ByteBudget;
use crate::delivery_positions::DeliveryPositions;
use crate::record::Record;

/// How long the hand-over of a partition waits for its records to be stored and delivered. Not waiting
/// would double work, never events.
const HAND_OVER: Duration = Duration::from_secs(3);

/// One partition of the log while it is ours.
pub(super) struct Owned {
    pub(super) partition: i16,
    /// The worker it is dealt to.
    pub(super) worker: usize,
    /// The lowest offset not read yet.
    pub(super) next: i64,
    /// There may be more to read.
    pub(super) more: bool,
    /// Read already, but its worker's queue has no room.
    pub(super) held: Option<Held>,
    /// Bytes handed out whose permits still exist.
    pub(super) out: Arc<ByteBudget>,
    pub(super) revoked: Arc<AtomicBool>,
    /// Another consumer is to have it; since when.
    leaving: Option<Instant>,
    /// The position of delivery at the last look, and the one written by itself last.
    live: (Option<i64>, Option<i64>),
}

/// Records on their way to a worker's queue.
pub(super) struct Held {
    /// Where reading them began.
    pub(super) from: i64,
    pub(super) records: Vec<Record>,
    pub(super) bytes: usize,
}

impl Owned {
    fn new(partition: i16, worker: usize, next: i64) -> Self {
        Self {
            partition,
            worker,
            next,
            more: true,
            held: None,
            out: ByteBudget::new(usize::MAX),
            revoked: Arc::default(),
            leaving: None,
            live: (None, None),
        }
    }

    /// Whether to read on.
    pub(super) fn wants_more(&self) -> bool {
        self.more && self.held.is_none() && self.leaving.is_none()
    }

    fn revoke(&mut self) {
        self.revoked.store(true, Ordering::Relaxed);
        self.held = None;
    }
}

/// The partitions that are ours now.
pub(super) struct Ownership {
    pub(super) partitions: Vec<Owned>,
    workers: usize,
    /// The worker each partition was dealt to last, so that it returns there.
    before: Vec<Option<usize>>,
    delivery: Arc<DeliveryPositions>,
}

impl Ownership {
    pub(super) fn new(workers: usize, delivery: Arc<DeliveryPositions>) -> Self {
        Self {
            partitions: Vec::new(),
            workers: workers.max(1),
            before: vec![None; usize::from(PARTITIONS.unsigned_abs())],
            delivery,
        }
    }

    /// Hands over partitions beyond the fair share, acquires free ones up to it. True if something
    /// changed.
    pub(super) async fn balance(&mut self, lease: &Lease) -> Result<bool, Error> {
        let share = lease.fair_share().await?;
        let before = self.staying();
        let leaving = self.partitions.iter_mut().filter(|p| p.leaving.is_none());
        for owned in leaving.skip(share) {
            tracing::info!(
                log.partition = owned.partition,
                "a partition of the postgres log is handed over"
            );
            owned.leaving = Some(Instant::now());
            owned.revoke();
        }
        let mut changed = self.release(lease).await?;
        for partition in self.free() {
            if self.staying() >= share {
                break;
            }
            if let Some(acquired) = lease.acquire(partition).await? {
                let (number, stored) = (i32::from(partition), acquired.stored);
                // What is delivered was stored before, unless the database was put back meanwhile.
                if !acquired.returned || stored < self.delivery.next(number) {
                    self.delivery.taken_over(number, stored, acquired.behind);
                }
                let worker = self.deal(partition);
                self.partitions
                    .push(Owned::new(partition, worker, acquired.stored));
                changed = true;
            }
        }
        if changed {
            let partitions: Vec<i16> = self.partitions.iter().map(|p| p.partition).collect();
            tracing::info!(
                ?partitions,
                share,
                before,
                "partitions of the postgres log assigned"
            );
        }
        Ok(changed)
    }

    fn staying(&self) -> usize {
        let staying = self.partitions.iter().filter(|p| p.leaving.is_none());
        staying.count()
    }

    /// Releases what leaves and has nothing out any more, or has had its time.
    async fn release(&mut self, lease: &Lease) -> Result<bool, Error> {
        let ready = |owned: &Owned| {
            let done = owned.out.used() == 0;
            owned
                .leaving
                .is_some_and(|at| done || at.elapsed() >= HAND_OVER)
        };
        let ready: Vec<i16> = self
            .partitions
            .iter()
            .filter(|owned| ready(owned))
            .map(|owned| owned.partition)
            .collect();
        if ready.is_empty() {
            return Ok(false);
        }
        let live = |partition: &i16| {
            let partition = i32::from(*partition);
            Some((partition, self.delivery.live(partition)?))
        };
        let live: Vec<_> = ready.iter().filter_map(live).collect();
        lease.write_live(&live).await?;
        for partition in ready {
            lease.release(partition).await?;
            self.partitions.retain(|owned| owned.partition != partition);
        }
        Ok(true)
    }

    /// Writes the positions of delivery of partitions that are idle since the last call, or of all:
    /// under load the storing transactions do.
    pub(super) async fn write_live(&mut self, lease: &Lease, all: bool) -> Result<(), Error> {
        let mut idle = Vec::new();
        for owned in &mut self.partitions {
            let partition = i32::from(owned.partition);
            let live = self.delivery.live(partition);
            let (seen, written) = owned.live;
            owned.live.0 = live;
            if let Some(live) = live
                && (all || seen == Some(live) && written != Some(live))
            {
                owned.live.1 = Some(live);
                idle.push((partition, live));
            }
        }
        if idle.is_empty() && !all {
            return Ok(());
        }
        lease.write_live(&idle).await
    }

    fn free(&self) -> Vec<i16> {
        (0..PARTITIONS)
            .filter(|partition| {
                self.partitions
                    .iter()
                    .all(|owned| owned.partition != *partition)
            })
            .collect()
    }

    /// The worker with the fewest partitions, or the one it had before if that is no worse by more
    /// than one.
    fn deal(&mut self, partition: i16) -> usize {
        let mut load = vec![0_usize; self.workers];
        for owned in &self.partitions {
            load[owned.worker] += 1;
        }
        let least = load.iter().min().copied().unwrap_or(0);
        let index = usize::from(partition.unsigned_abs());
        let worker = match self.before[index] {
            Some(before) if load[before] <= least + 1 => before,
            _ => load.iter().position(|count| *count == least).unwrap_or(0),
        };
        self.before[index] = Some(worker);
        worker
    }

    /// Reads a partition again from that offset; what was handed out is taken back.
    pub(super) fn seek(&mut self, partition: i16, offset: i64) {
        let of = |owned: &&mut Owned| owned.partition == partition && owned.leaving.is_none();
        if let Some(owned) = self.partitions.iter_mut().find(of) {
            owned.revoke();
            owned.revoked = Arc::default();
            owned.next = offset;
            owned.more = true;
        }
    }

    /// Takes back what was handed out of every partition.
    pub(super) fn revoke_all(&mut self) {
        self.partitions.iter_mut().for_each(Owned::revoke);
    }

    /// All partitions are lost.
    pub(super) fn clear(&mut self) {
        self.revoke_all();
        self.partitions.clear();
    }

    /// Every partition may have something new.
    pub(super) fn look_everywhere(&mut self) {
        for owned in &mut self.partitions {
            owned.more = true;
        }
    }

    /// Bytes read and waiting for room.
    pub(super) fn held_bytes(&self) -> usize {
        let held = self
            .partitions
            .iter()
            .filter_map(|owned| owned.held.as_ref());
        held.map(|held| held.bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn partitions_spread_over_the_workers_and_return_to_theirs() {
        let delivery = Arc::new(DeliveryPositions::new(Uuid::nil(), false));
        let mut ours = Ownership::new(3, delivery);
        for partition in (0..PARTITIONS).step_by(2) {
            let worker = ours.deal(partition);
            ours.partitions.push(Owned::new(partition, worker, 0));
        }
        let load = |ours: &Ownership, worker| {
            let of = ours.partitions.iter().filter(|p| p.worker == worker);
            of.count()
        };
        assert_eq!([load(&ours, 0), load(&ours, 1), load(&ours, 2)], [3, 3, 2]);
        let gone = ours.partitions.remove(4);
        assert_eq!(ours.deal(gone.partition), gone.worker);
    }
}
