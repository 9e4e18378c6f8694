//! Identities: event ids (C10), tenants.

use std::fmt;

use serde::Serialize;
use uuid::Uuid;

/// Namespace of every tenant's own namespace; a constant of this project.
const ROOT_NAMESPACE: Uuid = Uuid::from_u128(0x6f1d_5c1e_7a52_5f0b_9d3c_74d1_90aa_e701);

/// The tenant an event belongs to: 1..=64 of `a-z A-Z 0-9 _ - .`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct TenantId(String);

impl TenantId {
    /// Reads a tenant name; `None` if it is empty, too long or has a character outside the set.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=64).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        fits.then(|| Self(text.to_owned()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tenant's UUID namespace, in which its non-UUID ids live.
    #[must_use]
    pub fn namespace(&self) -> Uuid {
        Uuid::new_v5(&ROOT_NAMESPACE, self.0.as_bytes())
    }
}

impl Default for TenantId {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The event id a client's text stands for: the UUID itself, else a UUIDv5 of the text in the
/// tenant's namespace (C10). The second value is the text when it had to be mapped.
#[must_use]
pub fn from_client(tenant: &TenantId, text: &str) -> (Uuid, Option<String>) {
    match Uuid::try_parse(text) {
        Ok(id) => (id, None),
        Err(_) => (
            Uuid::new_v5(&tenant.namespace(), text.as_bytes()),
            Some(text.to_owned()),
        ),
    }
}

/// The id of an event that has none of its own but was sent under an `Idempotency-Key` (C28), so
/// that the retry gets the same one. `index` is the event's position in its batch.
#[must_use]
pub fn from_idempotency_key(tenant: &TenantId, key: &str, index: usize) -> Uuid {
    Uuid::new_v5(
        &tenant.namespace(),
        format!("idempotency-key:{index}:{key}").as_bytes(),
    )
}

/// The id of a record that came straight through Kafka without one: its position in the log and the
/// time the log keeps with it. Reading it again gives the same id; the same position in a topic that
/// was deleted and recreated gives another one.
#[must_use]
pub fn from_log_position(
    tenant: &TenantId,
    topic: &str,
    partition: i32,
    offset: i64,
    timestamp_ms: Option<i64>,
) -> Uuid {
    let time = timestamp_ms.unwrap_or(-1);
    Uuid::new_v5(
        &tenant.namespace(),
        format!("log:{topic}:{partition}:{offset}:{time}").as_bytes(),
    )
}

/// The same for a record of the Postgres log. No topic of Kafka has a colon in its name, so the two
/// never meet.
#[must_use]
pub fn from_postgres_log(
    tenant: &TenantId,
    topic: &str,
    partition: i32,
    id: i64,
    timestamp_ms: Option<i64>,
) -> Uuid {
    from_log_position(
        tenant,
        &format!("postgres:{topic}"),
        partition,
        id,
        timestamp_ms,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_itself_and_other_text_is_mapped_per_tenant() {
        let a = TenantId::default();
        let b = TenantId::parse("b").unwrap();
        let id = Uuid::from_u128(7);
        assert_eq!(from_client(&a, &id.to_string()), (id, None));
        assert_eq!(
            from_client(&a, &id.simple().to_string().to_uppercase()),
            (id, None)
        );
        let (mapped, kept) = from_client(&a, "evt_1");
        assert_eq!(kept.as_deref(), Some("evt_1"));
        assert_eq!(mapped, from_client(&a, "evt_1").0);
        assert_ne!(mapped, from_client(&b, "evt_1").0);
    }

    #[test]
    fn tenants_are_of_a_safe_set() {
        for bad in ["", "a b", "ä", "a/b", &"x".repeat(65)] {
            assert_eq!(TenantId::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn derived_ids_differ_by_every_part() {
        let t = TenantId::default();
        let ids = [
            from_idempotency_key(&t, "k", 0),
            from_idempotency_key(&t, "k", 1),
            from_idempotency_key(&t, "l", 0),
            from_log_position(&t, "a", 0, 1, Some(0)),
            from_log_position(&t, "a", 1, 1, Some(0)),
            from_log_position(&t, "a", 1, 2, Some(0)),
            from_log_position(&t, "a", 1, 2, Some(1)),
            from_postgres_log(&t, "a", 1, 2, Some(1)),
        ];
        let distinct: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }
}
