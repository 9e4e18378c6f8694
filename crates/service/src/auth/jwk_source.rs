//! Where the keys come from by which tokens are checked: settings, a file or the URL of a JWKS.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use openssl::bn::BigNumContext;
use openssl::ec::PointConversionForm;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey};
use tokio::sync::{Mutex, Notify};

use super::jwt::{TokenKey, TokenKeys};

/// How often a file is read.
const FILE_EVERY: Duration = Duration::from_secs(2);
/// How long between two fetches, whatever asks for them.
const PAUSE: Duration = Duration::from_secs(5);
/// How long a fetch may take.
const FETCH: Duration = Duration::from_secs(5);
/// Bytes of a JWKS at most.
const MAX_BYTES: usize = 1024 * 1024;

/// A JWKS that may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwksPlace {
    /// A file, read every two seconds.
    File(PathBuf),
    /// An address, asked that often, and when a token names a key that is not known.
    Url(String, Duration),
}

/// Keeps the keys as the place says them.
#[derive(Clone)]
pub struct JwkSource {
    place: JwksPlace,
    /// Those of the settings, which stay.
    fixed: Vec<TokenKey>,
    keys: TokenKeys,
    wanted: Arc<Notify>,
    fetched: Arc<Mutex<Option<Instant>>>,
}

impl JwkSource {
    /// Fills `keys` from the place, and always with `fixed`.
    #[must_use]
    pub fn new(place: JwksPlace, fixed: Vec<TokenKey>, keys: TokenKeys) -> Self {
        Self {
            place,
            fixed,
            keys,
            wanted: Arc::default(),
            fetched: Arc::default(),
        }
    }

    /// Keeps them, until dropped. While the place does not answer those that are known go on.
    pub async fn follow(self) {
        let every = match &self.place {
            JwksPlace::File(_) => FILE_EVERY,
            JwksPlace::Url(_, every) => *every,
        };
        loop {
            let read = self.refresh().await;
            let pause = if read { every } else { every.min(PAUSE) };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wanted.notified() => {}
            }
        }
    }

    /// Looks whether there are new keys, for a token whose key is not known; at most every five seconds.
    /// Returns whether it looked.
    pub async fn look(&self) -> bool {
        if !matches!(self.place, JwksPlace::Url(..)) {
            return false;
        }
        let looked = async {
            let fetched = self.fetched.lock().await;
            if fetched.is_some_and(|at| at.elapsed() < PAUSE) {
                return false;
            }
            drop(fetched);
            self.refresh().await
        };
        tokio::time::timeout(FETCH, looked).await.unwrap_or(false)
    }

    /// As if the last fetch were long ago.
    #[cfg(test)]
    pub(super) fn forget_when(&self) {
        if let Ok(mut fetched) = self.fetched.try_lock() {
            *fetched = None;
        }
    }

    async fn refresh(&self) -> bool {
        // One at a time: who waited for another has its keys.
        let mut fetched = self.fetched.lock().await;
        if matches!(self.place, JwksPlace::Url(..))
            && fetched.is_some_and(|at| at.elapsed() < Duration::from_secs(1))
        {
            return true;
        }
        let read = self.read().await;
        *fetched = Some(Instant::now());
        match read.and_then(|text| parse(&text)) {
            Ok(mut keys) => {
                keys.extend(self.fixed.iter().cloned());
                self.keys.set(keys);
                true
            }
            Err(error) => {
                tracing::warn!(error, "the JWKS cannot be read; the known keys go on");
                false
            }
        }
    }

    async fn read(&self) -> Result<String, String> {
        match &self.place {
            JwksPlace::File(path) => std::fs::read_to_string(path)
                .map_err(|error| format!("{}: {error}", path.display())),
            JwksPlace::Url(url, _) => fetch(url).await.map_err(|error| error.to_string()),
        }
    }
}

async fn fetch(url: &str) -> Result<String, reqwest::Error> {
    let client = reqwest::Client::builder().timeout(FETCH).build()?;
    let mut answer = client.get(url).send().await?.error_for_status()?;
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        text.extend_from_slice(&chunk);
        if text.len() > MAX_BYTES {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The keys of a JWKS that tokens may be signed with: public ones, for signatures.
///
/// # Errors
/// It is no JWKS, or has none.
pub fn parse(text: &str) -> Result<Vec<TokenKey>, String> {
    let set: JwkSet = serde_json::from_str(text).map_err(|error| format!("no JWKS: {error}"))?;
    let keys: Vec<_> = set.keys.iter().filter_map(of_jwk).collect();
    if keys.is_empty() {
        return Err("the JWKS has no key for RS256, ES256 or EdDSA".to_owned());
    }
    Ok(keys)
}

fn of_jwk(jwk: &Jwk) -> Option<TokenKey> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            Algorithm::EdDSA
        }
        // A shared secret is not to be published.
        _ => return None,
    };
    let common = &jwk.common;
    let other_use = common
        .public_key_use
        .as_ref()
        .is_some_and(|purpose| *purpose != PublicKeyUse::Signature);
    let declared = common
        .key_algorithm
        .and_then(|declared| Algorithm::try_from(declared).ok());
    let other_algorithm = common.key_algorithm.is_some() && declared != Some(algorithm);
    if other_use || other_algorithm {
        return None;
    }
    Some(TokenKey {
        kid: common.key_id.clone(),
        algorithm,
        key: DecodingKey::from_jwk(jwk).ok()?,
    })
}

/// The key for HS256. It has 32 bytes at least: a shorter one can be guessed from a token.
///
/// # Errors
/// It is too short.
pub fn of_secret(secret: &str) -> Result<TokenKey, String> {
    if secret.len() < 32 {
        return Err("at least 32 bytes, which nobody can guess".to_owned());
    }
    let key = DecodingKey::from_secret(secret.as_bytes()).map_err(|error| error.to_string())?;
    Ok(TokenKey {
        kid: None,
        algorithm: Algorithm::HS256,
        key,
    })
}

/// A public key in PEM: RSA of 2048 bits and more, P-256 or Ed25519.
///
/// # Errors
/// It is none of these.
pub fn of_pem(pem: &str) -> Result<TokenKey, String> {
    let wrong = |_| "a public key in PEM: RSA, P-256 or Ed25519".to_owned();
    // In an environment a line's end is often written so.
    let key = PKey::public_key_from_pem(pem.replace("\\n", "\n").as_bytes()).map_err(wrong)?;
    let (algorithm, key) = match key.id() {
        Id::RSA => {
            let key = key.rsa().map_err(wrong)?;
            if key.size() < 256 {
                return Err("an RSA key of 2048 bits at least".to_owned());
            }
            let (n, e) = (key.n().to_vec(), key.e().to_vec());
            (
                Algorithm::RS256,
                DecodingKey::from_rsa_raw_components(&n, &e),
            )
        }
        Id::EC => {
            let key = key.ec_key().map_err(wrong)?;
            if key.group().curve_name() != Some(Nid::X9_62_PRIME256V1) {
                return Err("an elliptic key on P-256".to_owned());
            }
            let mut context = BigNumContext::new().map_err(wrong)?;
            let form = PointConversionForm::UNCOMPRESSED;
            let point = key.public_key().to_bytes(key.group(), form, &mut context);
            (
                Algorithm::ES256,
                DecodingKey::from_ec_der(&point.map_err(wrong)?),
            )
        }
        Id::ED25519 => {
            let point = key.raw_public_key().map_err(wrong)?;
            (Algorithm::EdDSA, DecodingKey::from_ed_der(&point))
        }
        _ => return Err("an RSA, P-256 or Ed25519 key".to_owned()),
    };
    Ok(TokenKey {
        kid: None,
        algorithm,
        key,
    })
}
