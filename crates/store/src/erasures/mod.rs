//! Erasing a user: what is asked for and what became of it, the places that are erased, and what keeps
//! the erased from coming back when a log is read again (docs/decisions/0026).

mod counts;
mod events;
mod remains;
mod requests;
mod tombstones;

pub use events::{count, events};
pub use remains::{Left, handed_to, left, log_waits, remains};
pub use requests::{Erasure, State, begin, claim, complete, list, wait};
pub(crate) use tombstones::{Bytes, Tombstones};
