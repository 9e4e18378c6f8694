//! What is read again because the database was put back: for people.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eventlog::PartitionLag;

use super::plan::Partition;

/// The rewinds that go on. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct Rewinds(Arc<Mutex<BTreeMap<Partition, Rewind>>>);

/// The offsets of a partition that are read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rewind {
    from: i64,
    to: i64,
    /// Everything below is stored again.
    at: i64,
}

impl Rewinds {
    fn table(&self) -> MutexGuard<'_, BTreeMap<Partition, Rewind>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A partition is read again, `from` the stored position up `to` where it stood before.
    pub(super) fn begin(&self, partition: &Partition, from: i64, to: i64) {
        tracing::warn!(
            log.topic = &*partition.0,
            log.partition = partition.1,
            from,
            to,
            "the database is behind the log's consumer group: reading again"
        );
        let rewind = Rewind { from, to, at: from };
        self.table().insert(partition.clone(), rewind);
    }

    /// Takes how far the assigned partitions are. What is caught up, or no longer assigned, ends.
    pub(super) fn observe(&self, lag: &[PartitionLag]) {
        self.table().retain(|(topic, partition), rewind| {
            let of = |lag: &&PartitionLag| lag.partition == *partition && lag.topic == *topic;
            let Some(lag) = lag.iter().find(of) else {
                return false;
            };
            rewind.at = lag.done.unwrap_or(rewind.at);
            let goes_on = rewind.at < rewind.to;
            if !goes_on {
                let Rewind { from, to, .. } = *rewind;
                tracing::info!(
                    log.topic = &**topic,
                    log.partition = partition,
                    from,
                    to,
                    "caught up with the log"
                );
            }
            goes_on
        });
    }

    /// How many offsets are still to be read again.
    #[must_use]
    pub fn records(&self) -> i64 {
        self.table()
            .values()
            .map(|rewind| rewind.to - rewind.at)
            .sum()
    }

    /// In words; `None` while nothing is read again.
    #[must_use]
    pub fn shown(&self) -> Option<String> {
        let table = self.table();
        let shown = table.iter().map(|((topic, partition), rewind)| {
            let Rewind { from, to, at } = rewind;
            format!("{topic}/{partition} from {from} to {to}, at {at}")
        });
        let shown: Vec<String> = shown.collect();
        (!shown.is_empty()).then(|| shown.join("; "))
    }
}
