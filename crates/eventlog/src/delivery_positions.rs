//! Up to where listeners have what is stored.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

/// Up to where a consumer has delivered to listeners what it stored, by partition. A storing
/// transaction writes these positions beside the stored ones, so that a crash between its commit and
/// the delivery shows.
#[derive(Debug)]
pub struct DeliveryPositions {
    owner: Uuid,
    tracked: bool,
    partitions: Mutex<HashMap<i32, Partition>>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Partition {
    /// Everything below is delivered.
    next: i64,
    /// Listeners may miss something below this, and do not know it yet.
    gap: Option<i64>,
}

/// A partition whose listeners may miss what another consumer stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gap {
    partition: i32,
    below: i64,
}

impl DeliveryPositions {
    /// Those of a consumer of that name. Not `tracked`, they are not written: where listeners end
    /// with this process, or there are none.
    pub(crate) fn new(owner: Uuid, tracked: bool) -> Self {
        Self {
            owner,
            tracked,
            partitions: Mutex::default(),
        }
    }

    fn partitions(&self) -> MutexGuard<'_, HashMap<i32, Partition>> {
        self.partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The consumer, as it is named beside the stored position.
    pub fn owner(&self) -> Uuid {
        self.owner
    }

    /// The offset to write for a partition; `None` while it must stay as it is.
    pub fn live(&self, partition: i32) -> Option<i64> {
        let known = self.partitions().get(&partition).copied()?;
        (self.tracked && known.gap.is_none()).then_some(known.next)
    }

    /// Everything below `next` is delivered.
    pub(crate) fn delivered(&self, partition: i32, next: i64) {
        let mut partitions = self.partitions();
        let known = partitions.entry(partition).or_default();
        known.next = known.next.max(next);
    }

    /// The offset after the last record delivered.
    pub(crate) fn next(&self, partition: i32) -> i64 {
        self.partitions().get(&partition).map_or(0, |p| p.next)
    }

    /// The partition comes from another consumer, stored up to that offset, and `behind` if that
    /// consumer did not deliver everything. Or from this one, but with the database of an earlier time.
    pub(crate) fn taken_over(&self, partition: i32, stored: i64, behind: bool) {
        let mut partitions = self.partitions();
        let known = partitions.entry(partition).or_default();
        known.next = stored;
        if behind && self.tracked {
            known.gap = Some(stored);
        }
    }

    /// The gaps that listeners have to know of.
    pub fn gaps(&self) -> Vec<Gap> {
        let gap = |(partition, known): (&i32, &Partition)| {
            Some(Gap {
                partition: *partition,
                below: known.gap?,
            })
        };
        self.partitions().iter().filter_map(gap).collect()
    }

    /// Listeners know of these gaps.
    pub fn gaps_delivered(&self, gaps: impl IntoIterator<Item = Gap>) {
        let mut partitions = self.partitions();
        for gap in gaps {
            if let Some(known) = partitions.get_mut(&gap.partition)
                && known.gap == Some(gap.below)
            {
                known.gap = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_holds_the_position_back_until_listeners_know_of_it() {
        let positions = DeliveryPositions::new(Uuid::nil(), true);
        assert_eq!(positions.live(3), None, "not owned yet");
        positions.taken_over(3, 100, true);
        positions.delivered(3, 120);
        assert_eq!(positions.live(3), None);
        let first = positions.gaps();
        // It changes hands once more before listeners know of the first gap.
        positions.taken_over(3, 150, true);
        positions.gaps_delivered(first);
        assert_eq!(positions.live(3), None);
        positions.gaps_delivered(positions.gaps());
        assert_eq!(positions.live(3), Some(150));
        positions.delivered(3, 110);
        assert_eq!(positions.live(3), Some(150), "never back");
    }

    #[test]
    fn what_is_not_tracked_is_not_written() {
        let positions = DeliveryPositions::new(Uuid::nil(), false);
        positions.taken_over(3, 100, true);
        positions.delivered(3, 120);
        assert_eq!((positions.live(3), positions.next(3)), (None, 120));
        assert_eq!(positions.gaps(), []);
    }
}
