//! The event log over PostgreSQL: `store::log` with a publisher's queue before it and lanes behind.

mod counting;
mod handle;
mod ownership;
mod publisher;
mod source;
mod writer;

pub use handle::Handle;
pub use publisher::{PostgresLog, PostgresLogConfig};
pub use source::PostgresSource;

use std::future::Future;
use std::time::Duration;

use store::Error;

/// What the lanes of the log belong to, where Kafka has a topic's name.
pub const LOG: &str = "event_log";

/// Pauses between attempts to connect: 0.1 s, doubled up to 2 s.
struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LAST: Duration = Duration::from_secs(2);

    fn new() -> Self {
        Self(Self::FIRST)
    }

    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(Self::LAST);
        pause
    }
}

/// A statement, or the making of a connection, that takes longer is given up, and the connection with
/// it. Below the time after which the server takes the lanes of a consumer it hears nothing from.
const PATIENCE: Duration = Duration::from_secs(12);

async fn in_time<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    within(PATIENCE, work).await
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(Error::Pool("the server does not answer".to_owned())))
}
