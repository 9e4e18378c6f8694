//! `tidegate audit`: recomputes from the rows what is kept beside them.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::client::{self, Common};
use crate::output;
use crate::style::{BOLD, CYAN, DIM, RED};

/// Recompute counts, ids, streams, positions and projections, and show what differs
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidegate audit
  tidegate audit --from 2026-11-01 --to 2026-11-07
  tidegate audit --repair

Exits with 1 where something differs and is not repaired. Storing goes on meanwhile.")]
pub(crate) struct Options {
    /// Repair what can be repaired
    #[arg(long)]
    repair: bool,
    /// The first day whose rows are looked at, UTC [default: the first there is]
    #[arg(long, value_name = "DAY")]
    from: Option<String>,
    /// The last day [default: the last there is]
    #[arg(long, value_name = "DAY")]
    to: Option<String>,
    #[command(flatten)]
    common: Common,
}

const PATH: &str = "/api/v1/admin/audits";

/// Asks for an audit, waits for its end, and shows what it found.
///
/// # Errors
/// `--url` is not a URL, the service does not answer or refuses the request, or the audit failed.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let Options {
        repair,
        from,
        to,
        common,
    } = options;
    let http = client::client()?;
    let asked = json!({"repair": repair, "from": from, "to": to});
    let request = http.post(common.at(PATH, &[])?).json(&asked);
    let made = client::json(request).await?;
    let url = common.at(PATH, &[made["audit_id"].as_str().unwrap_or_default()])?;
    let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}")?;
    let bar = ProgressBar::new_spinner().with_style(style);
    let report = loop {
        let report = client::json(http.get(url.clone())).await?;
        if report["state"] != "running" {
            break report;
        }
        let phase = report["phase"].as_str().unwrap_or_default();
        bar.set_message(format!("{phase}, {} checked", report["checked"]));
        bar.tick();
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    bar.finish_and_clear();
    if let Some(problem) = report["problem"].as_str() {
        anyhow::bail!("the audit failed: {problem}");
    }
    if common.json {
        output::line(&report);
    } else {
        report["differences"]
            .as_array()
            .into_iter()
            .flatten()
            .for_each(show);
        output::notice(format_args!(
            "{} checked, {} differences, {} repaired",
            report["checked"], report["findings"], report["repaired"]
        ));
    }
    let left = report["findings"] != report["repaired"];
    Ok(if left {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn show(of: &Value) {
    let text = |key: &str| of[key].as_str().unwrap_or_default();
    let (style, state) = if of["repaired"] == true {
        (DIM, "repaired")
    } else {
        (RED, "differs")
    };
    let events = of["events"].as_array().into_iter().flatten();
    let events: Vec<&str> = events.filter_map(Value::as_str).collect();
    output::line(format_args!(
        "{style}{state}{style:#}  {CYAN}{}{CYAN:#}  {BOLD}{}{BOLD:#}  {} instead of {}  {DIM}{} {}{DIM:#}",
        text("kind"),
        text("subject"),
        text("found"),
        text("expected"),
        text("tenant_id"),
        events.join(" "),
    ));
}
