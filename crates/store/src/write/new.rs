//! The step `new`: which events of the batch are not stored yet.

use std::collections::HashMap;

use tokio_postgres::{Statement, Transaction};
use uuid::Uuid;

use super::copy::FrozenRows;
use super::pending::Pending;
use crate::error::Error;

pub(super) const KNOWN: &str = "select e.event_id, e.tenant_id, e.content_hash from event_ids e \
    join unnest($1::uuid[], $2::text[]) u(event_id, tenant_id) using (event_id, tenant_id)";

/// What the events of a batch are to the database.
#[derive(Default)]
pub(super) struct Selected<'a> {
    /// Not stored, each id once: the first in the batch.
    pub(super) new: Vec<Pending<'a>>,
    /// Their id is stored, or stands earlier in the batch, with other content.
    pub(super) conflicts: Vec<Pending<'a>>,
    /// The same with the same content: retries.
    pub(super) repeated: Vec<Pending<'a>>,
}

/// Tells new events from retries and conflicts.
pub(super) async fn select<'a>(
    tx: &Transaction<'_>,
    known: &Statement,
    rows: &FrozenRows,
    events: &[Pending<'a>],
) -> Result<Selected<'a>, Error> {
    let key = |pending: &Pending<'a>| (pending.event.event_id, pending.event.tenant_id.as_str());
    let mut first: HashMap<(Uuid, &str), Option<i64>> = HashMap::with_capacity(events.len());
    let mut new = Vec::with_capacity(events.len());
    let mut again = Vec::new();
    for pending in events {
        match first.entry(key(pending)) {
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(Some(rows.content_hash(pending.row)));
                new.push(*pending);
            }
            std::collections::hash_map::Entry::Occupied(_) => again.push(*pending),
        }
    }
    if new.is_empty() {
        return Ok(Selected::default());
    }
    let ids: Vec<Uuid> = new.iter().map(|pending| pending.event.event_id).collect();
    let tenants: Vec<&str> = new.iter().map(|pending| key(pending).1).collect();
    let found = tx.query(known, &[&ids, &tenants]).await?;
    if !found.is_empty() {
        let stored: HashMap<(Uuid, &str), Option<i64>> = found
            .iter()
            .map(|row| ((row.get(0), row.get(1)), row.get(2)))
            .collect();
        for (key, hash) in &mut first {
            if let Some(known) = stored.get(key) {
                *hash = *known;
            }
        }
        let (old, unknown) = new
            .into_iter()
            .partition(|pending| stored.contains_key(&key(pending)));
        new = unknown;
        again.extend::<Vec<_>>(old);
    }
    again.sort_unstable_by_key(|pending| pending.item);
    let (conflicts, repeated) = again.into_iter().partition(|pending| {
        let known = first.get(&key(pending)).copied().flatten();
        known.is_some_and(|hash| hash != rows.content_hash(pending.row))
    });
    Ok(Selected {
        new,
        conflicts,
        repeated,
    })
}
