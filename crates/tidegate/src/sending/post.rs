//! Sends one batch until it is settled or the patience ends.

use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable as _};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use super::event::Event;
use super::report::Report;
use crate::client;

/// The longest pause between two attempts, also where the service asks for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The pauses without a `Retry-After`; the patience limits their number.
const PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(200))
    .with_max_delay(LONGEST_PAUSE)
    .without_max_times();

/// The end of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Every event was accepted or refused.
    Done { accepted: u64 },
    /// The service did not come back in time.
    GaveUp(String),
    /// The service would refuse any batch at any time.
    Hopeless(String),
}

/// Sends batches.
pub(crate) struct Sender {
    pub(crate) client: reqwest::Client,
    pub(crate) url: Url,
    pub(crate) patience: Duration,
    pub(crate) report: Report,
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
    /// Everything is refused: a wrong address, no permission.
    Permanent(String),
}

impl Sender {
    /// Sends the events, in halves where they are too many or one of them spoils the request.
    pub(crate) async fn send(&self, events: &[Event]) -> Outcome {
        let mut accepted = 0;
        let mut left = vec![events];
        while let Some(events) = left.pop() {
            match self.attempts(events).await {
                Ok(answer) => {
                    accepted += answer.accepted;
                    self.report_refused(events, &answer.errors);
                }
                Err(Failure::Refused(reason)) => match events {
                    [] => {}
                    [one] => self.report.refused(one, &reason),
                    many => {
                        let (first, second) = many.split_at(many.len() / 2);
                        left.extend([second, first]);
                    }
                },
                Err(Failure::Transient(_, reason)) => return Outcome::GaveUp(reason),
                Err(Failure::Permanent(reason)) => return Outcome::Hopeless(reason),
            }
        }
        Outcome::Done { accepted }
    }

    /// Reports one line for each refused event, whatever the number of its wrong fields.
    fn report_refused(&self, events: &[Event], errors: &[ElementError]) {
        let mut last = None;
        for error in errors {
            if last.replace(error.index) == Some(error.index) {
                continue;
            }
            let path = error.path.split_once(']').map_or("", |(_, field)| field);
            let reason = match path.trim_start_matches('.') {
                "" => error.message.clone(),
                path => format!("{path}: {}", error.message),
            };
            if let Some(event) = events.get(error.index) {
                self.report.refused(event, &reason);
            }
        }
    }

    /// Retries transient failures until the patience ends.
    async fn attempts(&self, events: &[Event]) -> Result<Answer, Failure> {
        let events: Vec<&str> = events.iter().map(|event| event.json.as_str()).collect();
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
                    self.report.waiting(Some(reason));
                }
            })
            .await;
        self.report.waiting(None);
        outcome
    }

    async fn attempt(&self, body: String) -> Result<Answer, Failure> {
        let transient = |error| Failure::Transient(None, client::reason(&error));
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
        let reason = || format!("{status}: {}", client::detail(&text));
        match status {
            StatusCode::CREATED | StatusCode::OK => serde_json::from_str(&text)
                .map_err(|_| Failure::Permanent(client::NOT_TIDEGATE.to_owned())),
            StatusCode::BAD_REQUEST
            | StatusCode::UNPROCESSABLE_ENTITY
            | StatusCode::PAYLOAD_TOO_LARGE => Err(Failure::Refused(client::detail(&text))),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Err(Failure::Transient(asked, reason()))
            }
            status if status.is_server_error() => Err(Failure::Transient(asked, reason())),
            _ => Err(Failure::Permanent(reason())),
        }
    }
}
