//! JWTs: from a token to a principal.

use std::sync::{Arc, PoisonError, RwLock};

use domain::TenantId;
use domain::access::{Scope, Scopes};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde_json::{Map, Value};

use super::principal::Principal;
use super::refusal::Refusal;

/// The algorithms that tokens may be signed with.
pub const ALGORITHMS: [(&str, Algorithm); 4] = [
    ("HS256", Algorithm::HS256),
    ("RS256", Algorithm::RS256),
    ("ES256", Algorithm::ES256),
    ("EdDSA", Algorithm::EdDSA),
];

/// What a token must say, beside its signature.
#[derive(Debug, Clone)]
pub struct TokenRules {
    /// Algorithms, of which each key takes its own.
    pub algorithms: Vec<Algorithm>,
    /// `iss`, if it matters.
    pub issuer: Option<String>,
    /// One of these is in `aud`, if it matters.
    pub audience: Vec<String>,
    /// Seconds by which clocks may differ.
    pub leeway: u64,
    /// The claim with the user.
    pub user_claim: String,
    /// The claim with the tenant.
    pub tenant_claim: String,
}

/// A key that tokens are checked by.
#[derive(Debug, Clone)]
pub struct TokenKey {
    /// Its name; one without a name fits tokens of any.
    pub kid: Option<String>,
    /// The one algorithm it is for: a token cannot choose another.
    pub algorithm: Algorithm,
    /// The key.
    pub key: DecodingKey,
}

/// The keys by which tokens are checked; clones share them.
#[derive(Clone, Default)]
pub struct TokenKeys(Arc<RwLock<Option<Vec<TokenKey>>>>);

impl TokenKeys {
    /// Replaces them.
    pub fn set(&self, keys: Vec<TokenKey>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(keys);
    }

    /// Whose token this is.
    ///
    /// # Errors
    /// Why it is not believed; [`Refusal::Unknown`] while there are no keys.
    pub fn check(&self, token: &str, rules: &TokenRules) -> Result<Principal, Refusal> {
        let header = jsonwebtoken::decode_header(token);
        // An algorithm that nobody knows (`none` is one) cannot be read.
        let header: Header = header.map_err(|error| match error.kind() {
            ErrorKind::Json(_) | ErrorKind::InvalidAlgorithmName => Refusal::Invalid("algorithm"),
            _ => Refusal::Invalid("malformed"),
        })?;
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let keys = keys.as_ref().ok_or(Refusal::Unknown("no_token_keys"))?;
        if !rules.algorithms.contains(&header.alg) {
            return Err(Refusal::Invalid("algorithm"));
        }
        let of_algorithm = keys.iter().filter(|key| key.algorithm == header.alg);
        if of_algorithm.clone().next().is_none() {
            return Err(Refusal::Invalid("algorithm"));
        }
        // `kid` is compared and nothing else: it is no path, no URL and no query. The headers that bring
        // a key along or tell where one is (jwk, jku, x5u) are not looked at.
        let mut named = of_algorithm
            .filter(|key| key.kid.is_none() || header.kid.is_none() || key.kid == header.kid);
        let first = named.next().ok_or(Refusal::Invalid("unknown_kid"))?;
        let mut claims = claims(token, first, rules);
        for key in named {
            if claims != Err(Refusal::Invalid("signature")) {
                break;
            }
            claims = self::claims(token, key, rules);
        }
        principal(&claims?, rules)
    }
}

fn claims(token: &str, key: &TokenKey, rules: &TokenRules) -> Result<Map<String, Value>, Refusal> {
    super::openssl_provider::install();
    let mut validation = Validation::new(key.algorithm);
    validation.leeway = rules.leeway;
    validation.validate_nbf = true;
    validation.validate_aud = !rules.audience.is_empty();
    let mut required = vec!["exp"];
    if let Some(issuer) = &rules.issuer {
        validation.set_issuer(&[issuer]);
        required.push("iss");
    }
    if !rules.audience.is_empty() {
        validation.set_audience(&rules.audience);
        required.push("aud");
    }
    validation.set_required_spec_claims(&required);
    let decoded = jsonwebtoken::decode(token, &key.key, &validation);
    decoded.map(|token| token.claims).map_err(|error| {
        Refusal::Invalid(match error.kind() {
            ErrorKind::ExpiredSignature => "expired",
            ErrorKind::ImmatureSignature => "not_yet_valid",
            ErrorKind::InvalidIssuer => "issuer",
            ErrorKind::InvalidAudience => "audience",
            ErrorKind::InvalidAlgorithm => "algorithm",
            ErrorKind::InvalidSignature => "signature",
            ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => "claims",
            _ => "malformed",
        })
    })
}

/// A user, of whose own events it is; or, where the token names no user but says scopes, a service.
fn principal(claims: &Map<String, Value>, rules: &TokenRules) -> Result<Principal, Refusal> {
    const CLAIMS: Refusal = Refusal::Invalid("claims");
    let text = |name: &str| match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.as_str())),
        Some(_) => Err(CLAIMS),
    };
    let user = text(&rules.user_claim)?.map(str::to_owned);
    let tenant = match text(&rules.tenant_claim)? {
        None => TenantId::default(),
        Some(name) => TenantId::parse(name).ok_or(CLAIMS)?,
    };
    let words = ["scope", "scp", "scopes", "roles", "role"].into_iter();
    let words = words.flat_map(|name| match claims.get(name) {
        Some(Value::String(text)) => text.split([' ', ',']).collect(),
        Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    });
    let scopes = known_scopes(words);
    if user.is_none() && scopes.is_empty() {
        return Err(CLAIMS);
    }
    Ok(Principal {
        tenant,
        user,
        scopes: or_a_users(scopes),
        life: None,
    })
}

/// The scopes among words of which others may mean something to others; `tidegate:` may stand before.
pub(super) fn known_scopes<'a>(words: impl IntoIterator<Item = &'a str>) -> Scopes {
    let known = words.into_iter().filter_map(|word| {
        let word = word.trim();
        Scopes::parse([word.strip_prefix("tidegate:").unwrap_or(word)])
    });
    known.fold(Scopes::default(), Scopes::with)
}

/// Without a word of scopes a user may send events and read the user's own.
pub(super) fn or_a_users(scopes: Scopes) -> Scopes {
    if scopes.is_empty() {
        Scopes::of(&[Scope::Write, Scope::Read])
    } else {
        scopes
    }
}

#[cfg(test)]
mod tests;
