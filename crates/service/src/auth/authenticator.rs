//! From a request to who is asking.

use std::fmt::Display;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::{HttpRequest, web};
use domain::TenantId;
use domain::access::{KeyKind, Known};
use domain::tenant_limits::TenantLimits;
use prometheus::Registry;
use time::OffsetDateTime;
use tokio::task::JoinHandle;

use super::access::Access;
use super::config::{AuthConfig, Mode};
use super::credential::{self, Credential};
use super::gateway;
use super::jwk_source::JwkSource;
use super::jwt::TokenKeys;
use super::key_file;
use super::key_ring::KeyRing;
use super::known::{self, LimitBook};
use super::principal::Principal;
use super::refusal::Refusal;
use super::ticket::Tickets;

crate::metrics! {
    /// What is counted of who is asking.
    struct AuthMetrics {
        /// Requests that were not let in, by reason.
        refused: IntCounterVec("tidegate_auth_refused_total", ["reason"]),
    }
}

/// Why a service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Everybody could do everything, and nobody said that this is meant.
    #[error(
        "{said} would leave Tidegate open to everybody who reaches {host}: set AUTH_MODE to keys, jwt or \
         gateway (docs/security.md), or EVENT_SERVICE_HOST=127.0.0.1, or say that it is meant with \
         I_KNOW_THIS_IS_OPEN=true"
    )]
    Open {
        /// The setting, or that it is missing.
        said: &'static str,
        /// The address it would listen on.
        host: String,
    },
    /// API_KEYS_FILE.
    #[error("API_KEYS_FILE: {0}")]
    KeyFile(String),
    /// A metric is registered twice.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
    /// The system gives no random bytes.
    #[error(transparent)]
    Random(#[from] openssl::error::ErrorStack),
}

/// Finds out who is asking; clones share everything.
#[derive(Clone)]
pub struct Authenticator(Arc<Inner>);

struct Inner {
    config: AuthConfig,
    keys: KeyRing,
    limits: LimitBook,
    token_keys: TokenKeys,
    jwks: Option<JwkSource>,
    tickets: Tickets,
    metrics: AuthMetrics,
    following: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let following = self.following.get_mut();
        let following = following.unwrap_or_else(PoisonError::into_inner);
        following.iter().for_each(JoinHandle::abort);
    }
}

impl Authenticator {
    /// Gets ready, for a service that listens on `host`; within a runtime, as it keeps its keys up to
    /// date from then on.
    ///
    /// # Errors
    /// The door would be open and nobody said so; or the file of keys cannot be read.
    pub fn start(config: &AuthConfig, host: &str, registry: &Registry) -> Result<Self, StartError> {
        if config.mode == Mode::Off {
            let said = if config.is_said {
                "AUTH_MODE=off"
            } else {
                "AUTH_MODE, which is not set,"
            };
            if is_loopback(host) {
                tracing::info!("{said} lets every program on this machine do everything");
            } else if config.known_to_be_open {
                tracing::warn!(
                    "{said} LETS EVERYBODY WHO REACHES {host} READ AND CHANGE EVERYTHING"
                );
            } else {
                let host = host.to_owned();
                return Err(StartError::Open { said, host });
            }
        }
        let (keys, token_keys) = (KeyRing::default(), TokenKeys::default());
        let mut following = vec![];
        if let Some(path) = config.key_file.clone().filter(|_| config.mode != Mode::Off) {
            keys.set_file(key_file::read(&path).map_err(StartError::KeyFile)?);
            following.push(tokio::spawn(keys.clone().follow_file(path)));
        }
        if config.jwks.is_none() || !config.token_keys.is_empty() {
            token_keys.set(config.token_keys.clone());
        }
        let jwks = config.jwks.clone().filter(|_| config.mode == Mode::Jwt);
        let jwks =
            jwks.map(|place| JwkSource::new(place, config.token_keys.clone(), token_keys.clone()));
        following.extend(jwks.clone().map(|jwks| tokio::spawn(jwks.follow())));
        let secret = config.ticket_secret.as_ref().map(|secret| secret.expose());
        Ok(Self(Arc::new(Inner {
            tickets: Tickets::new(secret, config.ticket_lifetime)?,
            metrics: AuthMetrics::register(registry)?,
            config: config.clone(),
            keys,
            limits: LimitBook::default(),
            token_keys,
            jwks,
            following: Mutex::new(following),
        })))
    }

    /// Keeps API keys and limits of tenants as `read` says them, which asks the database.
    pub fn follow_database<F, E>(&self, read: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<Known, E>> + Send + 'static,
        E: Display + Send + Sync + 'static,
    {
        let (keys, limits) = (self.0.keys.clone(), self.0.limits.clone());
        let following = tokio::spawn(known::follow(keys, limits, read));
        let all = self.0.following.lock();
        all.unwrap_or_else(PoisonError::into_inner).push(following);
    }

    /// The limits that the tenant of a request has of its own.
    #[must_use]
    pub fn limits_of(request: &HttpRequest) -> TenantLimits {
        let auth = request.app_data::<web::Data<Self>>();
        let tenant = &Principal::of(request).tenant;
        auth.map(|auth| auth.0.limits.of(tenant))
            .unwrap_or_default()
    }

    /// What signs tickets.
    #[must_use]
    pub fn tickets(&self) -> &Tickets {
        &self.0.tickets
    }

    /// What /metrics wants.
    #[must_use]
    pub(crate) fn metrics_access(&self) -> Access {
        if self.0.config.public_metrics {
            Access::Public
        } else {
            Access::Operator
        }
    }

    /// Who is asking, if the rule lets them in.
    ///
    /// # Errors
    /// Why not.
    pub(super) async fn admit(
        &self,
        request: &HttpRequest,
        access: Access,
        now: fn() -> OffsetDateTime,
    ) -> Result<Arc<Principal>, Refusal> {
        let found = self.identify(request, access, now).await;
        let admitted = found.and_then(|found| match found {
            Some(who) if access.admits(&who) => Ok(who),
            Some(_) => Err(Refusal::Forbidden),
            None if matches!(access, Access::Public | Access::PublicWrite) => {
                Ok(Principal::anonymous())
            }
            None => Err(Refusal::Missing),
        });
        admitted.inspect_err(|refusal| {
            let refused = &self.0.metrics.refused;
            refused.with_label_values(&[refusal.reason()]).inc();
        })
    }

    async fn identify(
        &self,
        request: &HttpRequest,
        access: Access,
        now: fn() -> OffsetDateTime,
    ) -> Result<Option<Arc<Principal>>, Refusal> {
        let Inner { config, keys, .. } = &*self.0;
        let headers = request.headers();
        if access == Access::Public {
            return Ok(Some(Principal::anonymous()));
        }
        if config.mode == Mode::Off {
            // What is open is open for every tenant: events of all can be looked at.
            return match headers.get(&config.gateway.tenant) {
                None => Ok(Some(Principal::everybody())),
                Some(name) => {
                    let tenant = name.to_str().ok().and_then(TenantId::parse);
                    let tenant = tenant.ok_or(Refusal::Invalid("tenant"))?;
                    Ok(Some(Arc::new(Principal::anybody(tenant))))
                }
            };
        }
        if config.mode == Mode::Gateway {
            let peer = request.peer_addr().map(|peer| peer.ip());
            let says = gateway::read(headers, peer, &config.gateway, &config.trusted_proxies)?;
            if let Some(who) = says {
                return Ok(Some(Arc::new(who)));
            }
        }
        match credential::read(headers)? {
            Some(Credential::Key(key)) => keys.find(&key, now()).map(Some),
            Some(Credential::Bearer(key)) if key.starts_with("tg_") => {
                keys.find(&key, now()).map(Some)
            }
            Some(Credential::Bearer(token)) if config.mode == Mode::Jwt => {
                // Boxed: it may wait for the issuer, and what that needs would make every request's future larger.
                let who = Box::pin(self.of_token(&token)).await;
                who.map(Arc::new).map(Some)
            }
            Some(Credential::Bearer(_)) => Err(Refusal::Invalid("token")),
            None if access == Access::OwnOrTicket => {
                let ticket = in_query(request, "ticket=");
                let who = ticket.map(|ticket| self.0.tickets.check(ticket, now()));
                who.transpose().map(|who| who.map(Arc::new))
            }
            // A beacon of a page sends no headers, and a write key is no secret.
            None if access == Access::PublicWrite => match in_query(request, "write_key=") {
                Some(key) if KeyKind::of(key) == Some(KeyKind::Write) => {
                    keys.find(key, now()).map(Some)
                }
                Some(_) => Err(Refusal::Invalid("unknown_key")),
                None => Ok(None),
            },
            None => Ok(None),
        }
    }

    async fn of_token(&self, token: &str) -> Result<Principal, Refusal> {
        let Inner {
            config,
            token_keys,
            jwks,
            ..
        } = &*self.0;
        let checked = token_keys.check(token, &config.tokens);
        let may_be_new = matches!(
            checked,
            Err(Refusal::Invalid("unknown_kid") | Refusal::Unknown(_))
        );
        match jwks {
            Some(jwks) if may_be_new && jwks.look().await => {
                token_keys.check(token, &config.tokens)
            }
            _ => checked,
        }
    }
}

/// What stands behind that name in the query: base64url and a dot, so nothing of it is escaped.
fn in_query<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a str> {
    let mut pairs = request.query_string().split('&');
    pairs.find_map(|pair| pair.strip_prefix(name))
}

/// Whether only programs of this machine reach what listens there.
fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}
