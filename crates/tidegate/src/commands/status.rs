//! `tidegate status`: one screen about a running instance.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::client::{self, Instance};
use crate::output;
use crate::style::{BOLD, DIM, GREEN, RED, YELLOW};

/// Say whether a running instance is well: what it waits for, what it holds, how far it lags
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

/// Metrics that are shown: name, what it is called here. Those that are not there are left out.
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

/// What a check says of what it cannot tell yet.
const UNKNOWN: &str = "not looked at yet";

/// Asks and shows.
///
/// # Errors
/// The URL is none.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let client = client::builder().timeout(Duration::from_secs(5)).build()?;
    let get = async |path: &str| -> anyhow::Result<Result<(bool, String), String>> {
        let url = options.instance.at(path)?;
        Ok(match client.get(url).send().await {
            Ok(answer) => {
                let ok = answer.status().is_success();
                answer
                    .text()
                    .await
                    .map(|text| (ok, text))
                    .map_err(|error| client::reason(&error))
            }
            Err(error) => Err(client::reason(&error)),
        })
    };
    let health = get("/health").await?;
    let shown = options.instance.shown();
    let Ok((_, health)) = health else {
        let reason = health.err().unwrap_or_default();
        if options.json {
            output::line(json!({ "url": shown, "error": reason }));
        } else {
            output::notice(format_args!(
                "nothing answers at {shown} ({reason}): is `tidegate dev` running?"
            ));
        }
        return Ok(ExitCode::FAILURE);
    };
    let Ok(health) = serde_json::from_str::<Value>(&health) else {
        if options.json {
            output::line(json!({ "url": shown, "error": client::STRANGER }));
        } else {
            output::notice(format_args!("what answers at {shown} is not Tidegate"));
        }
        return Ok(ExitCode::FAILURE);
    };
    let parsed = |answer: Result<(bool, String), String>| match answer {
        Ok((ok, text)) => (ok, serde_json::from_str(&text).unwrap_or(Value::Null)),
        Err(_) => (false, Value::Null),
    };
    let (is_ready, ready) = parsed(get("/ready").await?);
    let (has_counts, counts) = parsed(get("/api/v1/events/stats").await?);
    let counts = if has_counts { counts } else { Value::Null };
    let figures = match get("/metrics").await? {
        Ok((true, text)) => figures(&text),
        _ => json!({}),
    };
    if options.json {
        let all = json!({
            "url": shown, "health": health, "ready": ready, "counts": counts, "figures": figures,
        });
        output::line(all);
    } else {
        show(shown, is_ready, &ready, &counts, &figures);
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
        let ok = check["ok"].as_bool().unwrap_or(false);
        let detail = check["detail"].as_str().unwrap_or_default();
        let (style, mark) = match check["advisory"].as_bool() {
            _ if ok && detail == UNKNOWN => (YELLOW, "?"),
            _ if ok && detail.starts_with("down") => (YELLOW, "!"),
            _ if ok => (GREEN, "✓"),
            Some(true) => (YELLOW, "!"),
            _ => (RED, "✗"),
        };
        output::line(format_args!(
            "  {style}{mark}{style:#} {name:<14} {DIM}{detail}{DIM:#}"
        ));
    }
    output::line("");
    let number = |value: &Value| value.as_f64().map(grouped);
    let line = |name: &str, value: Option<String>, about: &str| {
        if let Some(value) = value {
            output::line(format_args!(
                "  {name:<16}{BOLD}{value:>14}{BOLD:#}  {DIM}{about}{DIM:#}"
            ));
        }
    };
    let today = number(&counts["events_today"]).map(|today| format!("{today} today"));
    line(
        "stored",
        number(&counts["total_events"]),
        &today.unwrap_or_default(),
    );
    line("pending", number(&counts["pending_events"]), "");
    line("failed", number(&counts["failed_events"]), "");
    line("accepted", number(&figures["accepted"]), "since the start");
    line("rejected", number(&figures["rejected"]), "since the start");
    let spilling = figures["spilling"].as_f64() == Some(1.0);
    line(
        "spilled",
        number(&figures["spilled"]),
        if spilling { "and still spilling" } else { "" },
    );
    let is_known = ready["checks"]["postgres_log"]["detail"] != UNKNOWN;
    line(
        "lag",
        number(&figures["lag_records"])
            .map(|lag| if is_known { lag } else { "unknown".to_owned() }),
        "records not stored yet",
    );
    line(
        "live listeners",
        number(&figures["live_connections"]),
        &number(&figures["live_messages"])
            .map(|count| format!("{count} messages sent"))
            .unwrap_or_default(),
    );
    line(
        "memory",
        figures["memory_bytes"]
            .as_f64()
            .map(|bytes| format!("{:.0} MiB", bytes / 1_048_576.0)),
        "",
    );
}

/// The sums that are shown, out of the text of Prometheus.
fn figures(text: &str) -> Value {
    let mut sums = std::collections::BTreeMap::<&str, f64>::new();
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
