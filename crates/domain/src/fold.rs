//! Folds: how the events of an entity become the state of a projection (S4-05, S4-41). The same rules
//! serve the storing transaction, a rebuild and a dry run, so that all come to the same state.

mod definition;
mod folding;
mod number;
mod rule;
mod state;

pub use definition::Definition;
pub use folding::{Extensions, Fold, MAX_STATE};
pub use state::{FoldError, Reducer, State};

#[cfg(test)]
pub(crate) mod tests;
