//! The step `new`: which events of the batch are not stored yet.

use std::collections::HashSet;

use tokio_postgres::{Statement, Transaction};
use uuid::Uuid;

use super::pending::Pending;
use crate::error::Error;

pub(super) const KNOWN: &str = "select e.event_id, e.tenant_id from event_ids e \
    join unnest($1::uuid[], $2::text[]) u(event_id, tenant_id) using (event_id, tenant_id)";

/// Selects the events whose ids are not stored, each id once: the first in the batch.
pub(super) async fn select<'a>(
    tx: &Transaction<'_>,
    known: &Statement,
    events: &[Pending<'a>],
) -> Result<Vec<Pending<'a>>, Error> {
    let mut seen: HashSet<(Uuid, &str)> = HashSet::with_capacity(events.len());
    let mut new: Vec<Pending<'a>> = events
        .iter()
        .filter(|Pending { event, .. }| seen.insert((event.event_id, event.tenant_id.as_str())))
        .copied()
        .collect();
    if new.is_empty() {
        return Ok(new);
    }
    let ids: Vec<Uuid> = new.iter().map(|pending| pending.event.event_id).collect();
    let tenants: Vec<&str> = new
        .iter()
        .map(|pending| pending.event.tenant_id.as_str())
        .collect();
    let rows = tx.query(known, &[&ids, &tenants]).await?;
    if !rows.is_empty() {
        let stored: HashSet<(Uuid, &str)> =
            rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        new.retain(|Pending { event, .. }| {
            !stored.contains(&(event.event_id, event.tenant_id.as_str()))
        });
    }
    Ok(new)
}
