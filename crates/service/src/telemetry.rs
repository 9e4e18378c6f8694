//! Logs: one JSON object a line on standard output (C31).

use tracing_subscriber::EnvFilter;

/// Turns logging on. `RUST_LOG` (per crate and module) wins over `LOG_LEVEL` (one level for all).
/// A second call in one process, as in tests, is ignored.
pub fn init() {
    let level = std::env::var("LOG_LEVEL")
        .unwrap_or_default()
        .to_lowercase();
    let level = match level.as_str() {
        "trace" | "debug" | "info" | "warn" | "error" | "off" => level,
        "warning" => "warn".to_owned(),
        "critical" => "error".to_owned(),
        _ => "info".to_owned(),
    };
    let filter = std::env::var("RUST_LOG")
        .ok()
        .filter(|text| !text.is_empty())
        .and_then(|text| text.parse::<EnvFilter>().ok())
        .unwrap_or_else(|| EnvFilter::new(level));
    let _ = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter(filter)
        .try_init();
}
