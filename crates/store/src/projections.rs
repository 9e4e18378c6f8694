//! Projections: their definitions, the states of the entities, and how a state is refolded from the
//! history. The storing transaction folds what comes ([`crate::write`]).

pub mod definitions;
mod entities;
mod history;
pub mod jobs;
mod of_event;
pub mod reads;
mod refold;

pub use definitions::StoredDefinition;
pub(crate) use definitions::by_id as definition;
pub(crate) use entities::page as entities_after;
pub(crate) use history::USER;
pub use of_event::{Fate, OfEvent, of_event};
pub use refold::{preview, refold, refold_late};
