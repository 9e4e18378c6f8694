//! The signature of RudderStack's webhook (S4-120, C24).

use config::{Env, Secret};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// What a request has to be signed with.
#[derive(Debug, Clone)]
pub struct Signature {
    secret: Secret,
    form: Form,
}

/// How the header shows that its sender knows the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The HMAC-SHA256 of the body, in hexadecimal.
    Hmac,
    /// The secret itself, as earlier systems have it.
    Secret,
}

impl Signature {
    /// Reads the settings; `None` where there is no secret.
    #[must_use]
    pub fn from_env(env: &Env) -> Option<Self> {
        let secret = env.get_secret(
            &["RUDDERSTACK_WEBHOOK_SECRET"],
            "Secret of RudderStack's webhook: X-Signature has to fit it (401); unset, nothing is checked.",
        );
        let form = env.get_one_of(
            "RUDDERSTACK_SIGNATURE",
            [("hmac-sha256", Form::Hmac), ("secret", Form::Secret)],
            "What X-Signature holds: hmac-sha256 of the body in hexadecimal, or the secret itself.",
        );
        secret.map(|secret| Self { secret, form })
    }

    /// Whether it fits the body, in a time that tells nothing of the secret.
    #[must_use]
    pub fn fits(&self, body: &[u8], given: &[u8]) -> bool {
        // HMAC takes keys of any length.
        let Ok(mac) = Hmac::<Sha256>::new_from_slice(self.secret.expose().as_bytes()) else {
            return false;
        };
        match self.form {
            Form::Hmac => {
                let given = given.strip_prefix(b"sha256=").unwrap_or(given);
                unhex(given)
                    .is_some_and(|given| mac.chain_update(body).verify_slice(&given).is_ok())
            }
            Form::Secret => {
                let own = mac.clone().chain_update(self.secret.expose());
                let given = mac.chain_update(given).finalize().into_bytes();
                own.verify_slice(&given).is_ok()
            }
        }
    }
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16);
    let byte = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
        _ => None,
    };
    text.chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(form: Form) -> Signature {
        let secret = Secret::new("key".to_owned());
        Signature { secret, form }
    }

    #[test]
    fn an_hmac_fits_its_body_alone() {
        let signature = signature(Form::Hmac);
        let body = b"The quick brown fox jumps over the lazy dog";
        let right = "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8";
        for given in [
            right.to_owned(),
            right.to_uppercase(),
            format!("sha256={right}"),
        ] {
            assert!(signature.fits(body, given.as_bytes()), "{given}");
        }
        assert!(!signature.fits(b"The quick brown fox", right.as_bytes()));
        for given in [
            "",
            "f7",
            "key",
            "zz",
            "f7bc8",
            &right[..62],
            &format!("{right}00"),
        ] {
            assert!(!signature.fits(body, given.as_bytes()), "{given}");
        }
    }

    #[test]
    fn the_secret_itself_fits_where_it_is_asked_for() {
        let signature = signature(Form::Secret);
        assert!(signature.fits(b"any", b"key"));
        for given in [&b""[..], b"ke", b"keys", b"Key"] {
            assert!(!signature.fits(b"any", given));
        }
    }
}
