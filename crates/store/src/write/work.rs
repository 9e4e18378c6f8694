//! The step `work`: what rules want done with the new events.

use domain::stream;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Statement, Transaction};
use uuid::Uuid;

use super::pending::Pending;
use crate::error::Error;
use crate::rules::RuleKind;

pub(super) const INSERT: &str = "insert into work (event_id, tenant_id, rule_id, kind, event_timestamp, stream) \
    select * from unnest($1::uuid[], $2::text[], $3::uuid[], $4::int2[], $5::timestamptz[], $6::text[])";

/// What the rules make of the events of a batch.
#[derive(Debug, Clone, Default)]
pub struct Matched {
    /// The version of those rules ([`crate::rules`]).
    pub version: Uuid,
    /// What is to be done, by ascending item.
    pub work: Vec<Due>,
}

/// One thing to do with one event.
#[derive(Debug, Clone, Copy)]
pub struct Due {
    /// Index of the event's record among the records of the batch.
    pub item: usize,
    /// The rule that wants it.
    pub rule_id: Uuid,
    /// What kind of rule it is.
    pub kind: RuleKind,
    /// Whether it waits for what the rule wants done with earlier events of the stream.
    pub ordered: bool,
}

/// Leaves what is to be done with the new events.
pub(super) async fn insert(
    tx: &Transaction<'_>,
    statement: &Statement,
    work: &[Due],
    new: &[Pending<'_>],
) -> Result<(), Error> {
    if work.is_empty() {
        return Ok(());
    }
    let of_item = |item: usize| {
        let start = work.partition_point(|due| due.item < item);
        let rest = work.get(start..).unwrap_or_default();
        rest.iter().take_while(move |due| due.item == item)
    };
    let due = new.iter().flat_map(|pending| {
        let event = pending.event;
        of_item(pending.item).map(move |due| (event, due))
    });
    let due: Vec<_> = due.collect();
    if due.is_empty() {
        return Ok(());
    }
    let events: Vec<Uuid> = due.iter().map(|(event, _)| event.event_id).collect();
    let tenants: Vec<&str> = due
        .iter()
        .map(|(event, _)| event.tenant_id.as_str())
        .collect();
    let rules: Vec<Uuid> = due.iter().map(|(_, due)| due.rule_id).collect();
    let kinds: Vec<i16> = due.iter().map(|(_, due)| due.kind as i16).collect();
    let times: Vec<_> = due.iter().map(|(event, _)| event.timestamp).collect();
    let streams = due.iter().map(|(event, due)| {
        let stream = due.ordered.then(|| stream::stream_id(event));
        stream.flatten()
    });
    let streams: Vec<Option<String>> = streams.collect();
    let parameters: [&(dyn ToSql + Sync); 6] =
        [&events, &tenants, &rules, &kinds, &times, &streams];
    tx.execute(statement, &parameters).await?;
    Ok(())
}
