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
        let mut left = HashSet::new();
        let reread = std::mem::take(&mut self.conflict) && self.source.fills_up();
        let mut index = first;
        // Records come in runs of one partition: one look-up for each run.
        for run in items.chunk_by(Item::same_partition) {
            let start = index;
            index += run.len();
            let Some((topic, partition)) = run.first().map(|i| (&i.topic, i.record.partition))
            else {
                continue;
            };
            let Some(position) = self.position(writer, run, &mut looked).await? else {
                // A database that knows nothing of this partition: it is not the one it was.
                self.source.seek(topic, partition, 0);
                continue;
            };
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
            for (item, record) in (start..).zip(run) {
                let offset = record.record.offset;
                let event = match &record.content {
                    Content::Event {
                        event,
                        hash,
                        processed_at,
                    } => Some(Pending {
                        item,
                        event,
                        hash: *hash,
                        processed_at: *processed_at,
                        place: RecordPlace {
                            topic: if record.origin.from_postgres {
                                LOG
                            } else {
                                &record.record.topic
                            },
                            partition: record.origin.partition,
                            offset: record.origin.offset,
                            timestamp_ms: record.origin.timestamp_ms,
                        },
                        // Every gateway sets it.
                        by_gateway: record.record.header(subject::HEADER_SUBJECT).is_some(),
                        follows: follows(event, &record.record),
                        dead_letter: record.origin.dead_letter,
                        version: None,
                    }),
                    Content::Dead(_) => None,
                };
                if offset < position {
                    seen_before.extend(event);
                    continue;
                }
                // A partition that was lost and won back gives its records once more.
                if offset < step.to || left.contains(&(topic, partition)) {
                    continue;
                }
                // The position is not where these records were read from: another consumer was
                // faster, or the database was put back. What lies between must come first.
                if reread || record.from > step.to {
                    self.source.seek(topic, partition, step.to);
                    left.insert((topic, partition));
                    continue;
                }
                match &record.content {
                    Content::Event { .. } => plan.store.extend(event),
                    Content::Dead(letter) => plan.letters.push(letter),
                }
                step.records += 1;
                step.to = offset + 1;
            }
        }
        plan.advances = advances.into_values().filter(|a| a.to > a.from).collect();
        recheck(writer, seen_before, &mut plan).await?;
        Ok(plan)
    }

    /// Where the partition of these records stands, asked of PostgreSQL where that is not known or
    /// in doubt; `None` if PostgreSQL does not know it.
    async fn position(
        &mut self,
        writer: &Writer,
        run: &[Item],
        looked: &mut HashSet<Partition>,
    ) -> Result<Option<i64>, Error> {
        let (Some(item), Some(lowest)) =
            (run.first(), run.iter().map(|item| item.record.offset).min())
        else {
            return Ok(None);
        };
        let partition = (Arc::clone(&item.topic), item.record.partition);
        // A record below the known position is one that is delivered again, or the position went back
        // with the database. A gap between the two: the position was moved over what the log lost.
        match self.known.get(&partition) {
            Some(next) if looked.contains(&partition) || (item.from..=lowest).contains(next) => {
                return Ok(Some(*next));
            }
            _ => {}
        }
        let next = positions::next(writer.client(), &partition.0, partition.1).await?;
        looked.insert(partition.clone());
        match next {
            Some(next) => self.known.insert(partition, next),
            None => self.known.remove(&partition),
        };
        Ok(next)
    }
}

/// The event whose append this one goes on with.
fn follows(event: &Event, record: &Record) -> Option<Uuid> {
    event.expected_version?;
    let id = record.header(subject::HEADER_FOLLOWS)?;
    Uuid::try_parse_ascii(id).ok()
}

/// Of events below the stored offset: those that are stored are announced again, a crash may have come
/// before that. The others were stored once, and erased since or dropped by retention.
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
        // With other content it is a conflict, which was kept as a dead letter.
        let content = known.get(&pending.event.event_id);
        if content.is_some_and(|c| c.is_none_or(|c| c == pending.event.content_hash())) {
            plan.announce.push(pending.item);
        }
    }
    Ok(())
}
