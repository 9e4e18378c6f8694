//! The step `new`: which events of the batch are not stored yet. All, it is taken for granted, as long as
//! no claim fails; then it is looked.

use std::collections::HashMap;

use tokio_postgres::{Statement, Transaction};
use uuid::Uuid;

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

/// Whether ids are looked up before they are claimed. A log brings few events twice, so they are claimed
/// without a look; a claim that fails is a transaction for nothing, so the batches after it are looked
/// up, the more of them the oftener it happens.
#[derive(Debug)]
pub(super) struct Looks {
    /// Batches that are still looked up.
    left: u32,
    /// So many are, once a claim fails.
    after_failure: u32,
    /// Batches claimed without a look since one failed.
    trusted: u32,
}

/// Batches that are looked up after a claim failed: at first, and at most.
const FEWEST: u32 = 8;
const MOST: u32 = 1_024;

impl Default for Looks {
    fn default() -> Self {
        Self {
            left: 0,
            after_failure: FEWEST,
            trusted: 0,
        }
    }
}

impl Looks {
    /// Whether the next batch is looked up.
    pub(super) fn is_due(&self) -> bool {
        self.left > 0
    }

    /// A claim without a look failed.
    pub(super) fn failed(&mut self) {
        self.left = self.after_failure;
        self.after_failure = (self.after_failure * 2).min(MOST);
        self.trusted = 0;
    }

    /// A batch is stored. `met` says that it had events that were stored before.
    pub(super) fn stored(&mut self, met: bool) {
        if self.left == 0 {
            self.trusted = self.trusted.saturating_add(1);
            if self.trusted >= self.after_failure {
                self.after_failure = FEWEST;
            }
        } else if met {
            self.left = self.left.max(FEWEST);
        } else {
            self.left -= 1;
        }
    }
}

/// Tells new events from retries and conflicts; those of other batches only with a statement to look.
pub(super) async fn select<'a>(
    tx: &Transaction<'_>,
    known: Option<&Statement>,
    events: &[Pending<'a>],
) -> Result<Selected<'a>, Error> {
    let key = |pending: &Pending<'a>| (pending.event.event_id, pending.event.tenant_id.as_str());
    let mut first: HashMap<(Uuid, &str), Option<i64>> = HashMap::with_capacity(events.len());
    let mut new = Vec::with_capacity(events.len());
    let mut again = Vec::new();
    for pending in events {
        match first.entry(key(pending)) {
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(Some(pending.hash));
                new.push(*pending);
            }
            std::collections::hash_map::Entry::Occupied(_) => again.push(*pending),
        }
    }
    if new.is_empty() {
        return Ok(Selected::default());
    }
    let found = match known {
        Some(known) => {
            let ids: Vec<Uuid> = new.iter().map(|pending| pending.event.event_id).collect();
            let tenants: Vec<&str> = new.iter().map(|pending| key(pending).1).collect();
            tx.query(known, &[&ids, &tenants]).await?
        }
        None => vec![],
    };
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
        known.is_some_and(|hash| hash != pending.hash)
    });
    Ok(Selected {
        new,
        conflicts,
        repeated,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_due_for_the_longer_the_oftener_claims_fail() {
        let mut looks = Looks::default();
        let looked = |looks: &mut Looks| {
            let mut batches = 0;
            while looks.is_due() {
                looks.stored(false);
                batches += 1;
            }
            batches
        };
        assert_eq!(looked(&mut looks), 0);
        for expected in [8, 16, 32] {
            looks.failed();
            assert_eq!(looked(&mut looks), expected);
        }
        for _ in 0..64 {
            looks.stored(false);
        }
        looks.failed();
        assert_eq!(looked(&mut looks), 8, "after as many that went well");
    }

    #[test]
    fn goes_on_while_there_is_something_to_find() {
        let mut looks = Looks::default();
        looks.failed();
        for _ in 0..1_000 {
            looks.stored(true);
            assert!(looks.is_due());
        }
    }
}
