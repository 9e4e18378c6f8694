//! Everybody's events, from what is stored.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;

use super::Options;
use super::print::Printer;
use crate::client;

/// How often it looks.
const EVERY: Duration = Duration::from_millis(500);

/// How many of the newest it looks at; the most that a page holds.
const PAGE: u16 = 1_000;

/// How many events it remembers having shown.
const REMEMBERED: usize = 20_000;

#[derive(Deserialize)]
struct Page {
    events: Vec<Value>,
}

/// Follows for ever.
///
/// # Errors
/// The service refuses the question.
pub(super) async fn run(options: &Options, printer: &Printer) -> anyhow::Result<()> {
    let client = client::client()?;
    let url = options.instance.at("/api/v1/events/history")?;
    let mut seen = Seen::default();
    let mut is_first = true;
    let mut was_reached = true;
    loop {
        // Most looks find little: a short page is asked for, and a full one only where that was
        // all new.
        for limit in [100, PAGE] {
            match page(&client, &url, limit).await {
                Ok(events) => {
                    if !was_reached {
                        printer.notice("connected again");
                        was_reached = true;
                    }
                    let fresh: Vec<&Value> = events.iter().filter(|one| seen.is_new(one)).collect();
                    let full = fresh.len() == usize::from(limit) && limit < PAGE && !is_first;
                    if full {
                        continue;
                    }
                    let wanted: Vec<&Value> = fresh
                        .iter()
                        .copied()
                        .filter(|event| options.shows(event))
                        .take(if is_first {
                            options.lines.into()
                        } else {
                            usize::MAX
                        })
                        .collect();
                    for event in wanted.iter().rev() {
                        printer.event(event, "data");
                    }
                    for event in fresh.iter().rev() {
                        seen.insert(event);
                    }
                    is_first = false;
                }
                Err(Trouble::Passing(reason)) => {
                    if was_reached {
                        printer.notice(&format!("no answer ({reason}), trying again"));
                    }
                    was_reached = false;
                }
                Err(Trouble::Lasting(error)) => return Err(error),
            }
            break;
        }
        tokio::time::sleep(EVERY).await;
    }
}

enum Trouble {
    Passing(String),
    Lasting(anyhow::Error),
}

async fn page(client: &reqwest::Client, url: &Url, limit: u16) -> Result<Vec<Value>, Trouble> {
    let mut url = url.clone();
    url.query_pairs_mut()
        .append_pair("limit", &limit.to_string());
    let passing = |error: reqwest::Error| Trouble::Passing(client::reason(&error));
    let answer = client.get(url).send().await.map_err(passing)?;
    let status = answer.status();
    let text = answer.text().await.map_err(passing)?;
    let says = || format!("{status}: {}", client::detail(&text));
    if status.is_server_error() {
        return Err(Trouble::Passing(says()));
    }
    let page = (|| {
        if !status.is_success() {
            bail!("{}", says());
        }
        serde_json::from_str::<Page>(&text).context("what answers there is not Tidegate")
    })();
    Ok(page.map_err(Trouble::Lasting)?.events)
}

/// The ids shown last.
#[derive(Default)]
struct Seen {
    ids: HashSet<String>,
    order: VecDeque<String>,
}

impl Seen {
    fn is_new(&self, event: &Value) -> bool {
        !self.ids.contains(id(event))
    }

    fn insert(&mut self, event: &Value) {
        let id = id(event);
        if self.ids.insert(id.to_owned()) {
            self.order.push_back(id.to_owned());
        }
        while self.order.len() > REMEMBERED {
            if let Some(old) = self.order.pop_front() {
                self.ids.remove(&old);
            }
        }
    }
}

fn id(event: &Value) -> &str {
    event["event_id"].as_str().unwrap_or_default()
}
