//! Complaints about what goes on for long.

use std::time::{Duration, Instant};

/// How often the same is said.
const EVERY: Duration = Duration::from_secs(10);

/// Lets the first complaint pass, and then one every ten seconds.
#[derive(Debug, Default)]
pub struct Seldom {
    last: Option<Instant>,
}

impl Seldom {
    /// Whether it is to be said now.
    pub fn is_due(&mut self) -> bool {
        self.is_due_at(Instant::now())
    }

    fn is_due_at(&mut self, now: Instant) -> bool {
        let due = self.last.is_none_or(|last| now >= last + EVERY);
        if due {
            self.last = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_at_once_and_others_seldom() {
        let (mut seldom, start) = (Seldom::default(), Instant::now());
        let said = |second: u64| seldom.is_due_at(start + Duration::from_secs(second));
        let said: Vec<bool> = [0, 1, 9, 10, 11, 30].into_iter().map(said).collect();
        assert_eq!(said, [true, false, false, true, false, true]);
    }
}
