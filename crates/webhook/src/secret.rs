//! The secret of a subscription, and the signature made with it (Standard Webhooks 1.0.0).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Before the base64 of the key.
const PREFIX: &str = "whsec_";
/// Bytes of a key, at least and at most.
const MIN_BYTES: usize = 24;
const MAX_BYTES: usize = 64;

/// A key: `whsec_` and the base64 of 24 to 64 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Reads a secret.
    ///
    /// # Errors
    /// A sentence about what is wrong, without the secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix(PREFIX) else {
            return Err(format!("must begin with {PREFIX}"));
        };
        let key = STANDARD
            .decode(rest)
            .map_err(|_| format!("must be {PREFIX} and base64"))?;
        if !(MIN_BYTES..=MAX_BYTES).contains(&key.len()) {
            let message = format!("must be the base64 of {MIN_BYTES} to {MAX_BYTES} bytes");
            return Err(message);
        }
        Ok(Self(key))
    }

    /// The secret of these random bytes.
    #[must_use]
    pub fn of(random: [u8; 32]) -> Self {
        Self(random.to_vec())
    }

    /// A new one.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self::of(bytes))
    }

    /// The text, for the one who is to have it.
    #[must_use]
    pub fn expose(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.0))
    }

    /// `v1,` and the base64 of the HMAC-SHA256 of id, seconds since 1970 and body.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        // HMAC takes keys of any length.
        let Ok(mac) = Hmac::<Sha256>::new_from_slice(&self.0) else {
            return String::new();
        };
        let head = format!("{id}.{timestamp}.");
        let digest = mac.chain_update(head).chain_update(body).finalize();
        format!("v1,{}", STANDARD.encode(digest.into_bytes()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specifications_example_is_signed_as_it_says() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = secret.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            b"{\"test\": 2432232314}",
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(secret.expose(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        assert_eq!(format!("{secret:?}"), "***");
    }

    #[test]
    fn what_is_no_secret_is_refused_without_being_repeated() {
        let long = STANDARD.encode([7; 65]);
        for bad in [
            "",
            "secret",
            "whsec_",
            "whsec_c2hvcnQ=",
            "whsec_!!!",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            &format!("whsec_{long}"),
        ] {
            let error = Secret::parse(bad).unwrap_err();
            assert!(bad.len() < 8 || !error.contains(bad), "{error}");
        }
        let own = Secret::of([9; 32]);
        assert_eq!(Secret::parse(&own.expose()), Ok(own));
    }
}
