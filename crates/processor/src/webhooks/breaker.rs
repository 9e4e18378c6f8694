//! The breaker of one endpoint. Pure: the moment comes in.

use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row that open it.
const THRESHOLD: u32 = 10;
/// How long it is open at first; then twice as long each time, at most that.
const PAUSE: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Counts failures in a row. Open, it lets nothing through; after a pause, one call at a time until one
/// succeeds.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures: u32,
    open_until: Option<Instant>,
    pause: Duration,
    /// What the last call told, and the database knows: whether deliveries fail.
    pub(super) failing: Option<bool>,
}

impl Breaker {
    /// How many calls there may be at a time.
    pub(super) fn room(&self, now: Instant, concurrency: usize) -> usize {
        match self.open_until {
            None => concurrency,
            Some(until) if until > now => 0,
            Some(_) => 1,
        }
    }

    pub(super) fn succeeded(&mut self) {
        *self = Self {
            failing: Some(false),
            ..Self::default()
        };
    }

    /// Returns how long nothing is let through, if that begins now.
    pub(super) fn failed(&mut self, now: Instant) -> Option<Duration> {
        self.failing = Some(true);
        self.failures += 1;
        let closed = self.open_until.is_none_or(|until| until <= now);
        if self.failures < THRESHOLD || !closed {
            return None;
        }
        self.pause = (self.pause * 2).clamp(PAUSE, MAX_PAUSE);
        self.open_until = Some(now + self.pause);
        Some(self.pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_open_it_and_a_success_closes_it() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut breaker = Breaker::default();
        for _ in 1..THRESHOLD {
            assert_eq!(breaker.failed(at(0)), None);
            assert_eq!(breaker.room(at(0), 8), 8);
        }
        assert_eq!(breaker.failed(at(0)), Some(PAUSE));
        // Those that were under way end too.
        assert_eq!(breaker.failed(at(1)), None);
        assert_eq!((breaker.room(at(4), 8), breaker.room(at(5), 8)), (0, 1));
        assert_eq!(breaker.failed(at(6)), Some(PAUSE * 2));
        assert_eq!((breaker.room(at(15), 8), breaker.room(at(16), 8)), (0, 1));
        for _ in 0..9 {
            let _ = breaker.failed(at(10_000));
        }
        breaker.succeeded();
        assert_eq!(breaker.room(at(16), 8), 8);
        for _ in 1..THRESHOLD {
            assert_eq!(breaker.failed(at(17)), None);
        }
        breaker.succeeded();
        assert_eq!(breaker.failed(at(18)), None, "not in a row");
    }
}
