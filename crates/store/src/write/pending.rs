//! An event on its way into the database.

use domain::Event;
use uuid::Uuid;

/// An event to be stored, with where it stands in its batch.
#[derive(Debug, Clone, Copy)]
pub struct Pending<'a> {
    /// Index of its record among the records of the batch.
    pub item: usize,
    /// Index of its row among the rows of the batch.
    pub row: usize,
    /// The event.
    pub event: &'a Event,
    /// The event whose append this one goes on with: it is stored if and only if that one is.
    pub follows: Option<Uuid>,
    /// Its number in the stream of its aggregate, once that is known.
    pub version: Option<i64>,
}
