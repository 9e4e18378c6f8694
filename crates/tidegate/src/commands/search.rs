//! `tidegate search`: finds events by what they say.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::client::{self, Instance};
use crate::output;
use crate::style::{BOLD, CYAN, DIM};

/// Find events by what they say
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
A question is a list of conditions that all hold; - before one says the contrary:
  refund  \"red shoes\"  sho*  data.title:red  type:order.*  source:backend  user_id:u-1
  data.amount:[10 TO 20]  data.amount:>=10  timestamp:>=2026-01-01

Examples:
  tidegate search 'refund data.amount:>=10 -type:order.test'
  tidegate search '\"red shoes\"' --type order.placed --from 2026-01-01 --limit 5
  tidegate search status
  tidegate search reindex --wait"
)]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    question: Question,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show how far the indexes are
    Status(Indexes),
    /// Have all that is stored put into the indexes again
    Reindex(Indexes),
}

#[derive(Debug, Args)]
struct Indexes {
    /// Return when nothing is left to be indexed
    #[arg(long)]
    wait: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    instance: Instance,
}

#[derive(Debug, Args)]
struct Question {
    /// What the events say
    #[arg(required = true)]
    q: Vec<String>,
    /// Events of this time or later
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Events of this time or earlier
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Only of this type
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Only of this user
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Only of this source
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    /// Most events to show
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    instance: Instance,
}

/// Events asked for at once.
const PAGE: usize = 100;
/// Between two looks of `--wait`.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Asks.
///
/// # Errors
/// `--url` is not a URL, or the service does not answer or refuses the question.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    match options.verb {
        None => find(options.question).await,
        Some(Verb::Status(indexes)) => watch(indexes, false).await,
        Some(Verb::Reindex(indexes)) => watch(indexes, true).await,
    }
}

async fn find(question: Question) -> anyhow::Result<ExitCode> {
    let client = client::client()?;
    let mut url = question.instance.at("/api/v1/events/search")?;
    url.query_pairs_mut()
        .append_pair("q", &question.q.join(" "));
    for (name, value) in [
        ("from", &question.from),
        ("to", &question.to),
        ("event_type", &question.event_type),
        ("user_id", &question.user),
        ("source", &question.source),
    ] {
        if let Some(value) = value {
            url.query_pairs_mut().append_pair(name, value);
        }
    }
    let (mut left, mut cursor) = (question.limit, None::<String>);
    while left > 0 {
        let mut page = url.clone();
        let limit = left.min(PAGE).to_string();
        page.query_pairs_mut().append_pair("limit", &limit);
        if let Some(cursor) = &cursor {
            page.query_pairs_mut().append_pair("cursor", cursor);
        }
        let answer = client::json(client.get(page)).await?;
        let events = answer["events"].as_array().cloned().unwrap_or_default();
        for event in &events {
            show(event, &answer["highlights"], question.json);
        }
        left -= events.len().min(left);
        cursor = answer["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(event: &Value, highlights: &Value, json: bool) {
    if json {
        output::line(event);
        return;
    }
    let text = |name: &str| event[name].as_str().unwrap_or("-").to_owned();
    let id = text("event_id");
    output::line(format_args!(
        "{DIM}{}{DIM:#}  {BOLD}{}{BOLD:#}  {}  {DIM}{id}{DIM:#}",
        text("timestamp"),
        text("event_type"),
        text("user_id"),
    ));
    for one in highlights[&id].as_array().into_iter().flatten() {
        let fragment = plain(one["fragment"].as_str().unwrap_or_default());
        let field = one["field"].as_str().unwrap_or_default();
        output::line(format_args!("    {CYAN}{field}{CYAN:#}: {fragment}"));
    }
}

/// A piece of HTML for a terminal, which obeys nothing in it.
fn plain(fragment: &str) -> String {
    let shown: String = fragment.chars().filter(|c| !c.is_control()).collect();
    let shown = shown
        .replace("<em>", &BOLD.render().to_string())
        .replace("</em>", &BOLD.render_reset().to_string());
    [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&amp;", "&"),
    ]
    .into_iter()
    .fold(shown, |text, (from, to)| text.replace(from, to))
}

async fn watch(indexes: Indexes, reindex: bool) -> anyhow::Result<ExitCode> {
    let client = client::client()?;
    let path = |name: &str| {
        indexes
            .instance
            .at(&format!("/api/v1/events/search/{name}"))
    };
    let mut answer = if reindex {
        client::json(client.post(path("reindex")?)).await?
    } else {
        client::json(client.get(path("indexes")?)).await?
    };
    let is_open = |answer: &Value| {
        let all = answer["indexes"].as_array();
        all.into_iter()
            .flatten()
            .any(|one| one["engine"] == answer["engine"] && !one["reindexed"].is_null())
    };
    while indexes.wait && is_open(&answer) {
        tokio::time::sleep(LOOK_EVERY).await;
        answer = client::json(client.get(path("indexes")?)).await?;
    }
    if indexes.json {
        output::line(&answer);
        return Ok(ExitCode::SUCCESS);
    }
    let engine = answer["engine"].as_str().unwrap_or("off");
    output::line(format_args!("{BOLD}search{BOLD:#}  {engine}"));
    for one in answer["indexes"].as_array().into_iter().flatten() {
        let state = match (one["problem"].as_str(), one["reindexed"].as_f64()) {
            (Some(problem), _) => problem.to_owned(),
            (None, Some(part)) => format!("{:.0} % of what was stored before is in", part * 100.0),
            (None, None) => "up to date".to_owned(),
        };
        output::line(format_args!(
            "  {}  {} events, {} refused, until {}: {state}",
            one["engine"].as_str().unwrap_or("-"),
            one["indexed"],
            one["refused"],
            one["indexed_until"].as_str().unwrap_or("-"),
        ));
    }
    Ok(ExitCode::SUCCESS)
}
