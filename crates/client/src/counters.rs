//! What the client and its thread know of one another.

use std::sync::atomic::{AtomicBool, AtomicU64};

/// What the client has done so far; the thread counts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) tracked: AtomicU64,
    pub(crate) accepted: AtomicU64,
    pub(crate) refused: AtomicU64,
    /// Nothing comes any more: what is not settled within `Builder::close_within` is given up.
    pub(crate) closing: AtomicBool,
}
