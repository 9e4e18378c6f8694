//! How long those who work beside the storing rest after a piece of work, so that storing goes first: one
//! tenth of one connection's time is theirs while a lot is stored, and more for work that falls far behind
//! (docs/decisions/0043).

use std::time::Duration;

use tokio::time::Instant;

/// Records stored a second from which on storing goes first.
const BUSY: f64 = 1_000.0;
/// The rest for each time of work while a lot is stored.
pub(crate) const LONG: f64 = 9.0;

/// How far behind a kind of work may be, and how long it rests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// The rest for each time of work while little is stored.
    short: f64,
    /// Up to here the rests are long.
    late: Duration,
    /// From here on they are short.
    too_late: Duration,
    /// No rest is longer: what took so long may have been waiting for the database.
    longest: Duration,
}

/// Of what people look for later.
pub(crate) const MINUTES: Patience = Patience {
    short: 0.5,
    late: Duration::from_secs(30),
    too_late: Duration::from_secs(300),
    longest: Duration::from_secs(300),
};

/// Of what follows from an event.
pub(crate) const SECONDS: Patience = Patience {
    short: 0.0,
    late: Duration::from_secs(3),
    too_late: Duration::from_secs(30),
    longest: Duration::from_secs(3),
};

/// What is stored, as seen by a task that looks from time to time.
#[derive(Debug)]
pub(crate) struct Storing {
    /// How much it was at the last look.
    records: Option<i64>,
    seen: Instant,
    is_busy: bool,
}

impl Storing {
    /// At first nothing is known.
    pub(crate) fn new() -> Self {
        Self {
            records: None,
            seen: Instant::now(),
            is_busy: false,
        }
    }

    /// Notes how many records were stored so far; returns whether that is another number than before.
    pub(crate) fn look(&mut self, records: i64) -> bool {
        let now = Instant::now();
        let passed = now.duration_since(self.seen).as_secs_f64().max(0.001);
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let more = self.records.map_or(0, |before| records - before) as f64;
        let is_other = self.records != Some(records);
        self.is_busy = more / passed >= BUSY;
        (self.records, self.seen) = (Some(records), now);
        is_other
    }

    /// The rest after work that took so long, of a task that is `behind` the storing.
    pub(crate) fn rest(&self, took: Duration, behind: Duration, patience: Patience) -> Duration {
        let factor = if self.is_busy {
            let span = (patience.too_late - patience.late).as_secs_f64();
            let late = behind.saturating_sub(patience.late).as_secs_f64() / span;
            LONG + (patience.short - LONG) * late.min(1.0)
        } else {
            patience.short
        };
        took.mul_f64(factor).min(patience.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: Duration = Duration::from_millis(100);

    #[tokio::test(start_paused = true)]
    async fn storing_goes_first_until_the_others_are_too_late() {
        let mut storing = Storing::new();
        let short = WORK / 2;
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
        // After an outage in which it waited for the database, a handler goes on soon.
        let outage = Duration::from_secs(20);
        assert_eq!(
            storing.rest(outage, Duration::ZERO, SECONDS),
            SECONDS.longest
        );
        assert_eq!(
            storing.rest(WORK, SECONDS.too_late, SECONDS),
            Duration::ZERO
        );
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
