//! An event on its way into the database.

use domain::Event;

/// An event to be stored, with where it stands in its batch.
#[derive(Debug, Clone, Copy)]
pub struct Pending<'a> {
    /// Index of its record among the records of the batch.
    pub item: usize,
    /// Index of its row among the rows of the batch.
    pub row: usize,
    /// The event.
    pub event: &'a Event,
}
