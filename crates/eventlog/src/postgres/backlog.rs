//! How much waits in the log: for the gauges and for /ready, and nothing else may wait for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use store::LogThrottle;
use store::log::Counter;
use store::timeout::{with_timeout, with_timeout_of};
use store::{Database, Error};

use super::handle::Shared;

/// The shortest and the longest pause between two counts.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// Between the two, counting may take this part of the time.
const SHARE: u32 = 20;
/// When the server is no longer waited for; before that it gives up counting by itself.
const LIMIT: Duration = Duration::from_secs(90);

/// For ever: counts what waits, on a connection of its own. What cannot be counted keeps the figures
/// it had.
pub(super) async fn count(db: Database, shared: Arc<Shared>) {
    let mut complaint = LogThrottle::default();
    let mut complain = |error: Error| {
        // The consumer itself reports a database that cannot be reached.
        if shared.is_connected() && complaint.allows() {
            tracing::warn!(error = %error, "what waits in the postgres log cannot be counted");
        }
    };
    loop {
        let mut counter = match with_timeout(Counter::connect(&db)).await {
            Ok(counter) => Some(counter),
            Err(error) => {
                complain(error);
                tokio::time::sleep(PAUSES.0).await;
                None
            }
        };
        while let Some(connected) = &counter {
            let began = Instant::now();
            match with_timeout_of(LIMIT, connected.count()).await {
                Ok((backlog, partitions)) => {
                    let mut state = shared.state();
                    state.backlog = Some(backlog);
                    state.depths = Some(partitions);
                }
                Err(error) => {
                    complain(error);
                    counter = None;
                }
            }
            let pause = began.elapsed() * SHARE;
            tokio::time::sleep(pause.clamp(PAUSES.0, PAUSES.1)).await;
        }
    }
}
