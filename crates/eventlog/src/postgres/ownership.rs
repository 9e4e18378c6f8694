//! Which partitions of the log are ours, and how far each was read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use store::Error;
use store::log::{Lease, PARTITIONS};

use crate::Record;
use crate::byte_budget::ByteBudget;

/// How long a partition that is given away waits for its records to be stored. Not waiting would double
/// work, never events.
const PARTING: Duration = Duration::from_secs(3);

/// One partition of the log while it is ours.
pub(super) struct Owned {
    pub(super) partition: i16,
    /// The worker it is dealt to.
    pub(super) index: usize,
    /// The number of the last row read; 0 for none yet.
    pub(super) after: i64,
    /// There may be more to read.
    pub(super) more: bool,
    /// Read already, but its worker has no room.
    pub(super) held: Option<Held>,
    /// Bytes handed out whose permits still exist.
    pub(super) out: Arc<ByteBudget>,
    pub(super) revoked: Arc<AtomicBool>,
    /// It is another's to have; since when.
    leaving: Option<Instant>,
}

/// Records on their way to a worker.
pub(super) struct Held {
    pub(super) records: Vec<Record>,
    pub(super) bytes: usize,
}

impl Owned {
    fn new(partition: i16, index: usize) -> Self {
        Self {
            partition,
            index,
            after: 0,
            more: true,
            held: None,
            out: ByteBudget::new(usize::MAX),
            revoked: Arc::default(),
            leaving: None,
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
    /// workers.
    count: usize,
    /// The worker each partition was dealt to last, so that it returns to it.
    before: Vec<Option<usize>>,
}

impl Ownership {
    pub(super) fn new(count: usize) -> Self {
        Self {
            partitions: Vec::new(),
            count: count.max(1),
            before: vec![None; usize::from(PARTITIONS.unsigned_abs())],
        }
    }

    /// Gives up more partitions than our fair share, takes free ones up to it. True if something changed.
    pub(super) async fn balance(&mut self, lease: &Lease) -> Result<bool, Error> {
        let share = lease.fair_share().await?;
        let mut changed = false;
        let staying = self
            .partitions
            .iter()
            .filter(|l| l.leaving.is_none())
            .count();
        let leaving = self.partitions.iter_mut().filter(|l| l.leaving.is_none());
        for partition in leaving.skip(share) {
            tracing::info!(
                partition = partition.partition,
                "partition of the postgres log given up"
            );
            partition.leaving = Some(Instant::now());
            partition.revoke();
        }
        // Only a partition that has nothing out any more, or has had its time, changes hands.
        let parted = |partition: &Owned| {
            let done = partition.out.used() == 0;
            partition
                .leaving
                .is_some_and(|at| done || at.elapsed() >= PARTING)
        };
        while let Some(at) = self.partitions.iter().position(parted) {
            lease.release(self.partitions[at].partition).await?;
            self.partitions.remove(at);
            changed = true;
        }
        for partition in self.free() {
            if self
                .partitions
                .iter()
                .filter(|l| l.leaving.is_none())
                .count()
                >= share
            {
                break;
            }
            if lease.acquire(partition).await? {
                let index = self.deal(partition);
                self.partitions.push(Owned::new(partition, index));
                changed = true;
            }
        }
        if changed {
            let partitions: Vec<i16> = self.partitions.iter().map(|l| l.partition).collect();
            tracing::info!(
                ?partitions,
                share,
                before = staying,
                "partitions of the postgres log"
            );
        }
        Ok(changed)
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
        let mut load = vec![0_usize; self.count];
        for owned in &self.partitions {
            load[owned.index] += 1;
        }
        let least = load.iter().min().copied().unwrap_or(0);
        let place = usize::from(partition.unsigned_abs());
        let index = match self.before[place] {
            Some(before) if load[before] <= least + 1 => before,
            _ => load.iter().position(|count| *count == least).unwrap_or(0),
        };
        self.before[place] = Some(index);
        index
    }

    /// All partitions are lost, or given up.
    pub(super) fn clear(&mut self) {
        self.partitions.iter_mut().for_each(Owned::revoke);
        self.partitions.clear();
    }

    /// Every partition may have something new.
    pub(super) fn look_everywhere(&mut self) {
        self.partitions
            .iter_mut()
            .for_each(|partition| partition.more = true);
    }

    /// Bytes read and waiting for room.
    pub(super) fn held_bytes(&self) -> usize {
        let held = self
            .partitions
            .iter()
            .filter_map(|partition| partition.held.as_ref());
        held.map(|held| held.bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_spread_over_the_pipeline_and_return_to_their_place() {
        let mut ours = Ownership::new(3);
        for partition in (0..PARTITIONS).step_by(2) {
            let index = ours.deal(partition);
            ours.partitions.push(Owned::new(partition, index));
        }
        let load =
            |ours: &Ownership, index| ours.partitions.iter().filter(|l| l.index == index).count();
        assert_eq!([load(&ours, 0), load(&ours, 1), load(&ours, 2)], [3, 3, 2]);
        let gone = ours.partitions.remove(4);
        assert_eq!(ours.deal(gone.partition), gone.index);
    }
}
