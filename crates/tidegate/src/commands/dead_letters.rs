//! `tidegate dead-letters`: shows what could not be stored, has it stored again, sets it aside.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::client::{self, Common};
use crate::output;
use crate::style::{BOLD, CYAN, DIM, RED};

/// Show the records that could not be stored, have them stored again, or set them aside
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidegate dead-letters counts
  tidegate dead-letters list --reason wrong_type
  tidegate dead-letters show 17
  tidegate dead-letters redrive --reason database --dry-run
  tidegate dead-letters redrive --reason database --rate 100
  tidegate dead-letters redrive 17 --payload mended.json
  tidegate dead-letters discard 18 19 --note 'test data'")]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Count them by reason, topic and state
    Counts(Common),
    /// List them, newest first
    List {
        #[command(flatten)]
        filter: Filter,
        /// Most records to list
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: u32,
        #[command(flatten)]
        common: Common,
    },
    /// Show one whole: bytes, reason, place, history
    Show {
        /// Its number
        id: i64,
        #[command(flatten)]
        common: Common,
    },
    /// Have them stored again
    Redrive {
        #[command(flatten)]
        selection: Selection,
        /// Most of them a second
        #[arg(long, default_value_t = 1_000, value_name = "N")]
        rate: u32,
        /// A file, UTF-8, to be stored instead of the bytes of the one record
        #[arg(long, value_name = "FILE")]
        payload: Option<PathBuf>,
        #[command(flatten)]
        common: Common,
    },
    /// Set them aside
    Discard {
        #[command(flatten)]
        selection: Selection,
        /// Why
        #[arg(long)]
        note: String,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Args)]
struct Filter {
    /// Only this reason
    #[arg(long)]
    reason: Option<String>,
    /// Only this topic, by its full name
    #[arg(long)]
    topic: Option<String>,
    /// open, discarded or redriven (under way) [default: open]
    #[arg(long)]
    state: Option<String>,
    /// Only those kept at this time or later
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only those kept at this time or earlier
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

#[derive(Debug, Args)]
struct Selection {
    /// Their numbers
    ids: Vec<i64>,
    #[command(flatten)]
    filter: Filter,
    /// All that are open
    #[arg(long)]
    all: bool,
    /// Only say how many there are
    #[arg(long)]
    dry_run: bool,
}

const PATH: &str = "/api/v1/events/dead-letters";

/// Runs the verb.
///
/// # Errors
/// `--url` is not a URL, or the service does not answer or refuses the request.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    match options.verb {
        Verb::Counts(common) => {
            let counts = get(&common, "/counts", &Map::new()).await?;
            show_all(&common, &counts, "counts", |count| {
                let text = |key: &str| count[key].as_str().unwrap_or_default().to_owned();
                format!(
                    "{BOLD}{:>8}{BOLD:#}  {CYAN}{}{CYAN:#}  {}  {DIM}{}{DIM:#}",
                    count["count"],
                    text("reason"),
                    text("topic"),
                    text("state")
                )
            });
        }
        Verb::List {
            filter,
            limit,
            common,
        } => {
            let mut query = filter.members();
            query.insert("limit".to_owned(), limit.into());
            query.insert("count".to_owned(), false.into());
            let list = get(&common, "", &query).await?;
            show_all(&common, &list, "dead_letters", line);
        }
        Verb::Show { id, common } => {
            let letter = get(&common, &format!("/{id}"), &Map::new()).await?;
            if common.json {
                output::line(&letter);
            } else {
                show(&letter);
            }
        }
        Verb::Redrive {
            selection,
            rate,
            payload,
            common,
        } => {
            let mut body = selection.body();
            body.insert("rate".to_owned(), rate.into());
            // A request goes on for a minute at most.
            body.insert(
                "limit".to_owned(),
                rate.saturating_mul(30).clamp(1, 1_000).into(),
            );
            if let Some(path) = payload {
                let text = std::fs::read_to_string(&path);
                let text = text.with_context(|| path.display().to_string())?;
                body.insert("payload".to_owned(), text.into());
            }
            change(&common, "redrive", "redriven", body).await?;
        }
        Verb::Discard {
            selection,
            note,
            common,
        } => {
            let mut body = selection.body();
            body.insert("note".to_owned(), note.into());
            change(&common, "discard", "discarded", body).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Filter {
    fn members(self) -> Map<String, Value> {
        [
            ("reason", self.reason),
            ("topic", self.topic),
            ("state", self.state),
            ("start_time", self.since),
            ("end_time", self.until),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.into())))
        .collect()
    }
}

impl Selection {
    fn body(self) -> Map<String, Value> {
        let mut body = self.filter.members();
        if !self.ids.is_empty() {
            body.insert("ids".to_owned(), self.ids.into());
        }
        body.insert("all".to_owned(), self.all.into());
        body.insert("dry_run".to_owned(), self.dry_run.into());
        body
    }
}

async fn get(common: &Common, path: &str, query: &Map<String, Value>) -> anyhow::Result<Value> {
    let mut url = common.instance.at(&format!("{PATH}{path}"))?;
    for (name, value) in query {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        url.query_pairs_mut().append_pair(name, &text);
    }
    client::json(client::client()?.get(url)).await
}

/// Changes all that are selected, request by request.
async fn change(
    common: &Common,
    verb: &str,
    done: &str,
    mut body: Map<String, Value>,
) -> anyhow::Result<()> {
    let client = client::builder()
        .timeout(std::time::Duration::from_secs(90))
        .build()?;
    let url = common.instance.at(&format!("{PATH}/{verb}"))?;
    let mut all: Option<Value> = None;
    let mut changed = 0;
    loop {
        let answer = client::json(client.post(url.clone()).json(&body)).await?;
        changed += answer["changed"].as_u64().unwrap_or(0);
        let next = answer["last_id"].clone();
        all.get_or_insert(answer);
        if next.is_null() {
            break;
        }
        body.insert("after_id".to_owned(), next);
    }
    let all = all.unwrap_or_default();
    let (selected, without) = (&all["selected"], all["without_event"].as_u64().unwrap_or(0));
    if common.json {
        output::line(json!({"dry_run": all["dry_run"], "selected": selected,
            "without_event": without, "changed": changed}));
    } else if all["dry_run"] == true {
        output::line(format_args!("{selected} would be {done}"));
    } else {
        output::line(format_args!("{changed} of {selected} are {done}"));
    }
    if verb == "redrive" && without > 0 && !common.json {
        output::notice(format_args!(
            "{without} hold no event and cannot be redriven"
        ));
    }
    Ok(())
}

fn show_all(common: &Common, list: &Value, name: &str, line: impl Fn(&Value) -> String) {
    for one in list[name].as_array().into_iter().flatten() {
        if common.json {
            output::line(one);
        } else {
            output::line(line(one));
        }
    }
}

fn line(letter: &Value) -> String {
    let text = |key: &str| letter[key].as_str().unwrap_or_default();
    format!(
        "{BOLD}{:>8}{BOLD:#}  {DIM}{}{DIM:#}  {CYAN}{}{CYAN:#}  {}/{}/{}  {}",
        letter["id"],
        text("created_at"),
        text("reason"),
        text("topic"),
        letter["partition"],
        letter["offset"],
        text("detail"),
    )
}

fn show(letter: &Value) {
    output::line(line(letter));
    let members = [
        "state",
        "note",
        "attempts",
        "event_id",
        "key",
        "headers",
        "payload",
        "payload_base64",
    ];
    for name in members {
        let value = &letter[name];
        // Bytes that are text are shown as that.
        if value.is_null() || (name == "payload_base64" && letter["payload"].is_string()) {
            continue;
        }
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        output::line(format_args!("  {DIM}{name:<14}{DIM:#} {text}"));
    }
    for fault in letter["faults"].as_array().into_iter().flatten() {
        let text = |key: &str| fault[key].as_str().unwrap_or_default();
        output::line(format_args!(
            "  {RED}{} {}{RED:#}",
            text("path"),
            text("message")
        ));
        if fault["at"].is_number() {
            output::line(format_args!(
                "    {}{RED}▶{RED:#}{}",
                text("before"),
                text("after")
            ));
        } else if !fault["value"].is_null() {
            output::line(format_args!("    {}", fault["value"]));
        }
    }
    for step in letter["history"].as_array().into_iter().flatten() {
        output::line(format_args!("  {DIM}{step}{DIM:#}"));
    }
}
