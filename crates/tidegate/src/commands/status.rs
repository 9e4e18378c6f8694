//! `tidegate status`: shows the state of a running instance on one screen.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anstyle::Style;
use clap::Args;
use serde_json::{Value, json};

use crate::client::{self, Instance};
use crate::output;
use crate::style::{BOLD, DIM, GREEN, RED, YELLOW};

/// Show whether a running instance is ready, what it waits for, what it holds, how far it lags
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidegate status
  tidegate status --json | jq .ready.checks

Exit status: 0 when it is ready, 1 when it is not or does not answer.")]
pub(crate) struct Options {
    #[command(flatten)]
    instance: Instance,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

/// The metrics that are shown, by name, and their keys here.
const FIGURES: [(&str, &str); 8] = [
    ("tidegate_ingest_events_total", "requested"),
    ("tidegate_ingest_spilled_events_total", "spilled"),
    ("tidegate_ingest_spilling", "spilling"),
    ("tidegate_processor_consumer_lag_records", "lag_records"),
    ("tidegate_processor_postgres_log_records", "lag_records"),
    ("tidegate_sse_connections", "live_connections"),
    ("tidegate_sse_messages_total", "live_messages"),
    ("process_resident_memory_bytes", "memory_bytes"),
];

/// The detail of a check whose first result is not there yet.
const UNKNOWN: &str = "not looked at yet";

/// Asks the instance and shows the answers.
///
/// # Errors
/// `--url` is not a URL.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let client = client::builder().timeout(Duration::from_secs(5)).build()?;
    let get = async |path: &str| -> anyhow::Result<Result<(bool, String), String>> {
        let request = client.get(options.instance.at(path)?);
        let answer = async {
            let answer = request.send().await?;
            Ok((answer.status().is_success(), answer.text().await?))
        };
        Ok(answer.await.map_err(|error| client::reason(&error)))
    };
    let url = options.instance.shown();
    let health = match get("/health").await? {
        Ok((_, text)) => serde_json::from_str(&text).map_err(|_| client::NOT_TIDEGATE.to_owned()),
        Err(reason) => Err(reason),
    };
    let health: Value = match health {
        Ok(health) => health,
        Err(error) => {
            if options.json {
                output::line(json!({ "url": url, "error": error }));
            } else {
                output::notice(if error == client::NOT_TIDEGATE {
                    format!("what answers at {url} is not Tidegate")
                } else {
                    format!("nothing answers at {url} ({error}): is `tidegate dev` running?")
                });
            }
            return Ok(ExitCode::FAILURE);
        }
    };
    let (is_ready, ready) = get("/ready").await?.unwrap_or_default();
    let ready: Value = serde_json::from_str(&ready).unwrap_or_default();
    let counts = match get("/api/v1/events/stats").await? {
        Ok((true, text)) => serde_json::from_str(&text).unwrap_or_default(),
        _ => Value::Null,
    };
    let figures = match get("/metrics").await? {
        Ok((true, text)) => figures(&text),
        _ => json!({}),
    };
    if options.json {
        output::line(json!({
            "url": url, "health": health, "ready": ready, "counts": counts, "figures": figures,
        }));
    } else {
        show(url, is_ready, &ready, &counts, &figures);
    }
    Ok(if is_ready {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn show(url: &str, is_ready: bool, ready: &Value, counts: &Value, figures: &Value) {
    let (style, word) = if is_ready {
        (GREEN, "ready")
    } else {
        (RED, "not ready")
    };
    output::line(format_args!(
        "{BOLD}tidegate{BOLD:#} at {url}: {style}{word}{style:#}\n"
    ));
    for (name, check) in ready["checks"].as_object().into_iter().flatten() {
        let detail = check["detail"].as_str().unwrap_or_default();
        let (style, mark) = mark(check, detail);
        output::line(format_args!(
            "  {style}{mark}{style:#} {name:<14} {DIM}{detail}{DIM:#}"
        ));
    }
    output::line("");
    let number = |value: &Value| value.as_f64().map(grouped);
    let today = number(&counts["events_today"]).map(|today| format!("{today} today"));
    let spilling = figures["spilling"].as_f64() == Some(1.0);
    let lag_is_known = ready["checks"]["postgres_log"]["detail"] != UNKNOWN;
    let lag = number(&figures["lag_records"]);
    let messages = number(&figures["live_messages"]).map(|count| format!("{count} messages sent"));
    let memory = figures["memory_bytes"].as_f64();
    let (started, stored) = ("since the start".to_owned(), &counts["total_events"]);
    let rows = [
        ("stored", number(stored), today.unwrap_or_default()),
        ("pending", number(&counts["pending_events"]), String::new()),
        ("failed", number(&counts["failed_events"]), String::new()),
        ("accepted", number(&figures["accepted"]), started.clone()),
        ("rejected", number(&figures["rejected"]), started),
        (
            "spilled",
            number(&figures["spilled"]),
            if spilling { "and still spilling" } else { "" }.to_owned(),
        ),
        (
            "lag",
            lag.map(|lag| {
                if lag_is_known {
                    lag
                } else {
                    "unknown".to_owned()
                }
            }),
            "records not stored yet".to_owned(),
        ),
        (
            "live listeners",
            number(&figures["live_connections"]),
            messages.unwrap_or_default(),
        ),
        (
            "memory",
            memory.map(|bytes| format!("{:.0} MiB", bytes / 1_048_576.0)),
            String::new(),
        ),
    ];
    for (name, value, about) in rows {
        if let Some(value) = value {
            output::line(format_args!(
                "  {name:<16}{BOLD}{value:>14}{BOLD:#}  {DIM}{about}{DIM:#}"
            ));
        }
    }
}

/// The mark of a check of `/ready`.
fn mark(check: &Value, detail: &str) -> (Style, &'static str) {
    match (check["ok"].as_bool(), check["advisory"].as_bool()) {
        (Some(true), _) if detail == UNKNOWN => (YELLOW, "?"),
        (Some(true), _) if detail.starts_with("down") => (YELLOW, "!"),
        (Some(true), _) => (GREEN, "✓"),
        (_, Some(true)) => (YELLOW, "!"),
        _ => (RED, "✗"),
    }
}

/// Sums the metrics that are shown; `text` is in the format of Prometheus.
fn figures(text: &str) -> Value {
    let mut sums = BTreeMap::<&str, f64>::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let Ok(value) = value.parse::<f64>() else {
            continue;
        };
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let key = match FIGURES.iter().find(|(known, _)| *known == name) {
            Some((_, "requested")) if labels.contains("result=\"accepted\"") => "accepted",
            Some((_, "requested")) => "rejected",
            Some((_, key)) => key,
            None => continue,
        };
        let sum = sums.entry(key).or_default();
        // The registries of one process all measure the same memory.
        *sum = if key == "memory_bytes" {
            value
        } else {
            *sum + value
        };
    }
    json!(sums)
}

/// `1234567` as `1,234,567`.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", digits.as_str()),
    };
    let mut out = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped(0.0), "0");
        assert_eq!(grouped(999.0), "999");
        assert_eq!(grouped(1_234_567.0), "1,234,567");
        assert_eq!(grouped(-12_345.0), "-12,345");
    }

    #[test]
    fn series_are_summed() {
        let text = "\
# HELP tidegate_ingest_events_total x
tidegate_ingest_events_total{result=\"accepted\",route=\"a\"} 3
tidegate_ingest_events_total{result=\"accepted\",route=\"b\"} 4
tidegate_ingest_events_total{result=\"rejected\",route=\"b\"} 2
process_resident_memory_bytes{service=\"ingest\"} 1048576
process_resident_memory_bytes{service=\"query\"} 1048576
other 1
";
        let figures = figures(text);
        assert_eq!(figures["accepted"], 7.0);
        assert_eq!(figures["rejected"], 2.0);
        assert_eq!(figures["memory_bytes"], 1_048_576.0);
        assert!(figures.get("other").is_none());
    }
}
