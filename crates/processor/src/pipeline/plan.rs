//! What of a batch is still to be stored: a position for every partition, moved by the storing
//! transaction, tells.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use domain::{Event, subject};
use eventlog::{Record, Source};
use store::Error;
use store::log::LOG;
use store::write::positions;
use store::write::{Advance, DeadLetter, Pending, RecordPlace, Writer};
use uuid::Uuid;

use super::decode::{Content, Item};

/// A partition of a topic.
pub type Partition = (Arc<str>, i32);

/// What one transaction is to do for some items.
#[derive(Debug, Default)]
pub struct Plan<'a> {
    /// Events to store.
    pub store: Vec<Pending<'a>>,
    /// Records to keep as dead letters.
    pub letters: Vec<&'a DeadLetter>,
    /// Items that are stored already but may not have been announced.
    pub announce: Vec<usize>,
    /// Steps of the partitions.
    pub advances: Vec<Advance>,
}

impl Plan<'_> {
    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.store.is_empty() && self.advances.is_empty()
    }
}

/// Where the partitions of a worker stand.
pub struct Positions {
    source: Arc<dyn Source>,
    /// The next offset of each partition as PostgreSQL has it. May be out of date: the fence tells.
    known: HashMap<Partition, i64>,
    /// The last transaction met a conflict.
    conflict: bool,
}

impl Positions {
    /// Those of partitions of that source.
    #[must_use]
    pub fn new(source: Arc<dyn Source>) -> Self {
        Self {
            source,
            known: HashMap::new(),
            conflict: false,
        }
    }

    /// The transaction met a conflict: what is known is out of date.
    pub(super) fn conflict(&mut self) {
        self.known.clear();
        self.conflict = true;
    }

    /// The transaction is committed.
    pub(super) fn advanced(&mut self, advances: Vec<Advance>) {
        for advance in advances {
            self.known
                .insert((advance.topic.into(), advance.partition), advance.to);
        }
    }

    /// Up to where each partition is stored, as far as these items go.
    pub(super) fn stored(&self, items: &[Item]) -> Vec<(Partition, i64)> {
        let mut stored: HashMap<Partition, i64> = HashMap::new();
        for run in items.chunk_by(Item::same_partition) {
            let Some(first) = run.first() else { continue };
            let partition = (Arc::clone(&first.topic), first.record.partition);
            let Some(position) = self.known.get(&partition) else {
                continue;
            };
            let offsets = run.iter().map(|item| item.record.offset);
            if let Some(last) = offsets.filter(|offset| offset < position).max() {
                let next = stored.entry(partition).or_default();
                *next = (*next).max(last + 1);
            }
        }
        stored.into_iter().collect()
    }

    /// What is to be done for these items, the first of which has the index `first`.
    pub(super) async fn plan<'a>(
        &mut self,
        writer: &Writer,
        items: &'a [Item],
        first: usize,
    ) -> Result<Plan<'a>, Error> {
        let mut plan = Plan::default();
        let mut advances: BTreeMap<(&str, i32), Advance> = BTreeMap::new();
        let mut seen_before: Vec<Pending<'a>> = vec![];
        let mut looked = HashSet::new();
        let mut index = first;
        // Records come in runs of one partition: one look-up for each run.
        for run in items.chunk_by(Item::same_partition) {
            let start = index;
            index += run.len();
            let Some((topic, partition)) = run.first().map(|i| (&i.topic, i.record.partition))
            else {
                continue;
            };
            let position = self.position(writer, run, &mut looked).await?;
            // A source that can read a partition again gives its records as they are now.
            let drop = self.conflict
                && run.iter().any(|item| item.record.offset >= position)
                && self.source.seek(topic, partition, position);
            let step = advances
                .entry((topic, partition))
                .or_insert_with(|| Advance {
                    topic: topic.to_string(),
                    partition,
                    from: position,
                    to: position,
                    records: 0,
                    live: self.source.delivery().and_then(|d| d.live(partition)),
                });
            // A partition that was lost and won back gives its records once more.
            let again = if run.iter().any(|item| item.record.offset < step.to) {
                offsets_before(items, start - first, run)
            } else {
                HashSet::new()
            };
            for (item, record) in (start..).zip(run) {
                let offset = record.record.offset;
                let stored = offset < position;
                if !stored && (drop || again.contains(&offset)) {
                    continue;
                }
                match &record.content {
                    Content::Event(event, row) => {
                        let pending = Pending {
                            item,
                            row: *row,
                            event,
                            place: RecordPlace {
                                topic: if record.place.from_postgres {
                                    LOG
                                } else {
                                    &record.record.topic
                                },
                                partition: record.place.partition,
                                offset: record.place.offset,
                            },
                            // Every gateway sets it.
                            by_gateway: record.record.header(subject::HEADER_SUBJECT).is_some(),
                            follows: follows(event, &record.record),
                            dead_letter: record.place.dead_letter,
                            version: None,
                        };
                        if stored {
                            seen_before.push(pending);
                        } else {
                            plan.store.push(pending);
                        }
                    }
                    Content::Dead(_) if stored => {}
                    Content::Dead(letter) => plan.letters.push(letter),
                }
                if !stored {
                    step.records += 1;
                    step.to = step.to.max(offset + 1);
                }
            }
        }
        self.conflict = false;
        plan.advances = advances.into_values().filter(|a| a.to > a.from).collect();
        recheck(writer, seen_before, &mut plan).await?;
        Ok(plan)
    }

    /// Where the partition of these records stands, asked of PostgreSQL where that is not known or
    /// in doubt.
    async fn position(
        &mut self,
        writer: &Writer,
        run: &[Item],
        looked: &mut HashSet<Partition>,
    ) -> Result<i64, Error> {
        let (Some(item), Some(lowest)) =
            (run.first(), run.iter().map(|item| item.record.offset).min())
        else {
            return Ok(0);
        };
        let (topic, number) = (&item.topic, item.record.partition);
        let partition = (Arc::clone(topic), number);
        // A record below the known position is one that is delivered again, or one of a topic that
        // was made again while we were reading it.
        let known = self.known.get(&partition).copied();
        match known {
            Some(next) if next <= lowest || looked.contains(&partition) => return Ok(next),
            _ => {}
        }
        looked.insert(partition.clone());
        let mut next = positions::open(writer.client(), topic, number, lowest).await?;
        if next > lowest && self.is_beyond_the_end(topic, number, next).await {
            // The topic was deleted and made again, or the log lost its tail: what it has now is
            // new. Events it shares with the old one are caught by their ids.
            tracing::error!(
                log.topic = &**topic,
                log.partition = number,
                stored_offset = next,
                "the stored offset lies beyond the end of the log; starting over from its records"
            );
            positions::reset(writer.client(), topic, number, next, lowest).await?;
            next = lowest;
        }
        self.known.insert(partition, next);
        Ok(next)
    }

    async fn is_beyond_the_end(&self, topic: &str, partition: i32, next: i64) -> bool {
        let end = self.source.end(topic, partition).await;
        end.is_some_and(|end| next > end)
    }
}

/// The event whose append this one goes on with.
fn follows(event: &Event, record: &Record) -> Option<Uuid> {
    event.expected_version?;
    let id = record.header(subject::HEADER_FOLLOWS)?;
    Uuid::try_parse_ascii(id).ok()
}

/// The offsets that the items before a run have of its partition.
fn offsets_before(items: &[Item], start: usize, run: &[Item]) -> HashSet<i64> {
    let before = items.iter().take(start);
    let same = before.filter(|item| {
        run.first()
            .is_some_and(|first| Item::same_partition(item, first))
    });
    same.map(|item| item.record.offset).collect()
}

/// Of events below the stored offset: those that are stored are announced again, a crash may have
/// come before that.
async fn recheck<'a>(
    writer: &Writer,
    seen_before: Vec<Pending<'a>>,
    plan: &mut Plan<'a>,
) -> Result<(), Error> {
    if seen_before.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = seen_before
        .iter()
        .map(|pending| pending.event.event_id)
        .collect();
    let known = store::write::stored(writer.client(), &ids).await?;
    for pending in seen_before {
        if let Some(content) = known.get(&pending.event.event_id) {
            // With other content it is a conflict, which was kept as a dead letter.
            if content.is_none_or(|content| content == pending.event.content_hash()) {
                plan.announce.push(pending.item);
            }
        } else {
            // Below the offset, yet never stored: the topic was made again and has outgrown the old
            // one meanwhile. (Or the database refused it, and will do so again.)
            plan.store.push(pending);
        }
    }
    plan.store.sort_unstable_by_key(|pending| pending.item);
    Ok(())
}
