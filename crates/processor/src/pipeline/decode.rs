//! Batches of records → events with their rows, and dead letters.

use std::sync::Arc;

use domain::redriven::RecordOrigin;
use domain::{Event, EventStatus};
use eventlog::{Chunk, Permit, Record};
use store::write::{DeadLetter, FrozenRows, Matched, Rows};

use super::dead_letter::dead_letter;
use crate::record::RecordDecoder;
use crate::rules::Rules;

/// A batch ready to be written.
#[derive(Debug)]
pub struct Decoded {
    /// The records in the order of the log (of each partition).
    pub items: Vec<Item>,
    /// The rows of the events among them.
    pub rows: FrozenRows,
    /// What rules want done with them.
    pub matched: Matched,
    /// What holds the batch's share of the buffer until it is dropped.
    pub permits: Vec<Permit>,
}

impl Decoded {
    /// Matches the events with these rules and makes their rows. Those that something is to be done
    /// with first are pending.
    pub(super) fn match_rules(&mut self, rules: &Rules) {
        let now = service::clock::now();
        let payloads = self
            .items
            .iter()
            .filter_map(|one| one.record.payload.as_ref());
        let mut rows = Rows::with_room(self.items.len(), payloads.map(Vec::len).sum());
        let mut work = vec![];
        for item in &mut self.items {
            if let Content::Event(event, row) = &mut item.content {
                *row = rows.len();
                let status = if rules.match_event(event, *row, &mut work) {
                    EventStatus::Pending
                } else {
                    EventStatus::Processed
                };
                rows.push(event, status, now);
            }
        }
        self.rows = rows.freeze();
        self.matched = Matched {
            version: rules.version,
            work,
        };
    }
}

/// One record and what it turned out to be.
#[derive(Debug)]
pub struct Item {
    /// The record, kept for its position and, should it become a dead letter, its bytes.
    pub record: Record,
    /// Where it stood first.
    pub origin: RecordOrigin,
    /// What its position belongs to: see [`Chunk::topic`].
    pub topic: Arc<str>,
    /// The offset after the record before it, or where reading began: see [`Chunk::from`].
    pub from: i64,
    /// What it is.
    pub content: Content,
}

/// What a record turned out to be.
#[derive(Debug)]
pub enum Content {
    /// An event, with the index of its row.
    Event(Box<Event>, usize),
    /// Something that cannot be stored as an event.
    Dead(Box<DeadLetter>),
}

impl Item {
    /// Whether two records are of the same partition.
    pub(super) fn same_partition(one: &Self, other: &Self) -> bool {
        one.record.partition == other.record.partition
            && (Arc::ptr_eq(&one.topic, &other.topic) || one.topic == other.topic)
    }
}

/// Decodes batches.
#[derive(Debug, Clone)]
pub struct Decoder {
    records: RecordDecoder,
}

impl Decoder {
    /// A decoder of such records.
    #[must_use]
    pub fn new(records: RecordDecoder) -> Self {
        Self { records }
    }

    /// Decodes every record. Never fails: what cannot be decoded becomes a dead letter.
    #[must_use]
    pub fn decode(&self, chunks: Vec<Chunk>, rules: &Rules) -> Decoded {
        let now = service::clock::now();
        let mut items = Vec::with_capacity(chunks.iter().map(|c| c.records.len()).sum());
        let mut permits = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let topic = Arc::clone(chunk.topic());
            let mut from = chunk.from();
            let (records, permit) = chunk.into_parts();
            permits.push(permit);
            for record in records {
                let origin = self.records.origin(&record);
                let content = match self.records.decode(&record, now) {
                    // Its row is made with all others.
                    Ok(event) => Content::Event(Box::new(event), 0),
                    Err(error) => Content::Dead(Box::new(dead_letter(
                        &record,
                        origin,
                        error.tenant_id,
                        error.reason,
                        &error.detail,
                    ))),
                };
                let next = record.offset + 1;
                items.push(Item {
                    record,
                    origin,
                    topic: Arc::clone(&topic),
                    from: std::mem::replace(&mut from, next),
                    content,
                });
            }
        }
        let mut decoded = Decoded {
            items,
            rows: FrozenRows::default(),
            matched: Matched::default(),
            permits,
        };
        decoded.match_rules(rules);
        decoded
    }
}
