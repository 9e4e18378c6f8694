//! `tidegate report`: how events are named and built.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use crate::client::{self, Common};
use crate::output;
use crate::style::{BOLD, DIM};

/// Show how events are named and built: names, likely typos, changes of shape, missing ids, clocks, repeats
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidegate report
  tidegate report --days 30 --json")]
pub(crate) struct Options {
    /// Of the last so many days
    #[arg(long, value_name = "N", default_value_t = 7)]
    days: u32,
    #[command(flatten)]
    common: Common,
}

/// The parts of a report: member, heading, and the members of a line.
const PARTS: [(&str, &str, &[&str]); 6] = [
    (
        "names",
        "Names that break a rule",
        &["event_type", "events", "problems"],
    ),
    ("typos", "Likely typos", &["event_type", "likely", "events"]),
    (
        "mixed_types",
        "Members with several types",
        &["event_type", "schema_version", "path", "json_types"],
    ),
    (
        "changed",
        "Members that are new, or not sent any more",
        &[
            "event_type",
            "schema_version",
            "path",
            "first_seen",
            "last_seen",
        ],
    ),
    (
        "missing_ids",
        "Events without an id",
        &["event_type", "event_source", "without_ids", "events"],
    ),
    (
        "sources",
        "Clocks and repeats by source",
        &[
            "event_source",
            "events",
            "duplicates",
            "late",
            "early",
            "worst_seconds",
        ],
    ),
];

/// Shows the report.
///
/// # Errors
/// `--url` is not a URL, or the service does not answer or refuses the request.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let mut url = options.common.at("/api/v1/reports/instrumentation", &[])?;
    url.query_pairs_mut()
        .append_pair("days", &options.days.to_string());
    let report = client::json(client::client()?.get(url)).await?;
    if options.common.json {
        output::line(report);
        return Ok(ExitCode::SUCCESS);
    }
    for (part, heading, columns) in PARTS {
        let rows = report[part].as_array().map_or(&[][..], Vec::as_slice);
        if rows.is_empty() {
            continue;
        }
        output::line(format_args!(
            "{BOLD}{heading}{BOLD:#}  {DIM}{}{DIM:#}",
            columns.join("  ")
        ));
        for row in rows {
            let values: Vec<String> = columns.iter().map(|name| shown(&row[*name])).collect();
            output::line(format_args!("  {}", values.join("  ")));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}
