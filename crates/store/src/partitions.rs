//! The partitions of `events` by time: made ahead, dropped by retention. Never by a writer: a row whose
//! partition does not exist goes to the default one.

mod ahead;
mod interval;
mod layout;
mod lock;
mod policy;
pub mod retention;

pub use ahead::{Ahead, Obstacle, make_ahead};
pub use interval::Interval;
pub use layout::{Partition, edges, ranges};
pub use policy::{Policy, TARGET_ROWS};
