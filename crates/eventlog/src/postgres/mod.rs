//! The event log over PostgreSQL: `store::log` with a publisher's queue before it and partitions behind.

mod counting;
mod handle;
mod ownership;
mod publisher;
mod source;
mod writer;

pub use handle::Handle;
pub use publisher::{PostgresLog, PostgresLogConfig};
pub use source::PostgresSource;

use std::time::Duration;

/// What the partitions of the log belong to, where Kafka has a topic's name.
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
