//! Follows the stored events of all users.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::bail;
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;

use super::options::Options;
use super::print::Printer;
use crate::client;

/// The pause between two looks.
const INTERVAL: Duration = Duration::from_millis(500);

/// Events of one request, at most: the limit of the service.
const PAGE: usize = 1_000;

/// Events of one look, at most.
const LOOK: usize = 100_000;

/// How far a look begins before the last event: `created_at` is when the transaction began, so the
/// events of a long transaction appear after younger ones.
const OVERLAP: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
struct Page {
    events: Vec<Value>,
    #[serde(default)]
    next_cursor: Option<String>,
}

/// Shows new events for ever.
///
/// # Errors
/// The service refuses the request.
pub(super) async fn run(options: &Options, printer: &Printer) -> anyhow::Result<()> {
    let mut url = options.instance.at("/api/v1/events/history")?;
    if let [only] = &options.types[..]
        && !only.as_str().contains('*')
    {
        url.query_pairs_mut()
            .append_pair("event_type", only.as_str());
    }
    let mut tail = Follower {
        client: client::client()?,
        url,
        known: Known::default(),
        has_begun: false,
    };
    let mut was_reached = true;
    loop {
        match tail.look(options, printer).await {
            Ok(()) => {
                if !was_reached {
                    printer.notice("connected again");
                }
                was_reached = true;
            }
            Err(Failure::Transient(reason)) => {
                if was_reached {
                    printer.notice(&format!("no answer ({reason}), retrying"));
                }
                was_reached = false;
            }
            Err(Failure::TooLarge(reason) | Failure::Permanent(reason)) => bail!(reason),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Why a page could not be read.
enum Failure {
    /// A later request may succeed.
    Transient(String),
    /// A smaller page may be answered.
    TooLarge(String),
    /// The service refuses the request.
    Permanent(String),
}

struct Follower {
    client: reqwest::Client,
    url: Url,
    known: Known,
    has_begun: bool,
}

impl Follower {
    /// Shows the new events; the first time the last `lines` of them.
    async fn look(&mut self, options: &Options, printer: &Printer) -> Result<(), Failure> {
        if !self.has_begun {
            return self.begin(options, printer).await;
        }
        let since = self.known.since();
        let mut fresh = Vec::new();
        let whole = self
            .pages(since, PAGE, |event| {
                if self.known.is_new(&event) {
                    fresh.push(event);
                }
                true
            })
            .await?;
        if !whole {
            printer.notice(&format!(
                "more than {LOOK} events at a time, the older ones are not shown"
            ));
        }
        for event in fresh.iter().rev().filter(|event| options.shows(event)) {
            printer.event(event, "data").await;
        }
        self.known.add(&fresh);
        self.known.forget();
        Ok(())
    }

    /// Shows the last lines. Records the newest events before, so that those stored meanwhile are
    /// shown by the next look, once.
    async fn begin(&mut self, options: &Options, printer: &Printer) -> Result<(), Failure> {
        let mut known = Known::default();
        known.add(&self.page(None, None, 1).await?.events);
        let since = known.since();
        if since.is_some() {
            self.pages(since, PAGE, |event| {
                known.add(&[event]);
                true
            })
            .await?;
        }
        let lines = usize::from(options.lines);
        let mut shown = Vec::new();
        let mut whole = true;
        if lines > 0 {
            let limit = if options.types.is_empty() {
                lines
            } else {
                PAGE
            };
            whole = self
                .pages(None, limit, |event| {
                    known.add(std::slice::from_ref(&event));
                    if options.shows(&event) {
                        shown.push(event);
                    }
                    shown.len() < lines
                })
                .await?;
        }
        if !whole {
            printer.notice(&format!("only the newest {LOOK} events were searched"));
        }
        for event in shown.iter().rev() {
            printer.event(event, "data").await;
        }
        known.forget();
        (self.known, self.has_begun) = (known, true);
        Ok(())
    }

    /// Gives `take` the events stored since then, the newest first, until it returns false. Returns
    /// false if there were more than [`LOOK`].
    async fn pages(
        &self,
        since: Option<OffsetDateTime>,
        limit: usize,
        mut take: impl FnMut(Value) -> bool,
    ) -> Result<bool, Failure> {
        let mut cursor = None;
        let mut seen = 0;
        let mut limit = limit.clamp(1, PAGE);
        loop {
            let page = match self.page(since, cursor.as_deref(), limit).await {
                // The page would be too large.
                Err(Failure::TooLarge(_)) if limit > 1 => {
                    limit /= 2;
                    continue;
                }
                page => page?,
            };
            seen += page.events.len();
            for event in page.events {
                if !take(event) {
                    return Ok(true);
                }
            }
            cursor = page.next_cursor;
            if cursor.is_none() || seen >= LOOK {
                return Ok(cursor.is_none());
            }
        }
    }

    async fn page(
        &self,
        since: Option<OffsetDateTime>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page, Failure> {
        let mut url = self.url.clone();
        url.query_pairs_mut()
            .append_pair("limit", &limit.to_string())
            .extend_pairs(since.map(|time| ("created_start", domain::timestamp::format(time))))
            .extend_pairs(cursor.map(|cursor| ("cursor", cursor)));
        let transient = |error| Failure::Transient(client::reason(&error));
        let answer = self.client.get(url).send().await.map_err(transient)?;
        let status = answer.status();
        let text = answer.text().await.map_err(transient)?;
        let reason = || format!("{status}: {}", client::detail(&text));
        match status {
            _ if status.is_success() => serde_json::from_str(&text)
                .map_err(|_| Failure::Permanent(client::NOT_TIDEGATE.to_owned())),
            StatusCode::UNPROCESSABLE_ENTITY => Err(Failure::TooLarge(reason())),
            _ if status.is_server_error() => Err(Failure::Transient(reason())),
            _ => Err(Failure::Permanent(reason())),
        }
    }
}

/// The events stored last, which the next look reads again.
#[derive(Default)]
struct Known {
    stored: HashMap<String, OffsetDateTime>,
    last: Option<OffsetDateTime>,
}

impl Known {
    /// When the next look begins.
    fn since(&self) -> Option<OffsetDateTime> {
        self.last.map(|last| last - OVERLAP)
    }

    fn is_new(&self, event: &Value) -> bool {
        !self.stored.contains_key(id(event))
    }

    fn add(&mut self, events: &[Value]) {
        for event in events {
            let created = event["created_at"].as_str();
            if let Some(at) = created.and_then(domain::timestamp::parse) {
                self.last = self.last.max(Some(at));
                self.stored.insert(id(event).to_owned(), at);
            }
        }
    }

    /// Drops the events that no look reads again.
    fn forget(&mut self) {
        if let Some(since) = self.since() {
            self.stored.retain(|_, at| *at >= since);
        }
    }
}

fn id(event: &Value) -> &str {
    event["event_id"].as_str().unwrap_or_default()
}
