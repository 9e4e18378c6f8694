//! The signatures of JWTs, by OpenSSL.

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{Error as Mismatch, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};
use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey, EcPoint};
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey};
use openssl::rsa::Rsa;
use openssl::sign;

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::InvalidAlgorithm.into()),
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes it the one of this process.
pub(super) fn install() {
    // Installed already: it is this one.
    let _ = PROVIDER.install_default();
}

struct OpenSsl {
    algorithm: Algorithm,
    key: DecodingKey,
}

/// The algorithm has to be one of the key's own family: nothing is verified with a key of another.
fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    let family = match algorithm {
        Algorithm::HS256 => AlgorithmFamily::Hmac,
        Algorithm::RS256 => AlgorithmFamily::Rsa,
        Algorithm::ES256 => AlgorithmFamily::Ec,
        Algorithm::EdDSA => AlgorithmFamily::Ed,
        _ => return Err(ErrorKind::InvalidAlgorithm.into()),
    };
    if key.family() != family {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    Ok(Box::new(OpenSsl {
        algorithm: *algorithm,
        key: key.clone(),
    }))
}

impl JwtVerifier for OpenSsl {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for OpenSsl {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), Mismatch> {
        match self.fits(message, signature) {
            Ok(true) => Ok(()),
            // OpenSSL's own errors are those of a signature or key that is none.
            Ok(false) | Err(_) => Err(Mismatch::new()),
        }
    }
}

impl OpenSsl {
    fn fits(&self, message: &[u8], signature: &[u8]) -> Result<bool, ErrorStack> {
        let sha256 = MessageDigest::sha256();
        match (self.algorithm, self.key.kind()) {
            (Algorithm::HS256, DecodingKeyKind::SecretOrDer(secret)) => {
                let own = super::ticket::mac(secret, message)?;
                Ok(own.len() == signature.len() && openssl::memcmp::eq(&own, signature))
            }
            (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
                let (n, e) = (BigNum::from_slice(n)?, BigNum::from_slice(e)?);
                let key = PKey::from_rsa(Rsa::from_public_components(n, e)?)?;
                let mut verifier = sign::Verifier::new(sha256, &key)?;
                verifier.verify_oneshot(signature, message)
            }
            (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) => {
                if signature.len() != 64 {
                    return Ok(false);
                }
                let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
                let mut context = BigNumContext::new()?;
                let point = EcPoint::from_bytes(&group, point, &mut context)?;
                let key = EcKey::from_public_key(&group, &point)?;
                key.check_key()?;
                let (r, s) = signature.split_at(32);
                let (r, s) = (BigNum::from_slice(r)?, BigNum::from_slice(s)?);
                let signature = EcdsaSig::from_private_components(r, s)?;
                signature.verify(&openssl::sha::sha256(message), &key)
            }
            (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(point)) => {
                let key = PKey::public_key_from_raw_bytes(point, Id::ED25519)?;
                let mut verifier = sign::Verifier::new_without_digest(&key)?;
                verifier.verify_oneshot(signature, message)
            }
            _ => Ok(false),
        }
    }
}
