//! `tidegate receipt`: shows what happened to one event.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use crate::client::{self, Instance};
use crate::output;
use crate::style::{BOLD, DIM, GREEN, RED};

/// Show what happened to an event: where it came from, where it is, what repeated it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidegate receipt 0198c5a2-6e0e-7c31-9d0a-4a1f6c1d2e3f
  tidegate receipt order-1001 --json | jq .record

Exit status: 0 when it is stored, 1 when it is not.")]
pub(crate) struct Options {
    /// The event's id, or its client's own
    id: String,
    /// As one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    instance: Instance,
}

/// Shows the receipt.
///
/// # Errors
/// `--url` is not a URL, or the service does not answer.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let mut url = options.instance.at("/api/v1/events/")?;
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().push(&options.id).push("receipt");
    }
    let (status, text) = client::text(client::client()?.get(url)).await?;
    let receipt: Value = match serde_json::from_str(&text) {
        Ok(receipt) if status.is_success() || status.as_u16() == 404 => receipt,
        _ => anyhow::bail!("{}", client::detail(&text)),
    };
    if status.as_u16() == 404 && !receipt["positions"].is_array() {
        anyhow::bail!("{}", client::detail(&text));
    }
    if options.json {
        output::line(&receipt);
    } else {
        show(&receipt, status.is_success());
    }
    Ok(if status.is_success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn show(receipt: &Value, is_stored: bool) {
    if is_stored {
        let id = receipt["event_id"].as_str().unwrap_or_default();
        output::line(format_args!("{BOLD}{id}{BOLD:#}  {GREEN}stored{GREEN:#}"));
    } else {
        let detail = receipt["detail"].as_str().unwrap_or_default();
        output::line(format_args!("{RED}{detail}{RED:#}"));
    }
    for (name, value) in receipt.as_object().into_iter().flatten() {
        if ["event_id", "type", "title", "status", "detail"].contains(&name.as_str()) && !is_stored
            || name == "event_id"
            || value.is_null()
        {
            continue;
        }
        match value.as_array() {
            Some(many) if many.is_empty() => {}
            Some(many) => {
                output::line(format_args!("  {DIM}{name}{DIM:#}"));
                many.iter()
                    .for_each(|one| output::line(format_args!("    {}", words(one))));
            }
            None => output::line(format_args!("  {DIM}{name:<16}{DIM:#} {}", words(value))),
        }
    }
}

/// An object on one line, its members by their names.
fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(members) => members
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| match value {
                Value::Object(_) => words(value),
                value => format!("{name} {}", words(value)),
            })
            .collect::<Vec<_>>()
            .join(", "),
        other => other.to_string(),
    }
}
