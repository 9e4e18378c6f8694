//! The partitions of `events` in the background: made ahead, dropped by retention. Storing never waits
//! for it.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use store::partitions::{Ahead, Obstacle, Policy, make_ahead, retention};
use store::{Database, Error};
use time::OffsetDateTime;

use crate::metrics::StateMetrics;
use crate::state::Detail;

/// Between two looks while all is well.
const LOOK: Duration = Duration::from_secs(60);
/// Between two runs of retention.
const RETENTION: Duration = Duration::from_secs(3_600);

/// Keeps the partitions.
pub(crate) struct Partitions {
    db: Database,
    policy: Policy,
    state: Detail,
    metrics: StateMetrics,
}

impl Partitions {
    pub(crate) fn new(db: Database, policy: Policy, state: Detail, metrics: StateMetrics) -> Self {
        Self {
            db,
            policy,
            state,
            metrics,
        }
    }

    /// Keeps making and dropping them until dropped itself.
    pub(crate) async fn keep(self) {
        let soon = ExponentialBuilder::new()
            .with_min_delay(Duration::from_secs(1))
            .with_max_delay(LOOK)
            .without_max_times();
        let mut pauses = soon.build();
        let mut removed: Option<Instant> = None;
        loop {
            let now = service::clock::now();
            let ahead = make_ahead(&self.db, &self.policy, now).await;
            let is_well = self.report(&ahead);
            if let Some(keep) = self.policy.keep
                && removed.is_none_or(|at| at.elapsed() >= RETENTION)
                && self.remove(retention::cut(now, keep)).await
            {
                removed = Some(Instant::now());
            }
            if is_well {
                pauses = soon.build();
                tokio::time::sleep(LOOK).await;
            } else {
                tokio::time::sleep(pauses.next().unwrap_or(LOOK)).await;
            }
        }
    }

    /// Says what was found; true if nothing is left to do.
    fn report(&self, ahead: &Result<Ahead, Error>) -> bool {
        let ahead = match ahead {
            Ok(ahead) => ahead,
            Err(error) => {
                tracing::warn!(error = %error, "partitions could not be looked at");
                return false;
            }
        };
        if !ahead.made.is_empty() {
            tracing::info!(partitions = ?ahead.made, "partitions made");
        }
        let until = match ahead.until {
            Some(at) => {
                self.metrics.partitions_until.set(at.unix_timestamp());
                format!("made until {}", at.date())
            }
            None => "kept by another process".to_owned(),
        };
        match ahead.obstacle {
            None | Some(Obstacle::Busy) => {
                self.state.set(&until);
                true
            }
            Some(Obstacle::Locked) => {
                self.metrics.partition_lock_timeouts.inc();
                tracing::warn!(
                    "a partition was not made: another transaction holds a lock on events; storing \
                     goes on, it will be tried again"
                );
                self.state
                    .set(&format!("{until}; waiting for a lock on events"));
                false
            }
            Some(Obstacle::NotAllowed) => {
                let detail = format!(
                    "down: this role may not create tables or does not own events; {until}, later \
                     events go to the default partition"
                );
                if self.state.set(&detail) {
                    tracing::warn!(
                        "partitions are not made: this role may not create tables, or does not own \
                         events; storing goes on, into the default partition"
                    );
                }
                true
            }
        }
    }

    async fn remove(&self, cut: OffsetDateTime) -> bool {
        match retention::apply(&self.db, cut).await {
            Ok(removed) => {
                if removed != retention::Removed::default() {
                    tracing::info!(
                        before = %cut, partitions = ?removed.partitions, rows = removed.rows,
                        ids = removed.ids, "old events removed; their counts stay"
                    );
                }
                true
            }
            Err(error) => {
                tracing::warn!(error = %error, "old events not removed yet, it will be tried again");
                false
            }
        }
    }
}
