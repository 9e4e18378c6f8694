//! How a line knows what of its records is stored already, and what the storing transaction has to
//! note: offsets for Kafka, the removal of rows for the Postgres log.

use domain::Event;
use eventlog::kafka::Handle;
use store::Error;
use store::dead_letters::DeadLetter;
use store::log::LogPosition;
use store::offsets::Advance;
use store::write::Writer;

use super::decode::Item;
use super::offsets::Offsets;
use super::rows::Rows;

/// The two ways.
pub enum Progress {
    /// Kafka: how far each partition is stored stands in `log_offsets`.
    Offsets(Offsets),
    /// The Postgres log: what is stored is no longer in `event_log`.
    Rows(Rows),
}

/// What one transaction is to do for some items.
#[derive(Debug, Default)]
pub struct Plan<'a> {
    /// Events to store: the index of the item, that of the row, the event.
    pub store: Vec<(usize, usize, &'a Event)>,
    /// Records to keep as dead letters.
    pub letters: Vec<&'a DeadLetter>,
    /// Items that are stored already but may not have been announced.
    pub announce: Vec<usize>,
    /// Steps of Kafka's partitions.
    pub advances: Vec<Advance>,
    /// Rows of the Postgres log.
    pub remove: Vec<LogPosition>,
}

impl Plan<'_> {
    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.store.is_empty() && self.advances.is_empty() && self.remove.is_empty()
    }
}

impl Progress {
    /// For records of Kafka, consumed by that handle.
    #[must_use]
    pub fn offsets(consumer: Handle) -> Self {
        Self::Offsets(Offsets::new(consumer))
    }

    /// For records of the Postgres log.
    #[must_use]
    pub fn rows(note_announcements: bool) -> Self {
        Self::Rows(Rows::new(note_announcements))
    }

    /// Whether the transaction notes that its events are to be announced.
    #[must_use]
    pub fn notes_announcements(&self) -> bool {
        match self {
            Self::Offsets(_) => false,
            Self::Rows(rows) => rows.note_announcements(),
        }
    }

    /// A new batch begins.
    pub(super) fn begin(&mut self) {
        if let Self::Rows(rows) = self {
            rows.begin();
        }
    }

    /// What is to be done for these items, the first of which has the index `first`.
    pub(super) async fn plan<'a>(
        &mut self,
        writer: &Writer,
        items: &'a [Item],
        first: usize,
    ) -> Result<Plan<'a>, Error> {
        match self {
            Self::Offsets(offsets) => offsets.plan(writer, items, first).await,
            Self::Rows(rows) => rows.plan(writer, items, first).await,
        }
    }

    /// The plan is done.
    pub(super) fn written(&mut self, plan: Plan<'_>) {
        if let Self::Offsets(offsets) = self {
            offsets.written(plan.advances);
        }
    }

    /// Somebody else was faster: what was known is out of date.
    pub(super) fn raced(&mut self) {
        match self {
            Self::Offsets(offsets) => offsets.forget(),
            Self::Rows(rows) => rows.look(),
        }
    }

    /// The transaction failed, perhaps while committing: it may have been done all the same.
    pub(super) fn uncertain(&mut self) {
        if let Self::Rows(rows) = self {
            rows.uncertain();
        }
    }
}
