//! Which lanes of the log are ours, and how far each was read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use store::Error;
use store::log::{LANES, Member};

use crate::Record;

/// How long a lane that is given away waits for its records to be stored. Not waiting would double
/// work, never events.
const PARTING: Duration = Duration::from_secs(3);

/// One lane of the log while it is ours.
pub(super) struct Owned {
    pub(super) lane: i16,
    /// The lane of the pipeline it is dealt to.
    pub(super) index: usize,
    /// The number of the last row read; 0 for none yet.
    pub(super) after: i64,
    /// There may be more to read.
    pub(super) more: bool,
    /// Read already, but its pipeline lane has no room.
    pub(super) held: Option<Held>,
    /// Bytes handed out whose permits still exist.
    pub(super) out: Arc<AtomicUsize>,
    pub(super) revoked: Arc<AtomicBool>,
    /// It is another's to have; since when.
    leaving: Option<Instant>,
}

/// Records on their way to a pipeline lane.
pub(super) struct Held {
    pub(super) records: Vec<Record>,
    pub(super) bytes: usize,
}

impl Owned {
    fn new(lane: i16, index: usize) -> Self {
        Self {
            lane,
            index,
            after: 0,
            more: true,
            held: None,
            out: Arc::default(),
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

/// The lanes that are ours now.
pub(super) struct Ownership {
    pub(super) lanes: Vec<Owned>,
    /// Lanes of the pipeline.
    count: usize,
    /// The pipeline lane each lane was dealt to last, so that it returns to it.
    before: Vec<Option<usize>>,
}

impl Ownership {
    pub(super) fn new(count: usize) -> Self {
        Self {
            lanes: Vec::new(),
            count: count.max(1),
            before: vec![None; usize::from(LANES.unsigned_abs())],
        }
    }

    /// Gives up more lanes than our fair share, takes free ones up to it. True if something changed.
    pub(super) async fn balance(&mut self, member: &Member) -> Result<bool, Error> {
        let share = member.share().await?;
        let mut changed = false;
        let staying = self.lanes.iter().filter(|l| l.leaving.is_none()).count();
        let leaving = self.lanes.iter_mut().filter(|l| l.leaving.is_none());
        for lane in leaving.skip(share) {
            tracing::info!(lane = lane.lane, "lane of the postgres log given up");
            lane.leaving = Some(Instant::now());
            lane.revoke();
        }
        // Only a lane that has nothing out any more, or has had its time, changes hands.
        let parted = |lane: &Owned| {
            let done = lane.out.load(Ordering::SeqCst) == 0;
            lane.leaving
                .is_some_and(|at| done || at.elapsed() >= PARTING)
        };
        while let Some(at) = self.lanes.iter().position(parted) {
            member.give(self.lanes[at].lane).await?;
            self.lanes.remove(at);
            changed = true;
        }
        for lane in self.free() {
            if self.lanes.iter().filter(|l| l.leaving.is_none()).count() >= share {
                break;
            }
            if member.take(lane).await? {
                let index = self.deal(lane);
                self.lanes.push(Owned::new(lane, index));
                changed = true;
            }
        }
        if changed {
            let lanes: Vec<i16> = self.lanes.iter().map(|l| l.lane).collect();
            tracing::info!(?lanes, share, before = staying, "lanes of the postgres log");
        }
        Ok(changed)
    }

    fn free(&self) -> Vec<i16> {
        (0..LANES)
            .filter(|lane| self.lanes.iter().all(|owned| owned.lane != *lane))
            .collect()
    }

    /// The pipeline lane with the fewest lanes, or the one it had before if that is no worse by more
    /// than one.
    fn deal(&mut self, lane: i16) -> usize {
        let mut load = vec![0_usize; self.count];
        for owned in &self.lanes {
            load[owned.index] += 1;
        }
        let least = load.iter().min().copied().unwrap_or(0);
        let place = usize::from(lane.unsigned_abs());
        let index = match self.before[place] {
            Some(before) if load[before] <= least + 1 => before,
            _ => load.iter().position(|count| *count == least).unwrap_or(0),
        };
        self.before[place] = Some(index);
        index
    }

    /// All lanes are lost, or given up.
    pub(super) fn clear(&mut self) {
        self.lanes.iter_mut().for_each(Owned::revoke);
        self.lanes.clear();
    }

    /// Every lane may have something new.
    pub(super) fn look_everywhere(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.more = true);
    }

    /// Bytes read and waiting for room.
    pub(super) fn held_bytes(&self) -> usize {
        let held = self.lanes.iter().filter_map(|lane| lane.held.as_ref());
        held.map(|held| held.bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_spread_over_the_pipeline_and_return_to_their_place() {
        let mut ours = Ownership::new(3);
        for lane in (0..LANES).step_by(2) {
            let index = ours.deal(lane);
            ours.lanes.push(Owned::new(lane, index));
        }
        let load = |ours: &Ownership, index| ours.lanes.iter().filter(|l| l.index == index).count();
        assert_eq!([load(&ours, 0), load(&ours, 1), load(&ours, 2)], [3, 3, 2]);
        let gone = ours.lanes.remove(4);
        assert_eq!(ours.deal(gone.lane), gone.index);
    }
}
