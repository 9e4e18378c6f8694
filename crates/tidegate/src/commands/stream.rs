//! `tidegate stream`: shows the history of an aggregate or a user.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use crate::client::{self, Instance};
use crate::output;
use crate::style::{BOLD, CYAN, DIM};

/// Show the events of an aggregate or a user, by their versions
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidegate stream order:7
  tidegate stream order:7 --from 100 --limit 10
  tidegate stream user:u-1 --backward --limit 5 --json")]
pub(crate) struct Options {
    /// TYPE:ID of an aggregate, or user:ID
    stream_id: String,
    /// The first version to show [default: the first, or with --backward the last]
    #[arg(long, value_name = "VERSION")]
    from: Option<u32>,
    /// Most events to show [default: all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// From the newest to the oldest
    #[arg(long)]
    backward: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    instance: Instance,
}

/// Events asked for at once.
const PAGE: usize = 500;

/// Shows the stream, page by page.
///
/// # Errors
/// `--url` is not a URL, or the service does not answer or refuses the request.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let client = client::client()?;
    let mut url = options.instance.at("/api/v1/events/stream/")?;
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().push(&options.stream_id);
    }
    let mut from = options.from.map(u64::from);
    let mut left = options.limit.unwrap_or(usize::MAX);
    let mut shown = 0;
    while left > 0 {
        let mut page = url.clone();
        {
            let mut query = page.query_pairs_mut();
            query.append_pair("limit", &left.min(PAGE).to_string());
            if let Some(from) = from {
                query.append_pair("from_version", &from.to_string());
            }
            if options.backward {
                query.append_pair("direction", "backward");
            }
        }
        let stream = client::json(client.get(page)).await?;
        let events = stream["events"].as_array().map_or(&[][..], Vec::as_slice);
        events.iter().for_each(|event| show(event, options.json));
        (shown, left) = (shown + events.len(), left - events.len().min(left));
        from = stream["next_version"].as_u64();
        if from.is_none() {
            break;
        }
    }
    if shown == 0 && !options.json {
        output::notice(format_args!(
            "no events in the stream {}",
            options.stream_id
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn show(event: &Value, as_json: bool) {
    if as_json {
        return output::line(event);
    }
    let text = |key: &str| event[key].as_str().unwrap_or_default();
    let version = &event["stream_version"];
    output::line(format_args!(
        "{BOLD}{version:>6}{BOLD:#}  {DIM}{}{DIM:#}  {CYAN}{}{CYAN:#}  {DIM}{}{DIM:#}  {}",
        text("timestamp"),
        text("event_type"),
        text("event_id"),
        event["data"],
    ));
}
