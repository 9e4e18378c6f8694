//! Logging: one JSON object for each line, on standard output (C31).

use tracing_subscriber::EnvFilter;

use config::Env;

/// The values of `LOG_LEVEL`, in any case; the last two are names of other systems.
const LEVELS: [&str; 8] = [
    "trace", "debug", "info", "warn", "error", "off", "warning", "critical",
];

/// Filtered out unless RUST_LOG names the target: errors of clients, and each connection that was
/// taken over ([`crate::connection`]).
const UNWANTED: &str = "actix_http::h1::dispatcher=off";

/// Reports a `LOG_LEVEL` or `RUST_LOG` that cannot be used; [`init`] reads them.
pub fn check(env: &Env) {
    let level: String = env.get(
        &["LOG_LEVEL"],
        "INFO",
        "Level of all logs: TRACE, DEBUG, INFO, WARN, ERROR or OFF.",
    );
    if !LEVELS.contains(&level.to_lowercase().as_str()) {
        env.complain(
            "LOG_LEVEL",
            &level,
            "TRACE, DEBUG, INFO, WARN, ERROR or OFF",
        );
    }
    let filter = env.get_opt(
        &["RUST_LOG"],
        "Levels by crate or module, such as `processor=debug`; wins over LOG_LEVEL.",
    );
    if let Some(filter) = filter
        && let Err(error) = filter.parse::<EnvFilter>()
    {
        env.complain("RUST_LOG", &filter, &error.to_string());
    }
}

/// The filter: `RUST_LOG` (by crate and module) wins over `LOG_LEVEL` (one level for all), which wins
/// over `default`.
#[must_use]
pub fn filter(default: &str) -> EnvFilter {
    let variable = |name| std::env::var(name).unwrap_or_default();
    filter_of(&variable("RUST_LOG"), &variable("LOG_LEVEL"), default)
}

fn filter_of(directives: &str, level: &str, default: &str) -> EnvFilter {
    let level = level.trim().to_lowercase();
    let level = match level.as_str() {
        "trace" | "debug" | "info" | "warn" | "error" | "off" => level.as_str(),
        "warning" => "warn",
        "critical" => "error",
        _ => default,
    };
    Some(directives)
        .filter(|text| !text.is_empty())
        .and_then(|text| format!("{UNWANTED},{text}").parse::<EnvFilter>().ok())
        .unwrap_or_else(|| EnvFilter::new(format!("{level},{UNWANTED}")))
}

/// Turns logging on. A second call in one process, as in tests, is ignored.
pub fn init() {
    let _ = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter(filter("info"))
        .try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_several_names_and_the_default_is_the_caller_s() {
        for (directives, level, expected) in [
            ("", "", "warn"),
            ("", "WARNING", "warn"),
            ("", "critical", "error"),
            ("", "debug", "debug"),
            ("", "banana", "warn"),
            ("info,store=debug", "error", "info"),
        ] {
            let filter = filter_of(directives, level, "warn").to_string();
            let all: Vec<&str> = filter.split(',').collect();
            assert!(all.contains(&expected), "{level}: {filter}");
            assert!(all.contains(&UNWANTED), "{level}: {filter}");
        }
    }
}
