//! The settings of what sends webhooks.

use std::time::Duration;

use config::Env;
use ipnet::IpNet;

use crate::address::Networks;

/// How endpoints are reached.
#[derive(Debug, Clone)]
pub struct WebhookConfig {
    /// Which addresses may be reached.
    pub networks: Networks,
    /// How long a connection may take, name and TLS included.
    pub connect_timeout: Duration,
    /// How long an attempt may take, from the name to the end of the answer.
    pub timeout: Duration,
}

impl WebhookConfig {
    /// Reads the environment.
    #[must_use]
    pub fn from_env(env: &Env) -> Self {
        const NAME: &str = "WEBHOOK_ALLOWED_NETWORKS";
        let words = env.get_list(
            &[NAME],
            "",
            "Networks that webhooks may reach beside the public internet, as 10.1.0.0/16, by commas.",
        );
        let mut allowed = vec![];
        for word in &words {
            let address = || word.parse::<std::net::IpAddr>().map(IpNet::from).ok();
            match word.parse().ok().or_else(address) {
                Some(net) => allowed.push(net),
                None => env.complain(NAME, word, "networks such as 10.1.0.0/16, by commas"),
            }
        }
        let seconds =
            |names, default, doc| Duration::from_secs(env.get_in(names, default, 1..=300, doc));
        Self {
            networks: Networks::new(allowed),
            connect_timeout: seconds(
                &["WEBHOOK_CONNECT_TIMEOUT_SECONDS"],
                5,
                "Seconds that a connection to an endpoint may take.",
            ),
            timeout: seconds(
                &["WEBHOOK_TIMEOUT_SECONDS"],
                15,
                "Seconds that an attempt to deliver may take, the endpoint's answer included.",
            ),
        }
    }
}
