//! The event log on PostgreSQL (`event_log`): appended in the order of commits, read partition by
//! partition from its stored position, deleted in the transaction that stores the events.
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
mod vacuum;

pub(crate) use append::append_with;
pub use append::{Appender, NewRow};
pub use backlog::{Backlog, Counter};
pub use headers::{pack_headers, unpack_headers};
pub use lease::{Acquired, Lease};
pub use partition::{LOG, LogPosition, PARTITIONS, partition_of};
#[doc(hidden)]
pub use read::READ;
pub use read::{Cursor, Reader, Row};
pub use vacuum::vacuum;
