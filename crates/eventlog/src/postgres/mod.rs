//! The event log over PostgreSQL: `store::log` with a publisher's queue before it and workers' queues
//! behind.

mod backlog;
mod backoff;
mod handle;
mod ownership;
mod pending;
mod publisher;
mod source;
mod vacuum;
mod writer;

pub use handle::Handle;
pub use pending::PostgresLogConfig;
pub use publisher::PostgresLog;
pub use source::PostgresSource;
