//! Kafka's side of the progress: a position for every partition, moved by the storing transaction.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use domain::Event;
use eventlog::kafka::Handle;
use store::offsets::{self, Advance};
use store::write::Writer;
use store::{Error, events};
use uuid::Uuid;

use super::decode::{Content, Item};
use super::progress::Plan;
use super::write::{Partition, same_partition};

/// Where the partitions of a line stand.
pub struct Offsets {
    consumer: Handle,
    /// The next offset of each partition as PostgreSQL has it. May be out of date: the fence tells.
    positions: HashMap<Partition, i64>,
}

impl Offsets {
    pub(super) fn new(consumer: Handle) -> Self {
        Self {
            consumer,
            positions: HashMap::new(),
        }
    }

    pub(super) fn forget(&mut self) {
        self.positions.clear();
    }

    pub(super) fn written(&mut self, advances: Vec<Advance>) {
        for advance in advances {
            self.positions
                .insert((advance.topic.into(), advance.partition), advance.to);
        }
    }

    pub(super) async fn plan<'a>(
        &mut self,
        writer: &Writer,
        items: &'a [Item],
        first: usize,
    ) -> Result<Plan<'a>, Error> {
        let mut plan = Plan::default();
        let mut advances: BTreeMap<(&str, i32), Advance> = BTreeMap::new();
        let mut seen_before: Vec<(usize, usize, &Event)> = vec![];
        let mut looked = HashSet::new();
        let mut index = first;
        // Records come in runs of one partition: one look-up for each run.
        for run in items.chunk_by(same_partition) {
            let position = self.position(writer, run, &mut looked).await?;
            let mut to = position;
            for item in run {
                let offset = item.record.offset;
                match &item.content {
                    Content::Event(event, row) if offset < position => {
                        seen_before.push((index, *row, event.as_ref()));
                    }
                    Content::Dead(_) if offset < position => {}
                    Content::Event(event, row) => plan.store.push((index, *row, event.as_ref())),
                    Content::Dead(letter) => plan.letters.push(letter.as_ref()),
                }
                to = to.max(offset + 1);
                index += 1;
            }
            if let Some(record) = run.first().map(|item| &item.record)
                && to > position
            {
                let advance = advances
                    .entry((&record.topic, record.partition))
                    .or_insert_with(|| Advance {
                        topic: record.topic.to_string(),
                        partition: record.partition,
                        from: position,
                        to,
                    });
                advance.to = advance.to.max(to);
            }
        }
        plan.advances = advances.into_values().collect();
        look_again(writer, seen_before, &mut plan).await?;
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
        let (topic, number) = (&item.record.topic, item.record.partition);
        let partition = (Arc::clone(topic), number);
        // A record below the known position is one that is delivered again, or one of a topic that
        // was made anew while we were reading it.
        let known = self.positions.get(&partition).copied();
        match known {
            Some(next) if next <= lowest || looked.contains(&partition) => return Ok(next),
            _ => {}
        }
        looked.insert(partition.clone());
        let mut next = offsets::open(writer.client(), topic, number, lowest).await?;
        if next > lowest && self.is_beyond_the_end(topic, number, next).await {
            // The topic was deleted and made again, or the log lost its tail: what it has now is
            // new. Events it shares with the old one are caught by their ids.
            tracing::error!(
                topic = &**topic,
                partition = number,
                stored_offset = next,
                "the stored offset lies beyond the end of the log; starting over from its records"
            );
            if !offsets::reset(writer.client(), topic, number, next, lowest).await? {
                return Err(Error::Fenced {
                    topic: topic.to_string(),
                    partition: number,
                    expected: next,
                });
            }
            next = lowest;
        }
        self.positions.insert(partition, next);
        Ok(next)
    }

    async fn is_beyond_the_end(&self, topic: &str, partition: i32, next: i64) -> bool {
        match self.consumer.watermarks(topic, partition).await {
            Ok((_, end)) => next > end,
            Err(error) => {
                tracing::warn!(topic, partition, error = %error, "the end of the log is unknown");
                false
            }
        }
    }
}

/// Of events below the stored offset: those that are stored are announced again, a crash may have
/// come before that.
async fn look_again<'a>(
    writer: &Writer,
    seen_before: Vec<(usize, usize, &'a Event)>,
    plan: &mut Plan<'a>,
) -> Result<(), Error> {
    if seen_before.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = seen_before
        .iter()
        .map(|(_, _, event)| event.event_id)
        .collect();
    let known = events::stored(writer.client(), &ids).await?;
    for (index, row, event) in seen_before {
        if known.contains(&event.event_id) {
            plan.announce.push(index);
        } else {
            // Below the offset, yet never stored: the topic was made anew and has outgrown the old
            // one meanwhile. (Or the database refused it, and will do so again.)
            plan.store.push((index, row, event));
        }
    }
    plan.store.sort_unstable_by_key(|(index, ..)| *index);
    Ok(())
}
