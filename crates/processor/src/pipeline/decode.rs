//! Batches of records → events with what rules want done with them, and dead letters.

use std::sync::Arc;

use domain::Event;
use domain::redriven::RecordOrigin;
use eventlog::{Chunk, Permit, Record};
use store::write::{DeadLetter, Matched};
use time::OffsetDateTime;

use super::dead_letter::dead_letter;
use crate::record::RecordDecoder;
use crate::rules::Rules;

/// A batch ready to be written.
#[derive(Debug)]
pub struct Decoded {
    /// The records in the order of the log (of each partition).
    pub items: Vec<Item>,
    /// What rules want done with them.
    pub matched: Matched,
    /// What holds the batch's share of the buffer until it is dropped.
    pub permits: Vec<Permit>,
}

impl Decoded {
    /// Matches the events with these rules. Those that something is to be done with first are pending.
    pub(super) fn match_rules(&mut self, rules: &Rules) {
        let now = service::clock::now();
        let mut work = vec![];
        for (index, item) in self.items.iter_mut().enumerate() {
            if let Content::Event {
                event,
                processed_at,
                ..
            } = &mut item.content
            {
                *processed_at = (!rules.match_event(event, index, &mut work)).then_some(now);
            }
        }
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
    /// An event.
    Event {
        /// It.
        event: Box<Event>,
        /// Its [`Event::content_hash`].
        hash: i64,
        /// When it was processed; `None` if something is to be done with it first.
        processed_at: Option<OffsetDateTime>,
    },
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
                    Ok(event) => Content::Event {
                        hash: event.content_hash(),
                        event: Box::new(event),
                        // As the rules say, below.
                        processed_at: None,
                    },
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
            matched: Matched::default(),
            permits,
        };
        decoded.match_rules(rules);
        decoded
    }
}
