//! Short numbers for the partitions that events come from (`log_partitions`): an event keeps where its
//! record stood in twelve bytes.

use std::collections::{BTreeSet, HashMap};

use tokio_postgres::Client;

use super::pending::Pending;
use crate::error::Error;

/// Makes the numbers that are missing, and returns those of all that are asked for.
const NUMBER: &str = "with asked as materialized (select * from unnest($1::text[], $2::int4[]) a(topic, partition)), \
    made as (insert into log_partitions (topic, partition) select a.topic, a.partition from asked a \
        where not exists (select from log_partitions p where p.topic = a.topic and p.partition = a.partition) \
        order by 1, 2 on conflict do nothing returning topic, partition, id) \
    select topic, partition, id from made union all \
    select p.topic, p.partition, p.id from log_partitions p join asked using (topic, partition)";

/// The numbers that are known.
#[derive(Debug, Default)]
pub(super) struct Numbers(HashMap<String, HashMap<i32, i32>>);

impl Numbers {
    /// Learns the numbers of the partitions of these events. Outside of the transaction, whose end
    /// decides nothing about them.
    pub(super) async fn learn(
        &mut self,
        client: &Client,
        events: &[Pending<'_>],
    ) -> Result<(), Error> {
        // One that is being made by another writer is there the second time.
        for _ in 0..2 {
            if self.all_known_after(client, events).await? {
                break;
            }
        }
        Ok(())
    }

    async fn all_known_after(
        &mut self,
        client: &Client,
        events: &[Pending<'_>],
    ) -> Result<bool, Error> {
        let numbered = events.iter().zip(self.of_each(events));
        let unknown: BTreeSet<(&str, i32)> = numbered
            .filter(|(_, number)| number.is_none())
            .map(|(one, _)| (one.place.topic, one.place.partition))
            .collect();
        if unknown.is_empty() {
            return Ok(true);
        }
        let (topics, partitions): (Vec<&str>, Vec<i32>) = unknown.into_iter().unzip();
        for row in client.query(NUMBER, &[&topics, &partitions]).await? {
            let of_topic = self.0.entry(row.try_get(0)?).or_default();
            of_topic.insert(row.try_get(1)?, row.try_get(2)?);
        }
        Ok(false)
    }

    /// Of each event, in order, the number of the partition that it came from.
    pub(super) fn of_each(&self, events: &[Pending<'_>]) -> impl Iterator<Item = Option<i32>> {
        // Records come in runs of one partition: one look-up for each run.
        let runs = events.chunk_by(|one, other| one.place.is_beside(&other.place));
        runs.flat_map(|run| {
            let place = run.first().map(|one| one.place);
            let number = place.and_then(|at| self.0.get(at.topic)?.get(&at.partition).copied());
            std::iter::repeat_n(number, run.len())
        })
    }
}
