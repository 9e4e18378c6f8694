//! Searching events: how far the indexes are, and the index on PostgreSQL.
//!
//! An index is filled behind the store, in the order in which events were stored (`created_at`, the begin
//! of their transaction). What a transaction that is still open may add lies after
//! [`crate::behind::horizon`], and is not looked at before.

mod engine;
mod progress;

pub use engine::{Found, Indexed, Question, find, index, remove_before_generation};
pub use progress::{
    Begin, Part, Progress, Removal, advance, all, begin, claim, end_again, next, problem, reindex,
    release, removals, remove, removed,
};
