//! Limits how often a lasting condition is logged.

use std::time::{Duration, Instant};

/// Shortest time between two log lines of one throttle.
const INTERVAL: Duration = Duration::from_secs(10);

/// Allows the first log line at once, then one every ten seconds.
#[derive(Debug, Default)]
pub struct LogThrottle {
    last: Option<Instant>,
}

impl LogThrottle {
    /// Whether a line may be logged now; if so, the next ten seconds are silent.
    pub fn allows(&mut self) -> bool {
        self.allows_at(Instant::now())
    }

    fn allows_at(&mut self, now: Instant) -> bool {
        let allowed = self.last.is_none_or(|last| now >= last + INTERVAL);
        if allowed {
            self.last = Some(now);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_passes_and_then_one_every_ten_seconds() {
        let (mut throttle, start) = (LogThrottle::default(), Instant::now());
        let allowed = |second: u64| throttle.allows_at(start + Duration::from_secs(second));
        let allowed: Vec<bool> = [0, 1, 9, 10, 11, 30].into_iter().map(allowed).collect();
        assert_eq!(allowed, [true, false, false, true, false, true]);
    }
}
