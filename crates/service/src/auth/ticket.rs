//! Tickets: the right to listen to one user's live stream, for a short time, in a URL. A browser's
//! EventSource sends no headers, and what stands in URLs gets into logs: so it is no key.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::TenantId;
use domain::access::{Scope, Scopes};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use time::{Duration, OffsetDateTime};

use super::principal::Principal;
use super::refusal::Refusal;

/// Signs tickets and checks them.
#[derive(Clone)]
pub struct Tickets {
    secret: Vec<u8>,
    lifetime: Duration,
}

/// The HMAC-SHA256 of a message.
pub(super) fn mac(secret: &[u8], message: &[u8]) -> Result<Vec<u8>, ErrorStack> {
    let key = PKey::hmac(secret)?;
    Signer::new(MessageDigest::sha256(), &key)?.sign_oneshot_to_vec(message)
}

impl Tickets {
    /// Signs by this secret, the same in all replicas; without one by chance, for one process alone.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new(secret: Option<&str>, lifetime: Duration) -> Result<Self, ErrorStack> {
        let secret = match secret {
            Some(secret) => secret.as_bytes().to_vec(),
            None => {
                let mut secret = vec![0; 32];
                openssl::rand::rand_bytes(&mut secret)?;
                secret
            }
        };
        Ok(Self { secret, lifetime })
    }

    /// A ticket for that user's stream, and when it ends.
    ///
    /// # Errors
    /// OpenSSL cannot.
    pub fn issue(
        &self,
        tenant: &TenantId,
        user: &str,
        now: OffsetDateTime,
    ) -> Result<(String, OffsetDateTime), ErrorStack> {
        let end = now + self.lifetime;
        // The user, which may hold anything, comes last.
        let claims = format!("{}:{tenant}:{user}", end.unix_timestamp());
        let mac = mac(&self.secret, claims.as_bytes())?;
        let [claims, mac] = [claims.as_bytes(), &mac].map(|part| URL_SAFE_NO_PAD.encode(part));
        Ok((format!("{claims}.{mac}"), end))
    }

    /// Whose ticket this is: a user who may read.
    ///
    /// # Errors
    /// It is none of ours, or its time is over.
    pub fn check(&self, ticket: &str, now: OffsetDateTime) -> Result<Principal, Refusal> {
        let (end, tenant, user) = self.read(ticket).ok_or(Refusal::Invalid("ticket"))?;
        if end <= now.unix_timestamp() {
            return Err(Refusal::Invalid("expired"));
        }
        Ok(Principal {
            tenant,
            user: Some(user),
            scopes: Scopes::of(&[Scope::Read]),
            life: None,
        })
    }

    fn read(&self, ticket: &str) -> Option<(i64, TenantId, String)> {
        let (claims, given) = ticket.split_once('.')?;
        let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
        let given = URL_SAFE_NO_PAD.decode(given).ok()?;
        let own = mac(&self.secret, &claims).ok()?;
        if own.len() != given.len() || !openssl::memcmp::eq(&own, &given) {
            return None;
        }
        let claims = String::from_utf8(claims).ok()?;
        let (end, rest) = claims.split_once(':')?;
        let (tenant, user) = rest.split_once(':')?;
        Some((end.parse().ok()?, TenantId::parse(tenant)?, user.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_ticket_is_for_one_user_and_a_short_time() {
        let now = datetime!(2026-01-01 0:00 UTC);
        let tickets = Tickets::new(Some("secret"), Duration::seconds(60)).unwrap();
        let acme = TenantId::parse("acme").unwrap();
        let (ticket, end) = tickets.issue(&acme, "u:1.x", now).unwrap();
        let who = tickets.check(&ticket, now).unwrap();
        assert_eq!((&who.tenant, who.owner()), (&acme, Some("u:1.x")));
        assert_eq!(
            tickets.check(&ticket, end),
            Err(Refusal::Invalid("expired"))
        );
        let others = Tickets::new(None, Duration::seconds(60)).unwrap();
        let forged = format!("{}.{}", URL_SAFE_NO_PAD.encode("9999999999:acme:u"), "AA");
        for (tickets, ticket) in [
            (&others, ticket.as_str()),
            (&tickets, &forged),
            (&tickets, &ticket[1..]),
            (&tickets, ""),
        ] {
            assert_eq!(tickets.check(ticket, now), Err(Refusal::Invalid("ticket")));
        }
    }
}
