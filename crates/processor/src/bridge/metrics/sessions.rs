//! How many sessions were active lately (S2-62).

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

/// How long a session counts as active after its last event, at least.
const ACTIVE: Duration = Duration::from_secs(300);
/// Sessions that are counted within that time.
const SESSIONS: usize = 100_000;

/// Hashes of the sessions seen lately, in two generations, of which the older is forgotten.
#[derive(Debug)]
pub(super) struct Sessions {
    hasher: RandomState,
    current: HashSet<u64>,
    last: HashSet<u64>,
    turned: Instant,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            current: HashSet::new(),
            last: HashSet::new(),
            turned: Instant::now(),
        }
    }
}

impl Sessions {
    pub(super) fn see(&mut self, session_id: &str) {
        self.turn();
        if self.current.len() < SESSIONS {
            self.current.insert(self.hasher.hash_one(session_id));
        }
    }

    pub(super) fn count(&mut self) -> usize {
        self.turn();
        self.current.union(&self.last).count()
    }

    fn turn(&mut self) {
        if self.turned.elapsed() >= ACTIVE {
            self.last = std::mem::take(&mut self.current);
            self.turned = Instant::now();
        }
    }
}
