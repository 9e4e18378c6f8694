//! `tidegate replay`: runs stored events again, and shows how far that is.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Client;
use serde_json::{Value, json};

use crate::client::{self, Common};
use crate::output;
use crate::style::{BOLD, CYAN, DIM, RED};

/// Run stored events again, for a service or for projections
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidegate replay start --stream order:7 --dry-run
  tidegate replay start --stream order:7
  tidegate replay start --since 2026-11-28T00:00:00Z --until 2026-11-28T12:00:00Z \\
      --type order.paid --service billing --rate 200
  tidegate replay list
  tidegate replay show ID
  tidegate replay pause ID

The events go to the topic replay.SERVICE, to --processor, or --live to who listens; without any of them,
the projections of their entities are refolded. Nothing is stored or counted once more.")]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Begin one, and wait until it has ended
    Start {
        #[command(flatten)]
        selection: Box<Selection>,
        #[command(flatten)]
        common: Common,
    },
    /// List them, the newest first
    List(Common),
    /// Show how far one is
    Show(One),
    /// Halt one
    Pause(One),
    /// Have one that is paused go on
    Resume(One),
    /// End one for good
    Cancel(One),
}

#[derive(Debug, Args)]
struct Selection {
    /// These events
    ids: Vec<String>,
    /// The events of a stream, TYPE:ID or user:ID
    #[arg(long, value_name = "STREAM")]
    stream: Option<String>,
    /// Events of this time or later, with --until
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Events of this time or earlier
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only this event type; alone all events of it
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// The service that gets them [default: projections are refolded]
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    /// Only this projection; may be repeated [default: all of their entities]
    #[arg(long, value_name = "NAME", conflicts_with = "service")]
    projection: Vec<String>,
    /// Have this processor run with them once more; may be repeated
    #[arg(long, value_name = "NAME", conflicts_with_all = ["service", "projection"])]
    processor: Vec<String>,
    /// Show them to their users who listen, marked as replayed
    #[arg(long, conflicts_with_all = ["service", "projection", "processor"])]
    live: bool,
    /// Most of them a second
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    rate: u32,
    /// Only show the events and what would change
    #[arg(long)]
    dry_run: bool,
    /// Return at once
    #[arg(long)]
    detach: bool,
}

#[derive(Debug, Args)]
struct One {
    /// The id of the replay
    id: String,
    #[command(flatten)]
    common: Common,
}

const PATH: &str = "/api/v1/events/replays";

/// Runs the verb.
///
/// # Errors
/// `--url` is not a URL, the service does not answer or refuses the request, or the replay has failed.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let http = client::client()?;
    let (one, verb) = match options.verb {
        Verb::Start { selection, common } => return start(&http, &selection, &common).await,
        Verb::List(common) => {
            let body = client::json(http.get(common.at(PATH, &[])?)).await?;
            let all = body["replays"].as_array();
            all.into_iter()
                .flatten()
                .for_each(|one| shown(&common, one));
            return Ok(ExitCode::SUCCESS);
        }
        Verb::Show(one) => (one, None),
        Verb::Pause(one) => (one, Some("pause")),
        Verb::Resume(one) => (one, Some("resume")),
        Verb::Cancel(one) => (one, Some("cancel")),
    };
    let request = match verb {
        None => http.get(one.common.at(PATH, &[&one.id])?),
        Some(verb) => http.post(one.common.at(PATH, &[&one.id, verb])?),
    };
    shown(&one.common, &client::json(request).await?);
    Ok(ExitCode::SUCCESS)
}

async fn start(http: &Client, of: &Selection, common: &Common) -> anyhow::Result<ExitCode> {
    fn some<T>(all: &[T]) -> Option<&[T]> {
        (!all.is_empty()).then_some(all)
    }
    let body = json!({"event_ids": some(&of.ids), "stream_id": of.stream, "start_time": of.since,
        "end_time": of.until, "event_type": of.event_type, "target_service": of.service,
        "projections": some(&of.projection), "processors": some(&of.processor), "live": of.live, "rate": of.rate, "dry_run": of.dry_run});
    let url = common.instance.at("/api/v1/events/replay")?;
    let begun = client::json(http.post(url).json(&body)).await?;
    if of.dry_run {
        if common.json {
            output::line(&begun);
        } else {
            show_dry_run(&begun, of.live);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let id = begun["replay_id"].as_str().unwrap_or_default();
    let bar = match begun["events_count"].as_u64() {
        Some(events) if !of.detach => ProgressBar::new(events),
        _ => ProgressBar::hidden(),
    };
    let template = "{msg} {wide_bar} {pos}/{len} events, {elapsed}, {eta} left";
    bar.set_style(ProgressStyle::with_template(template)?);
    bar.set_message(id.to_owned());
    loop {
        let now = client::json(http.get(common.at(PATH, &[id])?)).await?;
        let number = |key: &str| now[key].as_u64().unwrap_or(0);
        bar.set_position(number("replayed") + number("failed"));
        let status = now["status"].as_str().unwrap_or_default();
        if !of.detach && matches!(status, "running" | "paused") {
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        }
        bar.finish_and_clear();
        shown(common, &now);
        if status == "failed" {
            bail!("{}", now["problem"].as_str().unwrap_or_default());
        }
        return Ok(ExitCode::SUCCESS);
    }
}

fn shown(common: &Common, replay: &Value) {
    if common.json {
        output::line(replay);
    } else {
        show(replay);
    }
}

fn show(replay: &Value) {
    let text = |key: &str| replay[key].as_str().unwrap_or_default();
    output::line(format_args!(
        "{BOLD}{}{BOLD:#}  {CYAN}{}{CYAN:#}  {}/{} events, {} failed  {DIM}{}{DIM:#}  {}",
        text("replay_id"),
        text("status"),
        replay["replayed"],
        replay["events_count"],
        replay["failed"],
        text("created_at"),
        replay["request"],
    ));
    if let Some(problem) = replay["problem"].as_str() {
        output::line(format_args!("  {RED}{problem}{RED:#}"));
    }
}

fn show_dry_run(of: &Value, live: bool) {
    let names = of["processors"].as_array().into_iter().flatten();
    let names: Vec<&str> = names.filter_map(Value::as_str).collect();
    let to = match of["topic"].as_str() {
        Some(topic) => topic.to_owned(),
        None if live => "who listens".to_owned(),
        None if names.is_empty() => "projections".to_owned(),
        None => names.join(", "),
    };
    output::line(format_args!(
        "{BOLD}{} events{BOLD:#} to {CYAN}{to}{CYAN:#}",
        of["events_count"]
    ));
    for event in of["events"].as_array().into_iter().flatten() {
        let text = |key: &str| event[key].as_str().unwrap_or_default();
        output::line(format_args!(
            "  {DIM}{}  {}{DIM:#}  {}  {}",
            text("timestamp"),
            text("event_id"),
            text("event_type"),
            event["data"]
        ));
    }
    for state in of["projections"].as_array().into_iter().flatten() {
        let text = |key: &str| state[key].as_str().unwrap_or_default();
        let verdict = if state["changes"] == true {
            "changes"
        } else {
            "stays"
        };
        output::line(format_args!(
            "{BOLD}{}{BOLD:#} {}:{} {verdict}",
            text("projection_name"),
            text("entity_type"),
            text("entity_id")
        ));
        if state["changes"] == true {
            output::line(format_args!("  {DIM}before{DIM:#} {}", state["before"]));
            output::line(format_args!("  {DIM}after{DIM:#}  {}", state["after"]));
        }
    }
}
