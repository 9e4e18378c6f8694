//! `tidegate anomalies`: what is unusual, and the rules it is found by.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use crate::client::{self, Common};
use crate::output;
use crate::style::{BOLD, CYAN, DIM, RED};

/// Show anomalies, and the rules they are found by
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  tidegate anomalies
  tidegate anomalies --state open
  tidegate anomalies rules
  tidegate anomalies try --days 14 '{\"kind\":\"surge\",\"threshold\":5}'
  tidegate anomalies set checkout '{\"kind\":\"error_rate\",\"event_types\":[\"order.*\"]}'
  tidegate anomalies set silence '{\"kind\":\"silence\",\"enabled\":false}'
  tidegate anomalies delete checkout"
)]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Args)]
struct List {
    /// Only those that are open, or resolved
    #[arg(long, value_parser = ["open", "resolved"])]
    state: Option<String>,
    /// At most so many, the newest
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the rules, those that come with Tidegate too
    Rules(Common),
    /// Make a rule, or put it in the place of that of its name
    Set {
        /// Its name
        name: String,
        /// The rule as JSON, or @FILE
        rule: String,
        #[command(flatten)]
        common: Common,
    },
    /// Show what a rule would have done
    Try {
        /// The rule as JSON, or @FILE
        rule: String,
        /// On the last so many days
        #[arg(long, value_name = "N", default_value_t = 7)]
        days: u32,
        #[command(flatten)]
        common: Common,
    },
    /// Delete a rule
    Delete {
        /// Its name
        name: String,
        #[command(flatten)]
        common: Common,
    },
}

const PATH: &str = "/api/v1/anomalies";
const RULES: &str = "/api/v1/anomalies/rules";

/// Runs the verb.
///
/// # Errors
/// `--url` is not a URL, the rule is no JSON, or the service does not answer or refuses the request.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let http = client::client()?;
    match options.verb {
        None => {
            let List {
                state,
                limit,
                common,
            } = options.list;
            let mut url = common.at(PATH, &[])?;
            url.query_pairs_mut()
                .append_pair("limit", &limit.to_string());
            if let Some(state) = &state {
                url.query_pairs_mut().append_pair("state", state);
            }
            let body = client::json(http.get(url)).await?;
            show(&common, &body, "anomalies", show_alert);
        }
        Some(Verb::Rules(common)) => {
            let body = client::json(http.get(common.at(RULES, &[])?)).await?;
            show(&common, &body, "rules", show_rule);
        }
        Some(Verb::Set { name, rule, common }) => {
            let request = http.put(common.at(RULES, &[&name])?).json(&read(&rule)?);
            let body = client::json(request).await?;
            if common.json {
                output::line(body);
            } else {
                show_rule(&body);
            }
        }
        Some(Verb::Try { rule, days, common }) => {
            let mut rule = read(&rule)?;
            rule.insert("days".to_owned(), days.into());
            let request = http.post(common.at(RULES, &["trial"])?).json(&rule);
            let body = client::json(request).await?;
            show(&common, &body, "alerts", show_alert);
            if !common.json {
                output::notice(format_args!("{} alerts in {days} days", body["opened"]));
            }
        }
        Some(Verb::Delete { name, common }) => {
            let body = client::json(http.delete(common.at(RULES, &[&name])?)).await?;
            if common.json {
                output::line(body);
            } else {
                output::notice(format_args!("{name} is deleted"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// JSON, or a file with it.
fn read(rule: &str) -> anyhow::Result<Map<String, Value>> {
    let text = match rule.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file).with_context(|| file.to_owned())?,
        None => rule.to_owned(),
    };
    serde_json::from_str(&text).context("the rule is no JSON object")
}

fn show(common: &Common, body: &Value, name: &str, of: fn(&Value)) {
    if common.json {
        output::line(body);
    } else {
        body[name].as_array().into_iter().flatten().for_each(of);
    }
}

fn show_alert(of: &Value) {
    let text = |key: &str| of[key].as_str().unwrap_or_default();
    let style = if text("state") == "open" { RED } else { DIM };
    output::line(format_args!(
        "{}  {style}{}{style:#}  {BOLD}{}{BOLD:#}  {}",
        text("opened_at"),
        text("state"),
        text("rule"),
        text("message"),
    ));
}

fn show_rule(of: &Value) {
    let text = |key: &str| of[key].as_str().unwrap_or_default();
    let mut rule = of.as_object().cloned().unwrap_or_default();
    rule.retain(|key, value| {
        let shown = ["name", "kind", "is_default", "created_at", "updated_at"];
        !shown.contains(&key.as_str()) && !value.is_null() && *value != Value::Array(vec![])
    });
    let default = if of["is_default"] == true {
        "  default"
    } else {
        ""
    };
    output::line(format_args!(
        "{BOLD}{}{BOLD:#}  {CYAN}{}{CYAN:#}{DIM}{default}{DIM:#}  {}",
        text("name"),
        text("kind"),
        Value::Object(rule),
    ));
}
