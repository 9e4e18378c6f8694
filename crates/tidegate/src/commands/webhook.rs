//! `tidegate webhook`: subscriptions and their deliveries.

use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::client::{self, Common};
use crate::output;
use crate::style::{BOLD, CYAN, DIM, RED};

const PATH: &str = "/api/v1/events/subscriptions";

/// Have events sent to endpoints: make, change and try subscriptions, see and repeat deliveries
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidegate webhook create billing --to https://example.com/hook --type 'order.*'
  tidegate webhook list
  tidegate webhook test billing
  tidegate webhook deliveries billing --outcome failed
  tidegate webhook resend billing --since 2026-11-28T12:00:00Z
  tidegate webhook rotate billing --overlap 3600")]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List them
    List(Common),
    /// Make one; shows its secret, this once
    Create {
        /// Its name
        name: String,
        /// The endpoint's address
        #[arg(long, value_name = "URL")]
        to: String,
        #[command(flatten)]
        selection: Selection,
        /// How events are written: json or cloudevents
        #[arg(long, default_value = "json", value_name = "FORMAT")]
        format: String,
        /// A secret of your own: whsec_ and base64 [default: a new one]
        #[arg(long, env = "TIDEGATE_WEBHOOK_SECRET", hide_env_values = true)]
        secret: Option<String>,
        /// Send the events of a stream one after the other
        #[arg(long)]
        ordered: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Delete one, with what is still to be sent
    Delete(Named),
    /// Have events sent again
    Enable(Named),
    /// Have no more events sent
    Disable(Named),
    /// Give one another secret; shows it, this once
    Rotate {
        #[command(flatten)]
        named: Named,
        /// Seconds that the old secret still holds
        #[arg(long, default_value_t = 86_400, value_name = "SECONDS")]
        overlap: u64,
    },
    /// Show the attempts, the newest first
    Deliveries {
        #[command(flatten)]
        named: Named,
        /// delivered, retry or failed
        #[arg(long)]
        outcome: Option<String>,
        /// Most attempts to show
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: u32,
    },
    /// Send once more: one event, or all that failed since a time
    Resend {
        #[command(flatten)]
        named: Named,
        /// The event
        #[arg(
            long,
            value_name = "ID",
            conflicts_with = "since",
            required_unless_present = "since"
        )]
        event: Option<String>,
        /// All whose last attempt since then failed
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
    },
    /// Send a test event, and show what the endpoint answers
    Test(Named),
}

#[derive(Debug, Args)]
struct Named {
    /// Its name, or its number
    subscription: String,
    #[command(flatten)]
    common: Common,
}

/// Which events.
#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// Only types under these patterns
    #[arg(long = "type", value_name = "PATTERN")]
    types: Vec<String>,
    /// Only these sources
    #[arg(long = "source", value_name = "SOURCE")]
    sources: Vec<String>,
    /// Only these categories
    #[arg(long = "category", value_name = "CATEGORY")]
    categories: Vec<String>,
    /// Only events of these users
    #[arg(long = "user", value_name = "ID")]
    users: Vec<String>,
    /// A condition as JSON, such as {"field":"data.total","op":"gte","value":100}
    #[arg(long, value_name = "JSON", value_parser = condition)]
    filter: Option<Value>,
}

impl Selection {
    /// As a selector is written.
    pub(crate) fn members(&self) -> Map<String, Value> {
        let members = json!({
            "event_types": self.types, "event_sources": self.sources,
            "event_categories": self.categories, "users": self.users, "filter": self.filter,
        });
        members.as_object().cloned().unwrap_or_default()
    }
}

fn condition(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str(text)
}

/// Runs the verb.
///
/// # Errors
/// `--url` is not a URL, or the service does not answer or refuses the request.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    match options.verb {
        Verb::List(common) => {
            let all = send(&common, Method::GET, "", &Value::Null).await?;
            each(&common, &all, subscription);
        }
        Verb::Create {
            name,
            to,
            selection,
            format,
            secret,
            ordered,
            common,
        } => {
            let mut body = selection.members();
            body.insert("subscriber_name".to_owned(), name.into());
            body.insert("callback_url".to_owned(), to.into());
            body.insert("format".to_owned(), format.into());
            body.insert("webhook_secret".to_owned(), secret.into());
            if ordered {
                body.insert("ordering".to_owned(), "stream".into());
            }
            let made = send(&common, Method::POST, "", &Value::Object(body)).await?;
            shown(&common, &made, subscription);
            secret_of(&common, &made);
        }
        Verb::Delete(named) => {
            let deleted = named.send(Method::DELETE, "", &Value::Null).await?;
            shown(&named.common, &deleted, |_| "deleted".to_owned());
        }
        Verb::Enable(named) => {
            let enabled = named.send(Method::POST, "/enable", &Value::Null).await?;
            shown(&named.common, &enabled, subscription);
        }
        Verb::Disable(named) => {
            let disabled = named.send(Method::POST, "/disable", &Value::Null).await?;
            shown(&named.common, &disabled, subscription);
        }
        Verb::Rotate { named, overlap } => {
            let body = json!({"overlap_seconds": overlap});
            let rotated = named.send(Method::POST, "/rotate", &body).await?;
            shown(&named.common, &rotated, |rotated| {
                format!(
                    "the old secret holds until {}",
                    text(rotated, "previous_secret_until")
                )
            });
            secret_of(&named.common, &rotated);
        }
        Verb::Deliveries {
            named,
            outcome,
            limit,
        } => {
            let outcome = outcome.map(|outcome| format!("&outcome={outcome}"));
            let path = format!("/deliveries?limit={limit}{}", outcome.unwrap_or_default());
            let list = named.send(Method::GET, &path, &Value::Null).await?;
            each(&named.common, &list["deliveries"], delivery);
        }
        Verb::Resend {
            named,
            event,
            since,
        } => {
            let (path, body) = match event {
                Some(event) => (format!("/deliveries/{event}/resend"), Value::Null),
                None => ("/resend".to_owned(), json!({"since": since})),
            };
            let resent = named.send(Method::POST, &path, &body).await?;
            shown(&named.common, &resent, |resent| {
                format!("{} to be sent once more", resent["resent"])
            });
        }
        Verb::Test(named) => {
            let outcome = named.send(Method::POST, "/test", &Value::Null).await?;
            let delivered = outcome["delivered"] == true;
            shown(&named.common, &outcome, |outcome| match delivered {
                true => format!(
                    "delivered: {} in {} ms",
                    outcome["status"], outcome["duration_ms"]
                ),
                false => format!("{RED}not delivered{RED:#}: {}", text(outcome, "error")),
            });
            if !delivered {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Named {
    /// Asks about the subscription of that number or name.
    async fn send(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
        let wanted = &self.subscription;
        let all = send(&self.common, Method::GET, "", &Value::Null).await?;
        let mut all = all.as_array().into_iter().flatten();
        let found = all.find(|one| {
            one["subscriber_name"] == wanted.as_str() || one["subscription_id"] == wanted.as_str()
        });
        let Some(found) = found else {
            bail!("there is no subscription {wanted}; `tidegate webhook list` shows them");
        };
        let path = format!("/{}{path}", text(found, "subscription_id"));
        send(&self.common, method, &path, body).await
    }
}

async fn send(common: &Common, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
    let url = common.instance.at(&format!("{PATH}{path}"))?;
    let request = client::client()?.request(method, url);
    let request = match body {
        Value::Null => request,
        body => request.json(body),
    };
    client::json(request).await
}

fn each(common: &Common, list: &Value, line: fn(&Value) -> String) {
    for one in list.as_array().into_iter().flatten() {
        shown(common, one, line);
    }
}

fn shown(common: &Common, one: &Value, line: impl Fn(&Value) -> String) {
    if common.json {
        output::line(one);
    } else {
        output::line(line(one));
    }
}

fn secret_of(common: &Common, answer: &Value) {
    if let (false, Some(secret)) = (common.json, answer["webhook_secret"].as_str()) {
        output::line(format_args!("  secret, not shown again: {secret}"));
    }
}

fn subscription(one: &Value) -> String {
    let state = match (one["enabled"].as_bool(), one["failing_since"].as_str()) {
        (Some(false), _) => format!("{RED}disabled ({}){RED:#}", text(one, "disabled_reason")),
        (_, Some(since)) => format!("{RED}failing since {since}{RED:#}"),
        _ => "enabled".to_owned(),
    };
    let parts = [
        "event_types",
        "event_sources",
        "event_categories",
        "users",
        "filter",
    ];
    let parts = parts.iter().map(|name| (*name, &one[*name]));
    let chosen: Map<String, Value> = parts
        .filter(|(_, value)| {
            !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty())
        })
        .map(|(name, value)| (name.to_owned(), value.clone()))
        .collect();
    let chosen = match chosen.is_empty() {
        true => "all events".to_owned(),
        false => Value::Object(chosen).to_string(),
    };
    format!(
        "{DIM}{}{DIM:#}  {BOLD}{}{BOLD:#}  {CYAN}{}{CYAN:#}  {state}  {chosen}",
        text(one, "subscription_id"),
        text(one, "subscriber_name"),
        text(one, "callback_url"),
    )
}

fn delivery(one: &Value) -> String {
    format!(
        "{DIM}{}{DIM:#}  {BOLD}{:<9}{BOLD:#}  {}  {CYAN}{}{CYAN:#}  attempt {}, {} ms  {}",
        text(one, "at"),
        text(one, "outcome"),
        text(one, "event_id"),
        text(one, "event_type"),
        one["attempt"],
        one["duration_ms"],
        text(one, "error"),
    )
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}
