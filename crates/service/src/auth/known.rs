//! What the database says of keys and tenants, kept in memory: checking a request asks nobody,
//! so it goes on while the database is down.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use domain::TenantId;
use domain::access::Known;
use domain::tenant_limits::{LimitedTenant, TenantLimits};

use super::key_ring::{EVERY, KeyRing};

/// How often until it is read: the schema may be on its way.
const AT_FIRST: Duration = Duration::from_millis(250);
/// So long there may be no schema yet without a word.
const STARTING: Duration = Duration::from_secs(10);
/// How long the database may take to say it.
const LIMIT: Duration = Duration::from_secs(3);

/// The limits of tenants; clones share them.
#[derive(Clone, Default)]
pub(super) struct LimitBook(Arc<RwLock<HashMap<TenantId, TenantLimits>>>);

impl LimitBook {
    /// Those of a tenant.
    pub(super) fn of(&self, tenant: &TenantId) -> TenantLimits {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(tenant).copied().unwrap_or_default()
    }

    fn set(&self, limits: Vec<LimitedTenant>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *all = limits.into_iter().collect();
    }
}

/// Keeps both as `read` (the database's) says them, until dropped. While it fails what is known goes on.
pub(super) async fn follow<F, E>(keys: KeyRing, limits: LimitBook, read: impl Fn() -> F)
where
    F: Future<Output = Result<Known, E>>,
    E: Display,
{
    keys.waits_for_database();
    let begun = Instant::now();
    let (mut pause, mut failed, mut known_once) = (AT_FIRST, false, false);
    loop {
        let read = tokio::time::timeout(LIMIT, read()).await;
        let read = read.map_err(|_| "no answer in time".to_owned());
        match read.and_then(|read| read.map_err(|error| error.to_string())) {
            Ok(known) => {
                keys.set_database(known.keys);
                limits.set(known.limits);
                (pause, failed, known_once) = (EVERY, false, true);
            }
            Err(error) if !failed && (known_once || begun.elapsed() > STARTING) => {
                tracing::warn!(
                    error,
                    "API keys and limits of tenants cannot be read; the known ones go on"
                );
                failed = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(pause).await;
    }
}
