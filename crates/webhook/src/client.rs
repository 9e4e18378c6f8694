//! The client: one attempt to deliver one message.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::redirect::Policy;

use crate::address::Networks;
use crate::config::WebhookConfig;
use crate::endpoint::Endpoint;
use crate::secret::Secret;

/// Bytes read of an answer; the connection is closed if there are more.
const MAX_ANSWER: usize = 16 * 1024;
/// Characters kept of an answer.
const MAX_EXCERPT: usize = 1_000;
/// Connections kept open to one host.
const IDLE: usize = 2;

/// Finds the addresses of a name.
pub type Lookup = Arc<
    dyn Fn(String) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>
        + Send
        + Sync,
>;

/// Sends messages. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    networks: Networks,
    guard: Arc<Guard>,
}

/// What is sent.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    /// `webhook-id`, the same in every attempt.
    pub id: &'a str,
    /// `webhook-timestamp`: seconds since 1970, of this attempt.
    pub timestamp: i64,
    /// `webhook-signature`: one for each secret that holds, with spaces between; empty without any, and
    /// then not sent.
    pub signature: String,
    /// The media type of the body.
    pub content_type: &'static str,
    /// JSON.
    pub body: Bytes,
}

impl<'a> Message<'a> {
    /// A message with a signature of each secret.
    #[must_use]
    pub fn signed(
        id: &'a str,
        timestamp: i64,
        content_type: &'static str,
        body: Bytes,
        secrets: &[Secret],
    ) -> Self {
        let signatures = secrets
            .iter()
            .map(|secret| secret.sign(id, timestamp, &body));
        let signature = signatures.collect::<Vec<_>>().join(" ");
        Self {
            id,
            timestamp,
            signature,
            content_type,
            body,
        }
    }
}

/// What came of an attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The status, if the endpoint answered.
    pub status: Option<u16>,
    /// The beginning of the answer's body, as text.
    pub excerpt: String,
    /// Why there is no answer.
    pub error: Option<String>,
    /// How long the endpoint wants to be left alone.
    pub retry_after: Option<Duration>,
    /// How long the attempt took.
    pub took: Duration,
}

impl Answer {
    /// Whether the endpoint has the message: 2xx is the only way to say so.
    #[must_use]
    pub fn delivered(&self) -> bool {
        self.error.is_none()
            && self
                .status
                .is_some_and(|status| (200..300).contains(&status))
    }

    /// Whether the endpoint says that it wants no more messages, ever.
    #[must_use]
    pub fn gone(&self) -> bool {
        self.status == Some(410)
    }

    /// Why it was not delivered, as a sentence.
    #[must_use]
    pub fn why(&self) -> String {
        match (&self.error, self.status) {
            (Some(error), _) => error.clone(),
            (None, Some(status)) => format!("the endpoint answered {status}"),
            (None, None) => "the endpoint did not answer".to_owned(),
        }
    }
}

impl Client {
    /// A client that resolves names as the system does.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(config: &WebhookConfig) -> Result<Self, reqwest::Error> {
        Self::with_lookup(
            config,
            Arc::new(|name| {
                Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) })
            }),
        )
    }

    /// A client that resolves names so.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn with_lookup(config: &WebhookConfig, lookup: Lookup) -> Result<Self, reqwest::Error> {
        let guard = Arc::new(Guard {
            networks: config.networks.clone(),
            lookup,
        });
        let http = reqwest::Client::builder()
            .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::clone(&guard))
            .redirect(Policy::none())
            // A proxy would resolve the name once more, and unchecked.
            .no_proxy()
            .referer(false)
            .connect_timeout(config.connect_timeout)
            .timeout(config.timeout)
            .pool_max_idle_per_host(IDLE)
            .build()?;
        Ok(Self {
            http,
            networks: config.networks.clone(),
            guard,
        })
    }

    /// Reads an address and, where its host is a name that resolves, checks what to.
    ///
    /// # Errors
    /// A sentence about what is wrong. A name that does not resolve now may do so later.
    pub async fn endpoint(&self, text: &str) -> Result<Endpoint, String> {
        let endpoint = Endpoint::parse(text, &self.networks)?;
        if let Some(name) = endpoint.name() {
            let checked = self.guard.addresses(name.to_owned());
            match tokio::time::timeout(Duration::from_secs(3), checked).await {
                Ok(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(error.to_string());
                }
                _ => {}
            }
        }
        Ok(endpoint)
    }

    /// Sends a message, once.
    pub async fn send(&self, url: &str, message: Message<'_>) -> Answer {
        let started = Instant::now();
        let mut answer = match Endpoint::parse(url, &self.networks) {
            Ok(endpoint) => self.attempt(&endpoint, message).await,
            Err(error) => Answer {
                error: Some(error),
                ..Answer::default()
            },
        };
        answer.took = started.elapsed();
        answer
    }

    async fn attempt(&self, endpoint: &Endpoint, message: Message<'_>) -> Answer {
        let now = message.timestamp;
        let mut request = self
            .http
            .post(endpoint.url().clone())
            .header(CONTENT_TYPE, message.content_type)
            .header("webhook-id", message.id)
            .header("webhook-timestamp", message.timestamp)
            .body(message.body);
        if !message.signature.is_empty() {
            request = request.header("webhook-signature", message.signature);
        }
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                return Answer {
                    error: Some(reason(&error)),
                    ..Answer::default()
                };
            }
        };
        let retry_after = response.headers().get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| pause(value.to_str().ok()?, now));
        let status = Some(response.status().as_u16());
        let mut body = Vec::new();
        let error = loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_ANSWER => {
                    body.extend_from_slice(&chunk);
                }
                // The rest is not read: the status counts.
                Ok(Some(chunk)) => {
                    body.extend_from_slice(
                        chunk.get(..MAX_ANSWER - body.len()).unwrap_or_default(),
                    );
                    break None;
                }
                Ok(None) => break None,
                Err(error) => break Some(reason(&error)),
            }
        };
        let text = String::from_utf8_lossy(&body);
        Answer {
            status,
            excerpt: text
                .chars()
                .filter(|c| *c != '\0')
                .take(MAX_EXCERPT)
                .collect(),
            error,
            retry_after,
            took: Duration::ZERO,
        }
    }
}

/// Resolves a name to what may be reached of its addresses; the connection goes to these, so that
/// what a name says a moment later changes nothing.
struct Guard {
    networks: Networks,
    lookup: Lookup,
}

impl Guard {
    fn addresses(&self, name: String) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + use<> {
        let (networks, found) = (self.networks.clone(), (self.lookup)(name));
        async move {
            let mut refused = None;
            let mut addresses = found.await?;
            addresses.retain(|address| {
                let checked = networks.check(address.ip());
                let fits = checked.is_ok();
                refused = refused.take().or(checked.err());
                fits
            });
            match refused {
                Some(why) if addresses.is_empty() => {
                    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
                }
                _ => Ok(addresses),
            }
        }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let addresses = self.addresses(name.as_str().to_owned());
        Box::pin(async move { Ok(Box::new(addresses.await?.into_iter()) as Addrs) })
    }
}

/// The innermost cause, which is what an operator can act on.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        let what = if error.is_connect() {
            "connect"
        } else {
            "answer"
        };
        return format!("the endpoint did not {what} in time");
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// `Retry-After`: seconds, or a date, seen from `now` in seconds since 1970.
fn pause(value: &str, now: i64) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    let now = UNIX_EPOCH + Duration::from_secs(now.try_into().ok()?);
    at.duration_since(now).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = 784_111_777;
        for (value, want) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:48:37 GMT", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(pause(value, now), want.map(Duration::from_secs), "{value}");
        }
    }
}
