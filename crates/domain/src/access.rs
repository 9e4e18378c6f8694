//! Who may do what: scopes, and the API keys that carry them.

use std::fmt;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::id::TenantId;
use crate::tenant_limits::LimitedTenant;

/// What a key or a token permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Send events.
    Write,
    /// Read the tenant's events.
    Read,
    /// Replay them.
    Replay,
    /// Manage the tenant; permits all the others too.
    Admin,
}

impl Scope {
    const ALL: [Self; 4] = [Self::Write, Self::Read, Self::Replay, Self::Admin];

    /// Its word: `write`, `read`, `replay` or `admin`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::Replay => "replay",
            Self::Admin => "admin",
        }
    }

    fn bit(self) -> u8 {
        match self {
            Self::Write => 1,
            Self::Read => 2,
            Self::Replay => 4,
            Self::Admin => 8,
        }
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// The scopes among these words; `None` if one of them is none.
    #[must_use]
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut all = Self::default();
        for word in words {
            all.0 |= Scope::ALL
                .iter()
                .find(|scope| scope.as_str() == word)?
                .bit();
        }
        Some(all)
    }

    /// These scopes.
    #[must_use]
    pub fn of(scopes: &[Scope]) -> Self {
        Self(scopes.iter().fold(0, |bits, scope| bits | scope.bit()))
    }

    /// Whether it permits that; `admin` permits everything.
    #[must_use]
    pub fn permits(self, scope: Scope) -> bool {
        self.0 & (scope.bit() | Scope::Admin.bit()) != 0
    }

    /// Those of both.
    #[must_use]
    pub fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Whether it permits nothing.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The words.
    #[must_use]
    pub fn words(self) -> Vec<&'static str> {
        let held = Scope::ALL.iter().filter(|scope| self.0 & scope.bit() != 0);
        held.map(|scope| scope.as_str()).collect()
    }
}

/// The two kinds of API keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// For browsers and apps, where everybody can read it: it may send events and nothing else.
    Write,
    /// For services: what its scopes permit.
    Secret,
}

impl KeyKind {
    /// What its keys begin with.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Write => "tg_write_",
            Self::Secret => "tg_secret_",
        }
    }

    /// The kind of a key that begins so.
    #[must_use]
    pub fn of_hint(hint: &str) -> Self {
        if hint.starts_with(Self::Write.prefix()) {
            Self::Write
        } else {
            Self::Secret
        }
    }

    /// The kind of this text, if it can be a key: a prefix and 43 characters of base64url.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let kinds = [Self::Write, Self::Secret];
        kinds.into_iter().find(|kind| {
            let secret = text.strip_prefix(kind.prefix());
            secret.is_some_and(|secret| {
                let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
                secret.len() == 43 && secret.bytes().all(plain)
            })
        })
    }
}

/// An API key as it is kept: without the key.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Names it where it is managed.
    pub id: Uuid,
    /// SHA-256 of the key. The key is random, so nothing leads from one to the other.
    pub hash: [u8; 32],
    /// Whose events it is about.
    pub tenant: TenantId,
    /// What it permits.
    pub scopes: Scopes,
    /// When it ends, if it does.
    pub expires_at: Option<OffsetDateTime>,
}

/// What a database says at one moment of who may do how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The keys that are good.
    pub keys: Vec<ApiKey>,
    /// The tenants with limits of their own.
    pub limits: Vec<LimitedTenant>,
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey")
            .field("id", &self.id)
            .field("tenant", &self.tenant)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_words_and_admin_permits_all() {
        let scopes = Scopes::parse(["read", "write"]).unwrap();
        assert_eq!(scopes.words(), ["write", "read"]);
        assert!(scopes.permits(Scope::Read) && !scopes.permits(Scope::Replay));
        assert!(Scopes::of(&[Scope::Admin]).permits(Scope::Replay));
        assert_eq!(Scopes::parse(["root"]), None);
    }

    #[test]
    fn keys_show_their_kind() {
        let secret = "A".repeat(43);
        let key = |prefix: &str| KeyKind::of(&format!("{prefix}{secret}"));
        assert_eq!(key("tg_write_"), Some(KeyKind::Write));
        assert_eq!(key("tg_secret_"), Some(KeyKind::Secret));
        assert_eq!(key("tg_"), None);
        assert_eq!(key("tg_write_A"), None);
        assert_eq!(KeyKind::of("tg_write_"), None);
    }
}
