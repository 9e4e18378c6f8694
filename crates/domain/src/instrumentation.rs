//! What can be said of how events are named and built (S0-39 to S0-42, S3-33): reported, never enforced.

mod names;
mod shape;
mod typos;

pub use names::{NameProblem, problems};
pub use shape::{MAX_PATHS, shape};
pub use typos::typos;
