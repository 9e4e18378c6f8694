//! How long those who work beside the storing rest after a piece of work, so that storing goes first: one
//! tenth of one connection's time is theirs while a lot is stored, and more for whoever falls far behind
//! (docs/decisions/0043).

use std::time::Duration;

use tokio::time::Instant;

/// Records stored a second from which on storing goes first.
const BUSY: f64 = 1_000.0;
/// Rests for each time of work, while a lot is stored and otherwise.
const LONG: f64 = 9.0;
const SHORT: f64 = 0.5;

/// How far behind somebody may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Up to here the rests are long.
    late: Duration,
    /// From here on they are as if nothing were stored.
    too_late: Duration,
}

/// Of what people look for later.
pub(crate) const MINUTES: Patience = Patience {
    late: Duration::from_secs(30),
    too_late: Duration::from_secs(300),
};

/// Of what follows from an event.
pub(crate) const SECONDS: Patience = Patience {
    late: Duration::from_secs(3),
    too_late: Duration::from_secs(30),
};

/// What is stored, as somebody sees it who looks from time to time.
#[derive(Debug)]
pub(crate) struct Storing {
    records: i64,
    seen: Instant,
    is_busy: bool,
}

impl Storing {
    /// At first nothing is known.
    pub(crate) fn new() -> Self {
        Self {
            records: i64::MAX,
            seen: Instant::now(),
            is_busy: false,
        }
    }

    /// Notes how many records were stored so far; returns whether there are more than before.
    pub(crate) fn look(&mut self, records: i64) -> bool {
        let now = Instant::now();
        let passed = now.duration_since(self.seen).as_secs_f64().max(0.001);
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let more = records.saturating_sub(self.records) as f64;
        let is_more = self.records != records;
        self.is_busy = more / passed >= BUSY;
        (self.records, self.seen) = (records, now);
        is_more
    }

    /// The rest after work that took so long, of somebody who is `behind` the storing.
    pub(crate) fn rest(&self, took: Duration, behind: Duration, patience: Patience) -> Duration {
        if !self.is_busy {
            return took.mul_f64(SHORT);
        }
        let span = (patience.too_late - patience.late).as_secs_f64();
        let late = behind.saturating_sub(patience.late).as_secs_f64() / span;
        took.mul_f64(LONG + (SHORT - LONG) * late.min(1.0))
    }

    /// Whether storing goes first now.
    pub(crate) fn is_busy(&self) -> bool {
        self.is_busy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: Duration = Duration::from_millis(100);

    #[tokio::test(start_paused = true)]
    async fn storing_goes_first_until_somebody_is_too_late() {
        let mut storing = Storing::new();
        let short = WORK.mul_f64(SHORT);
        assert!(storing.look(1_000_000), "the first look tells nothing");
        assert_eq!(storing.rest(WORK, Duration::ZERO, MINUTES), short);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(storing.look(1_002_000));
        assert_eq!(
            storing.rest(WORK, Duration::from_secs(20), MINUTES),
            9 * WORK
        );
        let late = storing.rest(WORK, Duration::from_secs(165), MINUTES);
        assert!(short < late && late < 5 * WORK, "{late:?}");
        assert_eq!(storing.rest(WORK, Duration::from_secs(900), MINUTES), short);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(storing.look(1_002_900));
        assert_eq!(
            storing.rest(WORK, Duration::ZERO, MINUTES),
            short,
            "that is not a lot"
        );
        assert!(!storing.look(1_002_900));
    }
}
