//! The step `erased`: what was accepted of an erased user before the erasure is passed over, however often
//! a log is read again. Where nobody was erased it costs nothing; who was is read when the version of the
//! rules has moved.

use std::borrow::Cow;
use std::collections::HashMap;

use tokio_postgres::{Client, Statement, Transaction};
use uuid::Uuid;

use super::dead_letters::DeadLetter;
use super::pending::Pending;
use crate::erasures::{Bytes, Tombstones};
use crate::error::Error;

const NOTE: &str = "update erasures e set dropped = e.dropped + u.dropped \
    from unnest($1::uuid[], $2::int8[]) u(id, dropped) where e.id = u.id";

/// What a writer knows of the erasures.
#[derive(Debug)]
pub(super) struct Erased {
    note: Statement,
    /// The version of the rules they were read at.
    version: Option<Uuid>,
    tombstones: Tombstones,
}

/// What is passed over, by the erasure.
pub(super) type Dropped = HashMap<Uuid, i64>;

impl Erased {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            note: client.prepare(NOTE).await?,
            version: None,
            tombstones: Tombstones::default(),
        })
    }

    /// Learns who is erased under the rules of that version; true if that may be another than before.
    pub(super) async fn learn(
        &mut self,
        tx: &Transaction<'_>,
        version: Uuid,
    ) -> Result<bool, Error> {
        if self.version == Some(version) {
            return Ok(false);
        }
        let before = self.tombstones.is_empty();
        self.tombstones = Tombstones::load(tx).await?;
        self.version = Some(version);
        Ok(!before || !self.tombstones.is_empty())
    }

    /// The events that are not passed over.
    pub(super) fn events<'p, 'e>(
        &self,
        events: &'p [Pending<'e>],
        dropped: &mut Dropped,
    ) -> Cow<'p, [Pending<'e>]> {
        if self.tombstones.is_empty() {
            return Cow::Borrowed(events);
        }
        let stays = |one: &&Pending<'e>| {
            let of = self.tombstones.of_event(one.event, one.place.timestamp_ms);
            note(of, dropped)
        };
        Cow::Owned(events.iter().filter(stays).copied().collect())
    }

    /// The records that are not passed over, of those that could not be stored.
    pub(super) fn letters<'a>(
        &self,
        letters: &[&'a DeadLetter],
        dropped: &mut Dropped,
    ) -> Vec<&'a DeadLetter> {
        if self.tombstones.is_empty() {
            return letters.to_vec();
        }
        let stays = |letter: &&&DeadLetter| {
            let bytes = Bytes {
                key: letter.key.as_deref(),
                headers: &letter.headers,
                payload: letter.payload.as_deref(),
            };
            let tenant = letter.tenant_id.as_str();
            note(
                self.tombstones
                    .of_bytes(tenant, &bytes, letter.timestamp_ms),
                dropped,
            )
        };
        letters.iter().filter(stays).copied().collect()
    }

    /// Notes in the receipts what is passed over.
    pub(super) async fn note(&self, tx: &Transaction<'_>, dropped: Dropped) -> Result<(), Error> {
        if !dropped.is_empty() {
            let (ids, counts): (Vec<Uuid>, Vec<i64>) = dropped.into_iter().unzip();
            tx.execute(&self.note, &[&ids, &counts]).await?;
        }
        Ok(())
    }
}

/// Counts what an erasure drops; true if none does.
fn note(of: Option<Uuid>, dropped: &mut Dropped) -> bool {
    if let Some(erasure) = of {
        *dropped.entry(erasure).or_default() += 1;
    }
    of.is_none()
}
