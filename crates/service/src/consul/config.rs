//! The settings of Consul.

use std::time::Duration;

use config::{Env, Secret};

/// How the agent is reached, and as what this process stands in the catalogue.
#[derive(Debug, Clone)]
pub struct ConsulConfig {
    /// The agent's host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether it is spoken to over TLS.
    pub tls: bool,
    /// What it knows this process by.
    pub token: Option<Secret>,
    /// The name of the service.
    pub service: String,
    /// The address that others reach it at; `None` finds it out.
    pub address: Option<String>,
    /// How often it is looked whether the agent still has it.
    pub refresh: Duration,
    /// How long the start waits for what is looked for.
    pub wait: Duration,
}

impl ConsulConfig {
    /// Reads it; `None` without `CONSUL_ENABLED`. `role` tells the services of the split shape apart;
    /// empty for the one process that is all of them.
    #[must_use]
    pub fn from_env(env: &Env, role: &str) -> Option<Self> {
        let enabled = env.get_bool(
            &["CONSUL_ENABLED"],
            false,
            "Stand in Consul's catalogue, and look there for the PostgreSQL, Kafka and Redis that the environment does not name.",
        );
        let config = Self {
            host: env.get(&["CONSUL_HOST"], "localhost", "Consul's agent."),
            port: env.get_in(&["CONSUL_PORT"], 8500, 1..=u16::MAX, "Its port."),
            tls: env.get_bool(
                &["CONSUL_HTTP_SSL"],
                false,
                "Speak TLS with the agent, whose certificate an authority of the system (or of SSL_CERT_FILE) has to have signed.",
            ),
            token: env.get_secret(
                &["CONSUL_TOKEN", "CONSUL_HTTP_TOKEN"],
                "The token for the agent: service:write for the own name, service:read and node:read for what is looked for.",
            ),
            service: env
                .get_opt(
                    &["CONSUL_SERVICE_NAME"],
                    "Name in the catalogue; else SERVICE_NAME, in the split shape with _ingest, _processor or _query.",
                )
                .unwrap_or_else(|| {
                    let name: String =
                        env.get(&["SERVICE_NAME"], "event_service", "Name in the health bodies.");
                    if role.is_empty() {
                        name
                    } else {
                        format!("{name}_{role}")
                    }
                }),
            address: env.get_opt(
                &["CONSUL_SERVICE_ADDRESS"],
                "Address in the catalogue; else EVENT_SERVICE_HOST, or the address that this machine reaches the agent from.",
            ),
            refresh: Duration::from_secs(env.get_in(
                &["CONSUL_REFRESH_SECONDS"],
                10,
                1..=3_600,
                "Seconds between two looks whether the agent still knows this process.",
            )),
            wait: Duration::from_secs(env.get_in(
                &["CONSUL_WAIT_SECONDS"],
                30,
                0..=3_600,
                "Seconds that the start waits for Consul to know what it looks for; then it ends with an error.",
            )),
        };
        enabled.then_some(config)
    }
}
