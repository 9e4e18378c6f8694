//! The event log on PostgreSQL (`event_log`): appended in the order of commits, read partition by
//! partition behind a cursor, removed in the transaction that stores the events.
//! `docs/decisions/0009` says why like this.
//!
//! - [`Appender`] appends; its commit is the acknowledgement.
//! - [`Reader`] reads, [`Lease`] owns partitions, by locks of its session; [`Counter`] counts.

mod append;
mod backlog;
mod headers;
mod lease;
pub(crate) mod locks;
mod partition;
mod read;
mod remove;
mod vacuum;

pub use append::{Appender, NewRow};
pub use backlog::{Backlog, Counter};
pub use headers::{pack_headers, unpack_headers};
pub use lease::Lease;
pub use partition::{LogPosition, PARTITIONS, partition_of};
pub use read::{Cursor, Reader, Row};
pub use remove::left;
pub(crate) use remove::{prepare, remove};
pub use vacuum::vacuum;
