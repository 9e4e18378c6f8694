//! `tidegate projection`: defines what is folded from events, and shows the states.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

use crate::client::{self, Common};
use crate::output;
use crate::style::{BOLD, CYAN, DIM, RED};

/// Define projections, rebuild them, and show the states of entities
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidegate projection list
  tidegate projection show order 7
  tidegate projection create totals order --type 'order.*' --fold '{\"rule\":\"sum\",\"field\":\"total\"}'
  tidegate projection create latest user
  tidegate projection rebuild totals
  tidegate projection delete totals")]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List what is defined, with how far it is built
    List(Common),
    /// Show the state of an entity
    Show {
        /// The type of the entity, user for users
        entity_type: String,
        /// The entity
        entity_id: String,
        /// The projection, if there are several
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Define one, and wait until its history is read
    Create {
        /// Its name
        name: String,
        /// The type of the aggregates it is about, user for users
        entity_type: String,
        /// Only this entity [default: each of the type]
        #[arg(long, value_name = "ID")]
        entity: Option<String>,
        /// A pattern of event types, such as 'order.*'; may be repeated [default: all]
        #[arg(long = "type", value_name = "PATTERN")]
        types: Vec<String>,
        /// The rule as JSON, or @FILE [default: the last data of each event type]
        #[arg(long, value_name = "JSON")]
        fold: Option<String>,
        /// Define it otherwise if there is one of that name
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Rebuild one from the history, and wait until that is done
    Rebuild {
        /// Its name
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// Delete one with its states
    Delete {
        /// Its name
        name: String,
        #[command(flatten)]
        common: Common,
    },
}

const PATH: &str = "/api/v1/events/projections";

/// Runs the verb.
///
/// # Errors
/// `--url` is not a URL, or the service does not answer or refuses the request.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let http = client::client()?;
    match options.verb {
        Verb::List(common) => {
            let body = client::json(http.get(common.at(PATH, &[])?)).await?;
            if common.json {
                output::line(body);
            } else {
                let all = body["definitions"].as_array();
                all.into_iter().flatten().for_each(show_definition);
            }
        }
        Verb::Show {
            entity_type,
            entity_id,
            name,
            common,
        } => {
            let mut url = common.at(PATH, &[&entity_type, &entity_id])?;
            if let Some(name) = name {
                url.query_pairs_mut().append_pair("name", &name);
            }
            let body = client::json(http.get(url)).await?;
            if common.json {
                output::line(body);
            } else {
                show_state(&body);
            }
        }
        Verb::Create {
            name,
            entity_type,
            entity,
            types,
            fold,
            replace,
            common,
        } => {
            let types = if types.is_empty() { None } else { Some(types) };
            let body = json!({"name": name, "entity_type": entity_type, "entity_id": entity,
                "event_types": types, "fold": fold.as_deref().map(read).transpose()?});
            let request = if replace {
                http.put(common.at(PATH, &[&name])?)
            } else {
                http.post(common.at(PATH, &[])?)
            };
            build(&http, &common, request.json(&body)).await?;
        }
        Verb::Rebuild { name, common } => {
            let request = http.post(common.at(PATH, &[&name, "rebuild"])?);
            build(&http, &common, request).await?;
        }
        Verb::Delete { name, common } => {
            let (status, text) = client::text(http.delete(common.at(PATH, &[&name])?)).await?;
            if !status.is_success() {
                bail!("{}", client::detail(&text));
            }
            if !common.json {
                output::notice(format_args!("{name} is deleted"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// JSON, or a file with it.
fn read(fold: &str) -> anyhow::Result<Value> {
    let text = match fold.strip_prefix('@') {
        Some(file) => {
            std::fs::read_to_string(PathBuf::from(file)).with_context(|| file.to_owned())?
        }
        None => fold.to_owned(),
    };
    serde_json::from_str(&text).context("--fold is no JSON")
}

/// Has a version built, and waits for it with a progress bar.
async fn build(http: &Client, common: &Common, request: RequestBuilder) -> anyhow::Result<()> {
    let asked = client::json(request).await?;
    let text = |key: &str| asked[key].as_str().unwrap_or_default();
    let mut url = common.at(PATH, &[])?;
    url.query_pairs_mut().append_pair("name", text("name"));
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos} entities, {elapsed}")?;
    let bar = ProgressBar::no_length().with_style(style);
    bar.set_message(format!("{} {}", text("name"), asked["version"]));
    loop {
        let body = client::json(http.get(url.clone())).await?;
        let all = body["definitions"].as_array();
        let ours = |of: &&Value| of["version"] == asked["version"];
        let Some(now) = all.into_iter().flatten().find(ours) else {
            bail!("{} was changed or deleted meanwhile", text("name"));
        };
        if let Some(total) = now["entities_total"].as_u64() {
            bar.set_length(total);
        }
        bar.set_position(now["entities"].as_u64().unwrap_or(0));
        if now["state"] == "live" {
            bar.finish_and_clear();
            if common.json {
                output::line(now);
            } else {
                show_definition(now);
            }
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn show_definition(of: &Value) {
    let text = |key: &str| of[key].as_str().unwrap_or_default();
    let entity = of["entity_id"].as_str().unwrap_or("*");
    output::line(format_args!(
        "{BOLD}{}{BOLD:#} {}  {CYAN}{}:{entity}{CYAN:#}  {}  {DIM}{} entities, {} events{DIM:#}  {}",
        text("name"),
        of["version"],
        text("entity_type"),
        text("state"),
        of["entities"],
        of["events"],
        of["fold"],
    ));
    if let Some(problem) = of["problem"].as_str() {
        output::line(format_args!("  {RED}{problem}{RED:#}"));
    }
}

fn show_state(of: &Value) {
    let text = |key: &str| of[key].as_str().unwrap_or_default();
    output::line(format_args!(
        "{BOLD}{}{BOLD:#}  {CYAN}{}:{}{CYAN:#}  {DIM}{} events, the last {}{DIM:#}",
        text("projection_name"),
        text("entity_type"),
        text("entity_id"),
        of["version"],
        text("last_event_id"),
    ));
    output::line(format_args!("{:#}", of["state"]));
    if let Some(error) = of["error"].as_str() {
        output::line(format_args!(
            "{RED}{}: {error}{RED:#}",
            text("error_event_id")
        ));
    }
}
