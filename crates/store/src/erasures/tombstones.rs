//! What was accepted of whom is not stored any more: by tenant and keyed hash of the user, so that the
//! table names nobody.

use std::collections::HashMap;

use domain::{Event, mentions};
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use time::OffsetDateTime;
use tokio_postgres::GenericClient;
use uuid::Uuid;

use crate::error::Error;

/// HMAC-SHA256.
type Hash = [u8; 32];

/// The last erasure of each user.
#[derive(Debug, Default)]
pub(crate) struct Tombstones {
    key: Vec<u8>,
    /// By tenant and user: up to when what was accepted is erased, and which erasure did it.
    users: HashMap<String, HashMap<Hash, (OffsetDateTime, Uuid)>>,
}

/// The parts of a record that could name a user.
pub(crate) struct Bytes<'a> {
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) headers: &'a [(String, String)],
    pub(crate) payload: Option<&'a [u8]>,
}

impl Bytes<'_> {
    /// Whom they could be about.
    pub(crate) fn users(&self) -> impl Iterator<Item = String> {
        let headers = self.headers.iter().map(|(_, value)| value.as_bytes());
        let parts = [self.key, self.payload]
            .into_iter()
            .flatten()
            .chain(headers);
        parts
            .flat_map(mentions::users)
            .collect::<Vec<_>>()
            .into_iter()
    }
}

impl Tombstones {
    pub(crate) async fn load(client: &impl GenericClient) -> Result<Self, Error> {
        let sql = "select distinct on (tenant, user_hash) tenant, user_hash, erased_at, id \
            from erasures order by tenant, user_hash, erased_at desc";
        let rows = client.query(sql, &[]).await?;
        let mut loaded = Self::default();
        if rows.is_empty() {
            return Ok(loaded);
        }
        loaded.key = key(client).await?;
        for row in &rows {
            let users = loaded.users.entry(row.try_get(0)?).or_default();
            let hash: &[u8] = row.try_get(1)?;
            if let Ok(hash) = hash.try_into() {
                users.insert(hash, (row.try_get(2)?, row.try_get(3)?));
            }
        }
        Ok(loaded)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// The erasure that an event falls under whose record was written then (milliseconds since the Unix
    /// epoch). One of which that is not known was there before.
    pub(crate) fn of_event(&self, event: &Event, written_ms: Option<i64>) -> Option<Uuid> {
        let users = self.users.get(event.tenant_id.as_str())?;
        let aggregate = event.aggregate_id.as_deref();
        let aggregate = aggregate.filter(|_| event.aggregate_type.as_deref() == Some("user"));
        let ids = [event.user_id.as_deref(), aggregate].into_iter().flatten();
        ids.filter_map(|user| users.get(&hash(&self.key, event.tenant_id.as_str(), user).ok()?))
            .find(|(until, _)| event.received_at <= *until || is_before(written_ms, *until))
            .map(|(_, erasure)| *erasure)
    }

    /// The same for a record that could not be stored.
    pub(crate) fn of_bytes(
        &self,
        tenant: &str,
        bytes: &Bytes<'_>,
        written_ms: Option<i64>,
    ) -> Option<Uuid> {
        let users = self.users.get(tenant)?;
        bytes
            .users()
            .filter_map(|user| users.get(&hash(&self.key, tenant, &user).ok()?))
            .find(|(until, _)| is_before(written_ms, *until))
            .map(|(_, erasure)| *erasure)
    }
}

/// Whether a record that was written then was there before.
pub(super) fn is_before(written_ms: Option<i64>, until: OffsetDateTime) -> bool {
    let until = until.unix_timestamp_nanos() / 1_000_000;
    written_ms.is_none_or(|ms| i128::from(ms) <= until)
}

pub(super) async fn key(client: &impl GenericClient) -> Result<Vec<u8>, Error> {
    let row = client.query_one("select key from erasure_key", &[]).await?;
    Ok(row.try_get(0)?)
}

/// What stands for a user of a tenant.
pub(super) fn hash(key: &[u8], tenant: &str, user: &str) -> Result<Hash, Error> {
    let sign = || {
        let key = PKey::hmac(key)?;
        let mut signer = Signer::new(MessageDigest::sha256(), &key)?;
        // No tenant's name has a NUL.
        signer.sign_oneshot_to_vec(format!("{tenant}\0{user}").as_bytes())
    };
    let made =
        sign().map_err(|error: openssl::error::ErrorStack| Error::Pool(error.to_string()))?;
    made.try_into()
        .map_err(|_| Error::Pool("a hash of another length".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_of_another_tenant_is_another() {
        let of = |key: &[u8], tenant, user| hash(key, tenant, user).unwrap();
        assert_eq!(of(b"k", "acme", "u"), of(b"k", "acme", "u"));
        assert_ne!(of(b"k", "acme", "u"), of(b"k", "acm", "eu"));
        assert_ne!(of(b"k", "acme", "u"), of(b"other", "acme", "u"));
    }

    #[test]
    fn a_record_without_a_usable_time_was_there_before() {
        let until = time::macros::datetime!(2026-11-29 01:00:00.5 UTC);
        let ms = 1_795_914_000_500;
        assert_eq!(until.unix_timestamp() * 1_000 + 500, ms);
        assert!(is_before(None, until) && is_before(Some(0), until) && is_before(Some(ms), until));
        assert!(!is_before(Some(ms + 1), until));
    }
}
