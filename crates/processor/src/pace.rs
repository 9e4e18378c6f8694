//! How long a batch waits for company: not at all while little comes, longer the more comes.

use std::time::Duration;

use tokio::time::Instant;

/// The rate is an average that forgets within about this time.
const MEMORY: Duration = Duration::from_millis(500);
/// Records a second of one worker up to which every batch is written at once.
const QUIET: f64 = 50.0;
/// Records a second from which on batches are the whole interval apart.
const BUSY: f64 = 400.0;

/// Paces the batches of one worker. Each commit, and each announcement that follows, costs as much
/// as some hundred records; a reader does not notice some milliseconds.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: f64,
    last: Instant,
}

impl Pace {
    /// The pace of a task that has had nothing to do.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self {
            rate: 0.0,
            last: Instant::now(),
        }
    }

    /// Until when the next batch waits for more records, where under load they are `interval` apart. In the
    /// past while little comes.
    #[must_use]
    pub(crate) fn due(&self, interval: Duration) -> Instant {
        let load = ((self.rate - QUIET) / (BUSY - QUIET)).clamp(0.0, 1.0);
        self.last + interval.mul_f64(load)
    }

    /// A batch of so many records goes on now.
    pub(crate) fn took(&mut self, records: usize) {
        let now = Instant::now();
        let passed = now.duration_since(self.last).as_secs_f64() / MEMORY.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
        let records = records as f64;
        self.rate = self.rate * (-passed).exp() + records / MEMORY.as_secs_f64();
        self.last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(40);

    /// What the batches wait for, at `rate` records a second that come one by one, after two seconds.
    async fn wait_at(rate: u32) -> Duration {
        let mut pace = Pace::new();
        let (each, end) = (Duration::from_secs(1) / rate, Instant::now() + 4 * MEMORY);
        while Instant::now() < end {
            let (due, mut records) = (pace.due(INTERVAL), 0);
            while records == 0 || Instant::now() < due {
                tokio::time::sleep(each).await;
                records += 1;
            }
            pace.took(records);
        }
        pace.due(INTERVAL).saturating_duration_since(Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn waits_the_longer_the_more_comes() {
        assert_eq!(wait_at(1).await, Duration::ZERO);
        assert_eq!(wait_at(40).await, Duration::ZERO);
        let some = wait_at(200).await;
        assert!(Duration::ZERO < some && some < INTERVAL, "{some:?}");
        assert_eq!(wait_at(1_000).await, INTERVAL);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_after_a_pause_does_not_wait() {
        let mut pace = Pace::new();
        pace.took(100_000);
        assert_eq!(pace.due(INTERVAL) - Instant::now(), INTERVAL);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(pace.due(INTERVAL) < Instant::now());
    }
}
