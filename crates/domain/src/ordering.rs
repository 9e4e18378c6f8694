//! In which order what is due is done.

use crate::names::names;

names! {
    /// The order of deliveries.
    pub enum Ordering {
        /// Each as soon as possible.
        None = "none",
        /// Those of a stream one after the other: none before the one before it was delivered or given up.
        Stream = "stream",
    }
}
