//! The settings that every service reads: its address, its grace period, the limits of an event.

use std::time::Duration;

use config::Env;

use crate::auth::AuthConfig;
use crate::consul::config::ConsulConfig;

/// The settings of an HTTP server.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Address to bind.
    pub host: String,
    /// Port to bind; 0 takes a free one.
    pub port: u16,
    /// Port of its own for `/metrics` and the routes of administrators; 0 takes a free one.
    pub admin_port: Option<u16>,
    /// How long a client may take no byte of its answer before its connection is closed.
    pub stall: Duration,
    /// How long draining may take after SIGTERM.
    pub grace: Duration,
    /// The `service` of the health bodies.
    pub service_name: String,
    /// Who may ask.
    pub auth: AuthConfig,
    /// In whose catalogue it stands, if in any.
    pub consul: Option<ConsulConfig>,
}

impl HttpConfig {
    /// Reads the settings; `specific` is the variable of the service's own port.
    #[must_use]
    pub fn from_env(env: &Env, specific: &'static str, default_port: u16) -> Self {
        crate::telemetry::check(env);
        crate::consul::services(env);
        let role = specific.trim_end_matches("_PORT").to_lowercase();
        // The one process is all of them.
        let role = if role == "tidegate" {
            ""
        } else {
            role.as_str()
        };
        Self {
            host: env.get(&["EVENT_SERVICE_HOST"], "0.0.0.0", "Address to listen on."),
            port: env.get_in(
                &[specific, "EVENT_SERVICE_PORT", "SERVICE_PORT"],
                default_port,
                0..=u16::MAX,
                "Port to listen on; 0 takes a free one.",
            ),
            admin_port: admin_port(env),
            stall: Duration::from_secs(env.get_in(
                &["CLIENT_STALL_SECONDS"],
                30,
                1..=3_600,
                "Seconds a client may take no byte of what waits for it; then it is closed.",
            )),
            grace: Duration::from_secs(env.get_in(
                &["SHUTDOWN_GRACE_SECONDS"],
                25,
                1..=3_600,
                "Seconds that draining may take after SIGTERM.",
            )),
            service_name: env.get(
                &["SERVICE_NAME"],
                "event_service",
                "Name in the health bodies.",
            ),
            auth: AuthConfig::from_env(env),
            consul: ConsulConfig::from_env(env, role),
        }
    }
}

fn admin_port(env: &Env) -> Option<u16> {
    let text = env.get_opt(
        &["ADMIN_PORT"],
        "A port of its own for /metrics and the routes of administrators, which the other port then does not have; 0 \
         takes a free one.",
    )?;
    let port = text.parse::<u16>();
    if port.is_err() {
        env.complain("ADMIN_PORT", &text, "a port from 0 to 65535");
    }
    port.ok()
}

/// Reads the limits of one event.
#[must_use]
pub fn limits(env: &Env) -> domain::Limits {
    let default = domain::Limits::default();
    domain::Limits {
        max_event_bytes: env.get_in(
            &["MAX_EVENT_BYTES"],
            default.max_event_bytes,
            1_024..=8 * 1024 * 1024,
            "Bytes of one event; the same in gateway and processor.",
        ),
        max_json_depth: env.get_in(
            &["MAX_JSON_DEPTH"],
            default.max_json_depth,
            4..=512,
            "Nested containers of one event; the same in gateway and processor.",
        ),
        max_future_seconds: env.get_in(
            &["MAX_FUTURE_SECONDS"],
            default.max_future_seconds,
            0..=10 * 366 * 86_400,
            "How far an event's timestamp may lie after its receipt.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn an_unknown_log_level_is_refused() {
        let values = [("LOG_LEVEL", "loud"), ("RUST_LOG", "processor=noisy")];
        let values: HashMap<_, _> = values
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let env = Env::from_map(values);
        let _ = HttpConfig::from_env(&env, "A_PORT", 1);
        let text = env.finish().unwrap_err().to_string();
        assert!(
            text.contains("LOG_LEVEL=\"loud\"") && text.contains("RUST_LOG="),
            "{text}"
        );
    }
}
