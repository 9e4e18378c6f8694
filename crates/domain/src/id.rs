//! Identities: event ids (C10), tenants.

use std::fmt;

use serde::Serialize;
use uuid::Uuid;

use crate::write::Write;

/// Namespace of every tenant's own namespace; a constant of this project.
const ROOT_NAMESPACE: Uuid = Uuid::from_u128(0x6f1d_5c1e_7a52_5f0b_9d3c_74d1_90aa_e701);

/// The tenant an event belongs to: 1..=64 of `a-z A-Z 0-9 _ - .`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct TenantId(String);

impl Write for TenantId {
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }
}

impl TenantId {
    /// What a name has to be, for messages.
    pub const FORM: &str = "1 to 64 letters, digits, _, - and .";

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

impl std::str::FromStr for TenantId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| Self::FORM.to_owned())
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

/// Whose ids are apart from whose: one origin cannot take another's ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space<'a> {
    /// Browsers and apps: anybody.
    Frontend,
    /// Backends, over HTTP and Kafka alike.
    Backend,
    /// CloudEvents of that source.
    CloudEvent(&'a str),
}

impl Space<'_> {
    /// The event id that a client's text stands for: a UUID is itself, other text a UUIDv5 in this
    /// space of the tenant. So is a UUID of a frontend that is not random (version 4 or 7): what is
    /// made of a name, a counter or a clock can be known before its owner uses it, and this one
    /// would take it away.
    #[must_use]
    pub fn event_id(self, tenant: &TenantId, text: &str) -> Uuid {
        match Uuid::try_parse(text) {
            Ok(id) if self != Space::Frontend || id.is_nil() || is_random(id) => id,
            Ok(id) => self.mapped(tenant, id.as_hyphenated().encode_lower(&mut [0; 36])),
            Err(_) => self.mapped(tenant, text),
        }
    }

    fn mapped(self, tenant: &TenantId, text: &str) -> Uuid {
        match self {
            Space::Frontend => nested(tenant, &["frontend", text]),
            Space::Backend => nested(tenant, &["backend", text]),
            Space::CloudEvent(source) => nested(tenant, &["cloudevents", source, text]),
        }
    }
}

/// Every event id that a reader's text may stand for, the most trustworthy first: a UUID, the id of
/// a backend's event, `{source}/{id}` of a CloudEvent, a frontend's.
#[must_use]
pub fn candidates(tenant: &TenantId, text: &str) -> Vec<Uuid> {
    /// Most slashes in the id of a CloudEvent that is looked for by `{source}/{id}`.
    const MAX_SLASHES: usize = 32;
    let text = text.trim();
    let mut ids = vec![Space::Backend.event_id(tenant, text)];
    for (at, _) in text.rmatch_indices('/').take(MAX_SLASHES + 1) {
        let (source, id) = (&text[..at], &text[at + 1..]);
        if !source.is_empty() && !id.is_empty() {
            ids.push(Space::CloudEvent(source).event_id(tenant, id));
        }
    }
    let frontend = Space::Frontend.event_id(tenant, text);
    if !ids.contains(&frontend) {
        ids.push(frontend);
    }
    ids
}

fn is_random(id: Uuid) -> bool {
    matches!(id.get_version_num(), 4 | 7) && id.get_variant() == uuid::Variant::RFC4122
}

/// The UUIDv5 of the last part in the namespace of those before it: each part is hashed alone, so
/// no two lists of parts spell the same name.
fn nested(tenant: &TenantId, parts: &[&str]) -> Uuid {
    let within = |space, part: &&str| Uuid::new_v5(&space, part.as_bytes());
    parts.iter().fold(tenant.namespace(), within)
}

/// The id of an event that has none of its own but was sent under an `Idempotency-Key` (C28), so
/// that the retry gets the same one. The key means the same request only with the same content:
/// `content` is its hash, `nth` tells equal events of one request apart.
#[must_use]
pub fn from_idempotency_key(
    tenant: &TenantId,
    (route, key): (&str, &str),
    content: i64,
    nth: u32,
) -> Uuid {
    let event = format!("{content:x}:{nth}");
    nested(tenant, &["idempotency-key", route, key, &event])
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
    let place = format!("{partition}:{offset}:{}", timestamp_ms.unwrap_or(-1));
    nested(tenant, &["log", topic, &place])
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

    const SPACES: [Space<'_>; 4] = [
        Space::Frontend,
        Space::Backend,
        Space::CloudEvent("/shop"),
        Space::CloudEvent("/shop/eu"),
    ];

    #[test]
    fn text_is_mapped_apart_for_every_tenant_and_origin() {
        let (a, b) = (TenantId::default(), TenantId::parse("b").unwrap());
        let mut ids = std::collections::HashSet::new();
        for space in SPACES {
            for text in ["17", "eu/17", "/shop/eu/17", "backend", ""] {
                assert!(ids.insert(space.event_id(&a, text)), "{space:?} {text}");
                assert!(ids.insert(space.event_id(&b, text)), "{space:?} {text}");
                assert!(!ids.insert(space.event_id(&a, text)));
            }
        }
    }

    #[test]
    fn a_uuid_is_itself_unless_a_frontend_could_have_foreseen_it() {
        let t = TenantId::default();
        let random = Uuid::try_parse("0b1f7d0e-8d51-4b6f-9d53-0c5d0a1b2c3d").unwrap();
        let foreseen = Space::Backend.event_id(&t, "order-1001");
        for id in [random, foreseen, Uuid::from_u128(7)] {
            for space in SPACES {
                let mapped = space.event_id(&t, &id.to_string());
                let spelled = id.simple().to_string().to_uppercase();
                assert_eq!(mapped, space.event_id(&t, &spelled));
                let own = id == random || space != Space::Frontend;
                assert_eq!(mapped == id, own, "{space:?} {id}");
            }
        }
    }

    #[test]
    fn a_reader_finds_every_form_and_a_backends_before_a_frontends() {
        let t = TenantId::default();
        for (text, ids) in [
            (
                "/shop/eu/17",
                vec![
                    Space::Backend.event_id(&t, "/shop/eu/17"),
                    Space::CloudEvent("/shop/eu").event_id(&t, "17"),
                    Space::CloudEvent("/shop").event_id(&t, "eu/17"),
                    Space::Frontend.event_id(&t, "/shop/eu/17"),
                ],
            ),
            (
                " o-1 ",
                vec![
                    Space::Backend.event_id(&t, "o-1"),
                    Space::Frontend.event_id(&t, "o-1"),
                ],
            ),
        ] {
            assert_eq!(candidates(&t, text), ids, "{text}");
        }
        let random = "0b1f7d0e-8d51-4b6f-9d53-0c5d0a1b2c3d";
        assert_eq!(candidates(&t, random), [Uuid::try_parse(random).unwrap()]);
        assert_eq!(candidates(&t, &Uuid::from_u128(7).to_string()).len(), 2);
        assert_eq!(candidates(&t, &"/".repeat(9_000)).len(), 2 + 32);
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
            from_idempotency_key(&t, ("create", "k"), 1, 0),
            from_idempotency_key(&t, ("create", "k"), 1, 1),
            from_idempotency_key(&t, ("create", "k"), 2, 0),
            from_idempotency_key(&t, ("create", "l"), 1, 0),
            from_idempotency_key(&t, ("batch", "k"), 1, 0),
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
