//! Time partitions: ahead of time by the clock, and on demand for what a batch brings.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use store::partitions::{Interval, Period, ensure};
use store::{Database, Error};

/// Makes partitions and remembers which are there. Clones share what they know.
#[derive(Clone)]
pub struct Partitions {
    db: Database,
    interval: Interval,
    ahead: usize,
    known: Arc<Mutex<HashSet<Period>>>,
}

impl Partitions {
    /// Partitions of that interval, `ahead` of them beyond the current one.
    #[must_use]
    pub fn new(db: Database, interval: Interval, ahead: usize) -> Self {
        Self {
            db,
            interval,
            ahead,
            known: Arc::default(),
        }
    }

    /// How much time one partition holds.
    #[must_use]
    pub fn interval(&self) -> Interval {
        self.interval
    }

    /// Makes sure that each of the periods has a partition, unless it is older than those that get
    /// one of their own.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn cover(&self, periods: &BTreeSet<Period>) -> Result<(), Error> {
        let unknown: Vec<Period> = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            periods
                .iter()
                .copied()
                .filter(|period| !known.contains(period))
                .collect()
        };
        if unknown.is_empty() {
            return Ok(());
        }
        let now = service::clock::now();
        let oldest = self.interval.oldest(now);
        let latest = self.interval.upcoming(now, self.ahead + 1).pop();
        let wanted: Vec<Period> = unknown
            .iter()
            .copied()
            .filter(|period| *period >= oldest && latest.is_some_and(|latest| *period <= latest))
            .collect();
        let made = ensure(&self.db, self.interval, &wanted).await?;
        if !made.is_empty() {
            tracing::info!(partitions = ?made, "partitions made");
        }
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(unknown);
        Ok(())
    }

    /// Makes the current partition and those ahead of it.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn make_ahead(&self) -> Result<(), Error> {
        let periods = self.interval.upcoming(service::clock::now(), self.ahead);
        self.cover(&periods.into_iter().collect()).await
    }

    /// Keeps making them, every hour and soon again after a failure, until dropped.
    pub async fn keep_ahead(self) {
        loop {
            let pause = match self.make_ahead().await {
                Ok(()) => Duration::from_secs(3_600),
                Err(error) => {
                    tracing::warn!(error = %error, "partitions could not be made ahead");
                    Duration::from_secs(10)
                }
            };
            tokio::time::sleep(pause).await;
        }
    }
}
