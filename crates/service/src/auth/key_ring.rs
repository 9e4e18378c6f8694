//! The API keys in memory: checking one asks nobody, so it goes on while the database is down.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use domain::access::{ApiKey, KeyKind};
use time::OffsetDateTime;

use super::api_key::hash;
use super::key_file;
use super::principal::{Life, Principal};
use super::refusal::Refusal;

/// How often keys are looked at, and what is read with them: what is changed holds everywhere within five
/// seconds.
pub(super) const EVERY: Duration = Duration::from_secs(2);

/// The known keys; clones share them.
#[derive(Clone, Default)]
pub struct KeyRing(Arc<RwLock<Keys>>);

#[derive(Default)]
struct Keys {
    from_file: Vec<ApiKey>,
    from_database: Vec<ApiKey>,
    /// By the first bytes of the hash, which tell of the key nothing.
    by_hash: HashMap<[u8; 8], Vec<Entry>>,
    /// There is a database, and it has not said its keys yet.
    waits: bool,
}

struct Entry {
    key: ApiKey,
    principal: Arc<Principal>,
    life: Life,
}

impl Keys {
    fn index(&mut self) {
        let before = std::mem::take(&mut self.by_hash).into_values().flatten();
        let mut before: HashMap<_, Entry> = before.map(|entry| (entry.key.hash, entry)).collect();
        for key in self.from_file.iter().chain(&self.from_database) {
            let entry = match before.remove(&key.hash) {
                Some(entry) if entry.permits_as(key) => Entry {
                    key: key.clone(),
                    ..entry
                },
                old => {
                    old.inspect(|old| old.life.end());
                    Entry::new(key)
                }
            };
            let alike = self.by_hash.entry(short(&key.hash));
            alike.or_default().push(entry);
        }
        // What was begun with a key ends with it.
        before.values().for_each(|entry| entry.life.end());
    }
}

impl Entry {
    fn new(key: &ApiKey) -> Self {
        let life = Life::default();
        Self {
            key: key.clone(),
            principal: Arc::new(Principal {
                tenant: key.tenant.clone(),
                user: None,
                scopes: key.scopes,
                life: Some(life.clone()),
            }),
            life,
        }
    }

    /// Whether that is the same key, whenever it ends.
    fn permits_as(&self, key: &ApiKey) -> bool {
        self.key.tenant == key.tenant && self.key.scopes == key.scopes
    }
}

fn short(hash: &[u8; 32]) -> [u8; 8] {
    let mut short = [0; 8];
    short.copy_from_slice(&hash[..8]);
    short
}

impl KeyRing {
    /// Whose key this is.
    ///
    /// # Errors
    /// Nobody's, or it has expired; or the keys are not known yet.
    pub fn find(&self, key: &str, now: OffsetDateTime) -> Result<Arc<Principal>, Refusal> {
        const NOBODY: Refusal = Refusal::Invalid("unknown_key");
        if KeyKind::of(key).is_none() {
            return Err(NOBODY);
        }
        let hash = hash(key);
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let entries = keys
            .by_hash
            .get(&short(&hash))
            .map_or(&[][..], Vec::as_slice);
        let found = entries
            .iter()
            .find(|entry| openssl::memcmp::eq(&entry.key.hash, &hash));
        match found {
            Some(entry) if entry.key.expires_at.is_some_and(|end| end <= now) => {
                Err(Refusal::Invalid("expired"))
            }
            Some(entry) => Ok(Arc::clone(&entry.principal)),
            None if keys.waits => Err(Refusal::Unknown("keys_not_read")),
            None => Err(NOBODY),
        }
    }

    /// Puts the keys of the file in.
    pub fn set_file(&self, keys: Vec<ApiKey>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if all.from_file != keys {
            all.from_file = keys;
            all.index();
        }
    }

    pub(super) fn set_database(&self, keys: Vec<ApiKey>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.waits = false;
        if all.from_database != keys {
            all.from_database = keys;
            all.index();
        }
    }

    /// A key that is not known is not nobody's as long as the database has not said its keys.
    pub(super) fn waits_for_database(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).waits = true;
    }

    /// Keeps the keys as that file says them, until dropped. While it cannot be read those that are
    /// known go on.
    pub async fn follow_file(self, path: std::path::PathBuf) {
        let mut failed = None;
        loop {
            tokio::time::sleep(EVERY).await;
            match key_file::read(&path) {
                Ok(keys) => {
                    self.set_file(keys);
                    failed = None;
                }
                Err(error) if failed.as_ref() != Some(&error) => {
                    tracing::warn!(error, "API_KEYS_FILE cannot be read; the known keys go on");
                    failed = Some(error);
                }
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::TenantId;
    use domain::access::{Scope, Scopes};
    use time::macros::datetime;
    use uuid::Uuid;

    use super::*;
    use crate::auth::api_key::fresh;

    #[test]
    fn a_key_is_known_by_its_hash_until_it_ends() {
        let (ring, now) = (KeyRing::default(), datetime!(2026-01-01 0:00 UTC));
        let [one, ending, other] = [(); 3].map(|()| fresh(KeyKind::Secret).unwrap());
        let key = |text: &str, expires_at| ApiKey {
            id: Uuid::nil(),
            hash: hash(text),
            tenant: TenantId::parse("acme").unwrap(),
            scopes: Scopes::of(&[Scope::Read]),
            expires_at,
        };
        ring.set_database(vec![key(&one, None), key(&ending, Some(now))]);
        assert_eq!(ring.find(&one, now).unwrap().tenant.as_str(), "acme");
        assert_eq!(ring.find(&ending, now), Err(Refusal::Invalid("expired")));
        for unknown in [other.as_str(), "", "tg_secret_", &one[..one.len() - 1]] {
            let found = ring.find(unknown, now);
            assert_eq!(found, Err(Refusal::Invalid("unknown_key")), "{unknown}");
        }
        let life = ring.find(&one, now).unwrap().life.clone().unwrap();
        ring.set_database(vec![key(&one, Some(now + time::Duration::HOUR))]);
        assert!(!life.is_over(), "replaced, and good for a while");
        ring.set_database(vec![]);
        assert!(ring.find(&one, now).is_err(), "revoked");
        assert!(life.is_over());
    }
}
