//! Sends one batch until it is settled or the patience ends.

use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable as _};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use crate::answer::{NOT_TIDEGATE, detail, reason};

/// The route for batches, of which what is right is taken.
const BATCH: &str = "/api/v1/events/batch?partial=true";

/// The longest pause between two attempts, also where the service asks for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(60);

/// The pauses without a `Retry-After`; the patience limits their number.
const PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(200))
    .with_max_delay(LONGEST_PAUSE)
    .without_max_times();

/// Sends batches to one instance of Tidegate. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Sender {
    client: reqwest::Client,
    url: Url,
    patience: Duration,
}

/// What became of a batch: every event was accepted or refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sent {
    /// How many the service took, those it had already among them.
    pub accepted: u64,
    /// Those it will not take, in their order.
    pub refused: Vec<Refused>,
}

/// An event that the service will not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its place in the batch, from 0.
    pub index: usize,
    /// Why, beginning with the field that is wrong.
    pub reason: String,
}

/// Why a batch could not be sent. Some of its events may have been accepted: send it again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The service did not come back in time.
    #[error("{0}")]
    GaveUp(String),
    /// The service would refuse any batch at any time: a wrong address, a key that may not send.
    #[error("{0}")]
    Hopeless(String),
}

/// The service's answer to a batch with `?partial=true`.
#[derive(Deserialize)]
struct Answer {
    accepted: u64,
    errors: Vec<ElementError>,
}

#[derive(Deserialize)]
struct ElementError {
    index: usize,
    path: String,
    message: String,
}

/// Why an attempt failed.
enum Failure {
    /// A later attempt may succeed; the pause is what the service asks for.
    Transient(Option<Duration>, String),
    /// These bytes are refused; fewer of them may be accepted.
    Refused(String),
    /// Everything is refused.
    Permanent(String),
}

impl Sender {
    /// Sends to the instance at `url`, with an API key or token of the scope `write`; tries for that long
    /// while the service is down, overloaded or silent.
    ///
    /// # Errors
    /// The URL is none of HTTP, or the key is no header's value.
    pub fn new(url: &str, key: Option<&str>, patience: Duration) -> Result<Self, SendError> {
        let wrong = |why: &str| SendError::Hopeless(format!("{url:?}: {why}"));
        let base: Url = url.parse().map_err(|_| wrong("no URL"))?;
        if !["http", "https"].contains(&base.scheme()) || !base.has_host() {
            return Err(wrong("no http or https URL"));
        }
        let url = format!("{}{BATCH}", base.as_str().trim_end_matches('/'));
        let mut headers = HeaderMap::new();
        if let Some(key) = key.map(str::trim).filter(|key| !key.is_empty()) {
            let value = HeaderValue::from_str(&format!("Bearer {key}"));
            let mut value = value.map_err(|_| {
                SendError::Hopeless("the key has characters that no header carries".to_owned())
            })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let client = reqwest::Client::builder()
            .default_headers(headers)
            .connect_timeout(Duration::from_secs(5))
            .timeout(ANSWER)
            .user_agent(concat!("tidegate-client/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| SendError::Hopeless(error.to_string()))?;
        Ok(Self {
            client,
            url: url.parse().map_err(|_| wrong("no URL"))?,
            patience,
        })
    }

    /// Sends events, each one JSON object with an id of its own, in halves where they are too many or one
    /// of them spoils the request. `waiting` hears why the next attempt is delayed, and of the end of that.
    ///
    /// # Errors
    /// They could not all be settled.
    pub async fn send<T: AsRef<str>>(
        &self,
        events: &[T],
        waiting: impl Fn(Option<&str>),
    ) -> Result<Sent, SendError> {
        let mut sent = Sent::default();
        let mut left = vec![(0, events)];
        while let Some((first, events)) = left.pop() {
            match self.attempts(events, &waiting).await {
                Ok(answer) => {
                    sent.accepted += answer.accepted;
                    sent.refused.extend(refused(first, answer.errors));
                }
                Err(Failure::Refused(reason)) => match events.len() {
                    0 => {}
                    1 => sent.refused.push(Refused {
                        index: first,
                        reason,
                    }),
                    many => {
                        let (one, other) = events.split_at(many / 2);
                        left.extend([(first + many / 2, other), (first, one)]);
                    }
                },
                Err(Failure::Transient(_, reason)) => return Err(SendError::GaveUp(reason)),
                Err(Failure::Permanent(reason)) => return Err(SendError::Hopeless(reason)),
            }
        }
        Ok(sent)
    }

    /// Retries transient failures until the patience ends.
    async fn attempts<T: AsRef<str>>(
        &self,
        events: &[T],
        waiting: &impl Fn(Option<&str>),
    ) -> Result<Answer, Failure> {
        let events: Vec<&str> = events.iter().map(AsRef::as_ref).collect();
        let body = format!("[{}]", events.join(","));
        let began = Instant::now();
        let outcome = (|| self.attempt(body.clone()))
            .retry(PAUSES)
            .when(|failure| matches!(failure, Failure::Transient(..)))
            .adjust(|failure, pause| {
                let asked = match failure {
                    Failure::Transient(asked, _) => *asked,
                    _ => None,
                };
                let pause = asked.or(pause)?.min(LONGEST_PAUSE);
                (began.elapsed() + pause <= self.patience).then_some(pause)
            })
            .notify(|failure, _| {
                if let Failure::Transient(_, reason) = failure {
                    waiting(Some(reason));
                }
            })
            .await;
        waiting(None);
        outcome
    }

    async fn attempt(&self, body: String) -> Result<Answer, Failure> {
        let transient = |error| Failure::Transient(None, reason(&error));
        let request = self.client.post(self.url.clone());
        let request = request.header(CONTENT_TYPE, "application/json").body(body);
        let answer = match request.send().await {
            Err(error) if error.is_builder() => {
                return Err(Failure::Permanent(error.to_string()));
            }
            answer => answer.map_err(transient)?,
        };
        let status = answer.status();
        let asked = answer
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let text = answer.text().await.map_err(transient)?;
        let said = || format!("{status}: {}", detail(&text));
        match status {
            StatusCode::CREATED | StatusCode::OK => {
                serde_json::from_str(&text).map_err(|_| Failure::Permanent(NOT_TIDEGATE.to_owned()))
            }
            StatusCode::BAD_REQUEST
            | StatusCode::UNPROCESSABLE_ENTITY
            | StatusCode::PAYLOAD_TOO_LARGE => Err(Failure::Refused(detail(&text))),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Err(Failure::Transient(asked, said()))
            }
            status if status.is_server_error() => Err(Failure::Transient(asked, said())),
            _ => Err(Failure::Permanent(said())),
        }
    }
}

/// One for each refused event, whatever the number of its wrong fields.
fn refused(first: usize, errors: Vec<ElementError>) -> Vec<Refused> {
    let mut refused: Vec<Refused> = Vec::new();
    for error in errors {
        let index = first + error.index;
        if refused.last().is_some_and(|last| last.index == index) {
            continue;
        }
        let path = error.path.split_once(']').map_or("", |(_, field)| field);
        let reason = match path.trim_start_matches('.') {
            "" => error.message,
            path => format!("{path}: {}", error.message),
        };
        refused.push(Refused { index, reason });
    }
    refused
}
