//! API keys as text: made once, then known by their hash alone.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::access::KeyKind;
use openssl::error::ErrorStack;

/// A new key of that kind: 256 random bits. Its owner is shown it once.
///
/// # Errors
/// The system gives no random bytes.
pub fn fresh(kind: KeyKind) -> Result<String, ErrorStack> {
    let mut secret = [0; 32];
    openssl::rand::rand_bytes(&mut secret)?;
    let secret = URL_SAFE_NO_PAD.encode(secret);
    Ok(format!("{}{secret}", kind.prefix()))
}

/// How a key begins, to tell it from others: the prefix and four of its 43 characters.
#[must_use]
pub fn hint(key: &str) -> String {
    let prefix = KeyKind::of_hint(key).prefix().len();
    key.chars().take(prefix + 4).collect()
}

/// What is kept of a key: SHA-256. No slow hash, for the key is no password: nobody can try them all.
#[must_use]
pub fn hash(key: &str) -> [u8; 32] {
    openssl::sha::sha256(key.as_bytes())
}
