//! The Postgres log's side of the progress: a row is there until it is stored.

use std::collections::HashSet;

use store::Error;
use store::log::{self, LogPosition};
use store::write::Writer;

use super::decode::{Content, Item};
use super::progress::Plan;

/// What is known about the rows of the current batch.
#[derive(Debug)]
pub struct Rows {
    note_announcements: bool,
    /// Some may be gone: look which, before writing.
    look: bool,
    /// Some may be gone by our own doing: what we did is not announced yet.
    uncertain: bool,
}

impl Rows {
    pub(super) fn new(note_announcements: bool) -> Self {
        Self {
            note_announcements,
            look: false,
            uncertain: false,
        }
    }

    pub(super) fn note_announcements(&self) -> bool {
        self.note_announcements
    }

    pub(super) fn begin(&mut self) {
        (self.look, self.uncertain) = (false, false);
    }

    pub(super) fn look(&mut self) {
        self.look = true;
    }

    pub(super) fn uncertain(&mut self) {
        (self.look, self.uncertain) = (true, true);
    }

    pub(super) async fn plan<'a>(
        &self,
        writer: &Writer,
        items: &'a [Item],
        first: usize,
    ) -> Result<Plan<'a>, Error> {
        let places: Vec<LogPosition> = items.iter().map(place).collect();
        let left = if self.look {
            Some(log::left(writer.client(), &places).await?)
        } else {
            None
        };
        let mut plan = Plan::default();
        let mut seen = HashSet::with_capacity(places.len());
        for (index, (item, place)) in (first..).zip(items.iter().zip(places)) {
            // A partition that was lost and won back gives its rows once more.
            if !seen.insert(place) {
                continue;
            }
            if left.as_ref().is_some_and(|left| !left.contains(&place)) {
                if self.uncertain {
                    plan.announce.push(index);
                }
                continue;
            }
            match &item.content {
                Content::Event(event, row) => plan.store.push((index, *row, event.as_ref())),
                Content::Dead(letter) => plan.letters.push(letter.as_ref()),
            }
            plan.remove.push(place);
        }
        Ok(plan)
    }
}

fn place(item: &Item) -> LogPosition {
    LogPosition {
        // Lanes are few; a record of another source would find no row.
        partition: i16::try_from(item.record.partition).unwrap_or(-1),
        offset: item.record.offset,
    }
}
