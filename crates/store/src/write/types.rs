//! Bounds how many types a tenant's day is counted by: a stranger's unique types would otherwise be two
//! rows of counts each. Those beyond are counted together, so the sums stay exact.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use time::Date;
use tokio_postgres::{Client, Statement, Transaction};

use crate::error::Error;

/// The type that stands for all those beyond the bound.
pub const OTHER: &str = "other";
/// Types that a tenant's day is counted by, unless a writer is told otherwise.
const DEFAULT: usize = 1_000;
/// Types remembered; with more, all are forgotten and looked up again.
const REMEMBERED: usize = 200_000;

const LOCK: &str = "select pg_advisory_xact_lock(hashtext('tidegate types ' || current_schema()), \
    hashtext($1::text || $2::date::text))";
const KNOWN: &str =
    "select event_type from aggregated_events where tenant_id = $1::text and date = $2 limit $3";

/// The types that each tenant's days are counted by, as far as a writer has met them.
#[derive(Debug)]
pub(super) struct Types {
    lock: Statement,
    known_types: Statement,
    /// Of a tenant's day.
    pub(super) most: usize,
    known: HashMap<(String, Date), HashSet<String>>,
    remembered: usize,
}

impl Types {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            lock: client.prepare(LOCK).await?,
            known_types: client.prepare(KNOWN).await?,
            most: DEFAULT,
            known: HashMap::new(),
            remembered: 0,
        })
    }

    /// Learns of the types that a batch brings: those of a day that are not known yet, as many as it
    /// has place for. One transaction after the other, so that several writers keep the bound.
    pub(super) async fn learn(
        &mut self,
        tx: &Transaction<'_>,
        days: &BTreeMap<(&str, Date), BTreeSet<&str>>,
    ) -> Result<(), Error> {
        if self.remembered > REMEMBERED {
            self.forget();
        }
        for ((tenant, date), types) in days {
            let day = (*tenant).to_owned();
            let known = self.known.entry((day, *date)).or_default();
            let is_full = known.len() >= self.most;
            if is_full || types.iter().all(|name| known.contains(*name)) {
                continue;
            }
            tx.query(&self.lock, &[tenant, date]).await?;
            let most = i64::try_from(self.most).unwrap_or(i64::MAX);
            self.remembered -= known.len();
            for row in tx.query(&self.known_types, &[tenant, date, &most]).await? {
                known.insert(row.try_get(0)?);
            }
            for name in types {
                if known.len() < self.most {
                    known.insert((*name).to_owned());
                }
            }
            self.remembered += known.len();
        }
        Ok(())
    }

    /// The type to count an event under.
    pub(super) fn counted_as<'a>(&self, tenant: &str, date: Date, event_type: &'a str) -> &'a str {
        let known = self.known.get(&(tenant.to_owned(), date));
        match known {
            Some(known) if known.contains(event_type) => event_type,
            _ => OTHER,
        }
    }

    /// Forgets all, after a transaction that may not have stored what was learnt.
    pub(super) fn forget(&mut self) {
        self.known.clear();
        self.remembered = 0;
    }
}
