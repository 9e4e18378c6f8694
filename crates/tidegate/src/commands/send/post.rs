//! One batch to the service, until it is settled or patience ends.

use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use super::lines::Event;
use super::report::Report;
use crate::client;

/// The first pause without a `Retry-After`, and the longest of all.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// What became of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Every event was taken or refused.
    Done { taken: u64 },
    /// The service did not come back.
    GaveUp(String),
    /// It wants nothing from us, whatever we send and whenever.
    Hopeless(String),
}

/// Sends batches.
pub(super) struct Sender {
    client: reqwest::Client,
    url: Url,
    patience: Duration,
    report: Report,
}

/// What the service says of a batch with `?partial=true`.
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

/// How one attempt ended.
enum Attempt {
    Taken(Answer),
    /// Later, perhaps in so long.
    Later(Option<Duration>, String),
    /// These bytes never; fewer of them perhaps.
    Refused(String),
    /// Whatever is sent: a wrong address, no permission.
    Never(String),
}

impl Sender {
    pub(super) fn new(
        client: reqwest::Client,
        url: Url,
        patience: Duration,
        report: Report,
    ) -> Self {
        Self {
            client,
            url,
            patience,
            report,
        }
    }

    /// Sends the events, in halves where they are too much or one of them spoils the request.
    pub(super) async fn send(&self, events: &[Event]) -> Outcome {
        let mut taken = 0;
        let mut left = vec![events];
        while let Some(events) = left.pop() {
            match self.settle(events).await {
                Attempt::Taken(answer) => {
                    taken += answer.accepted;
                    self.tell(events, &answer.errors);
                }
                Attempt::Refused(reason) => match events {
                    [] => {}
                    [one] => {
                        self.report.refused(one.line, &reason);
                    }
                    many => {
                        let (first, second) = many.split_at(many.len() / 2);
                        left.extend([second, first]);
                    }
                },
                Attempt::Later(_, reason) => return Outcome::GaveUp(reason),
                Attempt::Never(reason) => return Outcome::Hopeless(reason),
            }
        }
        Outcome::Done { taken }
    }

    /// One line for each refused event, whatever the number of its fields.
    fn tell(&self, events: &[Event], errors: &[ElementError]) {
        let mut last = None;
        for error in errors {
            if last.replace(error.index) == Some(error.index) {
                continue;
            }
            let path = error.path.split_once(']').map_or("", |(_, field)| field);
            let path = path.trim_start_matches('.');
            let reason = match path {
                "" => error.message.clone(),
                path => format!("{path}: {}", error.message),
            };
            if let Some(event) = events.get(error.index) {
                self.report.refused(event.line, &reason);
            }
        }
    }

    /// Tries again while that may help.
    async fn settle(&self, events: &[Event]) -> Attempt {
        let body = body(events);
        let began = Instant::now();
        let mut pause = PAUSES.0;
        loop {
            let attempt = self.attempt(body.clone()).await;
            let Attempt::Later(wait, reason) = attempt else {
                self.report.waiting(None);
                return attempt;
            };
            let wait = wait.unwrap_or(pause).min(PAUSES.1);
            if began.elapsed() + wait > self.patience {
                return Attempt::Later(None, reason);
            }
            self.report.waiting(Some(&reason));
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    async fn attempt(&self, body: String) -> Attempt {
        let request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) if error.is_builder() => return Attempt::Never(error.to_string()),
            Err(error) => return Attempt::Later(None, client::reason(&error)),
        };
        let status = answer.status();
        let wait = answer
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let text = match answer.text().await {
            Ok(text) => text,
            Err(error) => return Attempt::Later(None, client::reason(&error)),
        };
        let says = || format!("{status}: {}", client::detail(&text));
        match status {
            StatusCode::CREATED | StatusCode::OK => match serde_json::from_str(&text) {
                Ok(answer) => Attempt::Taken(answer),
                Err(_) => Attempt::Never(client::STRANGER.to_owned()),
            },
            StatusCode::BAD_REQUEST
            | StatusCode::UNPROCESSABLE_ENTITY
            | StatusCode::PAYLOAD_TOO_LARGE => Attempt::Refused(client::detail(&text)),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Attempt::Later(wait, says())
            }
            status if status.is_server_error() => Attempt::Later(wait, says()),
            _ => Attempt::Never(says()),
        }
    }
}

fn body(events: &[Event]) -> String {
    let size: usize = events.iter().map(|event| event.json.len() + 1).sum();
    let mut body = String::with_capacity(size + 2);
    body.push('[');
    for (index, event) in events.iter().enumerate() {
        if index > 0 {
            body.push(',');
        }
        body.push_str(&event.json);
    }
    body.push(']');
    body
}
