//! `tidegate erase`: erases a user, and shows the receipt.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::client::{self, Common};
use crate::output;
use crate::style::{BOLD, CYAN, DIM, RED};

/// Erase a user everywhere, and show what was erased where
///
/// The events of the user go with their ids, their results, deliveries and dead letters; read models are
/// refolded from what is left; the live channel is emptied. What is still in Kafka does not come back
/// when it is read again; the receipt says when it is gone from there. Events sent afterwards are new.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidegate erase --user u-1                show how many events there are; erases nothing
  tidegate erase --user u-1 --yes          erase the user, wait, show the receipt
  tidegate erase --user u-1 --tenant acme --counts --yes --json
  tidegate erase --receipt ID              show a receipt again

Needs a key of scope admin in TIDEGATE_KEY.")]
pub(crate) struct Options {
    /// The user to erase
    #[arg(long, value_name = "USER", required_unless_present = "receipt")]
    user: Option<String>,
    /// Whose user; others than one's own only as admin of the default tenant
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Take the events out of the counts too; otherwise these stay
    #[arg(long)]
    counts: bool,
    /// Erase; without it nothing is erased
    #[arg(long)]
    yes: bool,
    /// Return at once
    #[arg(long)]
    detach: bool,
    /// Show how far an erasure is
    #[arg(long, value_name = "ID", conflicts_with_all = ["user", "tenant", "counts", "yes"])]
    receipt: Option<String>,
    #[command(flatten)]
    common: Common,
}

const PATH: &str = "/api/v1/admin/erasures";

/// Erases, or shows.
///
/// # Errors
/// `--url` is not a URL, or the service does not answer or refuses the request.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let http = client::client()?;
    let common = &options.common;
    let mut now = match &options.receipt {
        Some(id) => client::json(http.get(common.at(PATH, &[id])?)).await?,
        None => {
            let body = json!({"user_id": options.user, "tenant": options.tenant,
                "counts": options.counts, "dry_run": !options.yes});
            client::json(http.post(common.at(PATH, &[])?).json(&body)).await?
        }
    };
    if options.receipt.is_none() && !options.yes {
        if common.json {
            output::line(&now);
        } else {
            output::line(format_args!(
                "{BOLD}{} events{BOLD:#} of the user in tenant {}; nothing is erased without --yes",
                now["events"],
                text(&now, "tenant")
            ));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let waits = options.receipt.is_none() && !options.detach;
    while waits && now["status"] == "running" {
        tokio::time::sleep(Duration::from_millis(200)).await;
        now = client::json(http.get(common.at(PATH, &[text(&now, "id")])?)).await?;
    }
    if common.json {
        output::line(&now);
    } else {
        show(&now);
    }
    Ok(ExitCode::SUCCESS)
}

fn text<'a>(of: &'a Value, key: &str) -> &'a str {
    of[key].as_str().unwrap_or_default()
}

fn show(of: &Value) {
    output::line(format_args!(
        "{BOLD}{}{BOLD:#}  {CYAN}{}{CYAN:#}  tenant {}, what was accepted until {}",
        text(of, "id"),
        text(of, "status"),
        text(of, "tenant"),
        text(of, "accepted_until"),
    ));
    if let Some(problem) = of["problem"].as_str() {
        output::line(format_args!("  {RED}{problem}{RED:#}"));
    }
    let erased = of["erased"].as_object();
    for (place, rows) in erased.into_iter().flatten() {
        output::line(format_args!("  {place:<24}{rows:>10} erased"));
    }
    if of["status"] == "completed" && erased.is_none_or(serde_json::Map::is_empty) {
        output::line("  nothing was found");
    }
    if of["dropped"].as_i64().is_some_and(|dropped| dropped > 0) {
        output::line(format_args!(
            "  {} dropped since, when they were read again",
            of["dropped"]
        ));
    }
    let remains = &of["remains"];
    for topic in remains["kafka"].as_array().into_iter().flatten() {
        let gone = topic["gone_by"].as_str();
        let gone = gone.map_or("kept for ever: delete its records".to_owned(), |at| {
            format!("gone by {at}")
        });
        output::line(format_args!(
            "  {DIM}Kafka {}: {gone}{DIM:#}",
            text(topic, "topic")
        ));
    }
    if remains["live_reached"] == false {
        output::line(format_args!(
            "  {RED}the live channels were not reached: the processor that stores has no REDIS_URL{RED:#}"
        ));
    }
    for (kind, what) in [("subscriptions", "names"), ("projections", "is about")] {
        for name in remains[kind].as_array().into_iter().flatten() {
            let kind = kind.trim_end_matches('s');
            output::line(format_args!(
                "  the {kind} {name} {what} the user: decide about it"
            ));
        }
    }
}
