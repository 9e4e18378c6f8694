//! The gateway's settings.

use std::time::Duration;

use actix_web::http::Uri;
use domain::Limits;
use eventlog::kafka::KafkaConfig;
use ipnet::IpNet;
use service::config::{ConfigError, Env, HttpConfig};

use crate::body::Bounds;

/// Everything the gateway is told by its environment.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens.
    pub http: HttpConfig,
    /// The log.
    pub kafka: KafkaConfig,
    /// What one event may be.
    pub limits: Limits,
    /// What one body may be.
    pub body: Bounds,
    /// How many events a batch may hold.
    pub max_batch_events: usize,
    /// Most bytes of requests being read or waiting for their acknowledgement.
    pub max_inflight_bytes: usize,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Origins whose pages may call; `None` is any.
    pub cors_origins: Option<Vec<String>>,
    /// Variables that are set and mean nothing here, to be warned of.
    pub ignored: Vec<String>,
}

impl Config {
    /// Reads the settings.
    ///
    /// # Errors
    /// Every invalid one, named by its variable.
    pub fn from_env(env: &Env) -> Result<Self, ConfigError> {
        let config = Self {
            http: HttpConfig::from_env(env, "INGEST_PORT", 8230),
            kafka: KafkaConfig::from_env(env),
            limits: service::config::limits(env),
            body: Bounds {
                max_bytes: env.get_in(
                    &["MAX_BODY_BYTES"],
                    4 * 1024 * 1024,
                    1024..=256 * 1024 * 1024,
                    "Most bytes of a request body, packed and unpacked (413).",
                ),
                timeout: Duration::from_secs(env.get_in(
                    &["BODY_TIMEOUT_SECONDS"],
                    30,
                    1..=3_600,
                    "Seconds until a body must be there (408).",
                )),
            },
            max_batch_events: env.get_in(
                &["MAX_BATCH_EVENTS"],
                500,
                1..=100_000,
                "Most events of a batch (413).",
            ),
            max_inflight_bytes: env.get_in(
                &["MAX_INFLIGHT_BYTES"],
                64 * 1024 * 1024,
                4096..=1 << 40,
                "Most bytes of requests being read or waiting for the log; more are refused (503).",
            ),
            trusted_proxies: trusted_proxies(env),
            cors_origins: cors_origins(env),
            ignored: env.ignored(),
        };
        config.check(env);
        env.finish()?;
        Ok(config)
    }

    /// The rules between settings.
    fn check(&self, env: &Env) {
        let at_least = |name: &str, value: usize, least: usize, why: &str| {
            if value < least {
                env.complain(
                    name,
                    &value.to_string(),
                    &format!("at least {least}: {why}"),
                );
            }
        };
        let body = self.body.max_bytes;
        at_least(
            "MAX_INFLIGHT_BYTES",
            self.max_inflight_bytes,
            body.saturating_mul(4),
            "four times MAX_BODY_BYTES, so that every allowed request fits",
        );
        at_least(
            "KAFKA_QUEUE_MAX_BYTES",
            self.kafka.queue_max_bytes,
            body.saturating_mul(4),
            "four times MAX_BODY_BYTES, so that every allowed batch fits",
        );
        at_least(
            "KAFKA_QUEUE_MAX_MESSAGES",
            self.kafka.queue_max_messages,
            self.max_batch_events,
            "MAX_BATCH_EVENTS, so that every allowed batch fits",
        );
        at_least(
            "MAX_BODY_BYTES",
            body,
            self.limits.max_event_bytes,
            "MAX_EVENT_BYTES",
        );
    }
}

fn trusted_proxies(env: &Env) -> Vec<IpNet> {
    let list = env.get_list(
        &["TRUSTED_PROXIES"],
        "",
        "Networks whose X-Forwarded-For is believed, such as 10.0.0.0/8, separated by commas.",
    );
    let parse = |text: &String| {
        let net = text
            .parse::<IpNet>()
            .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from));
        if net.is_err() {
            let expected = "addresses or networks such as 10.0.0.0/8";
            env.complain("TRUSTED_PROXIES", text, expected);
        }
        net.ok()
    };
    list.iter().filter_map(parse).collect()
}

fn cors_origins(env: &Env) -> Option<Vec<String>> {
    let origins = env.get_list(
        &["CORS_ALLOWED_ORIGINS"],
        "*",
        "Origins whose pages may call, such as https://app.example.com, separated by commas; * is any.",
    );
    if origins.iter().any(|origin| origin == "*") {
        return None;
    }
    for origin in &origins {
        let uri = origin.parse::<Uri>();
        let absolute = uri.is_ok_and(|uri| uri.scheme().is_some() && uri.authority().is_some());
        // Nothing after the authority: a browser sends no path.
        if !absolute || origin.matches('/').count() != 2 {
            let expected = "* or origins such as https://app.example.com";
            env.complain("CORS_ALLOWED_ORIGINS", origin, expected);
        }
    }
    Some(origins)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let pairs = values
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Config::from_env(&Env::from_map(pairs.collect()))
    }

    #[test]
    fn the_defaults_fit_together() {
        let config = read(&[]).unwrap();
        assert_eq!(config.http.port, 8230);
        assert_eq!(config.limits, Limits::default());
        assert_eq!(config.cors_origins, None);
        // A record is its payload, a key and headers, and must fit into what Kafka is told to take.
        assert!(config.limits.max_event_bytes + 64 * 1024 < config.kafka.max_message_bytes);
    }

    #[test]
    fn every_invalid_value_is_named() {
        for (name, value) in [
            ("INGEST_PORT", "x"),
            ("MAX_BODY_BYTES", "-1"),
            ("MAX_BODY_BYTES", "200000"),
            ("MAX_INFLIGHT_BYTES", "5000"),
            ("MAX_JSON_DEPTH", "1000"),
            ("MAX_BATCH_EVENTS", "0"),
            ("BODY_TIMEOUT_SECONDS", "soon"),
            ("KAFKA_QUEUE_MAX_MESSAGES", "10"),
            ("KAFKA_COMPRESSION", "rar"),
            ("TRUSTED_PROXIES", "10.0.0.0/33"),
            ("CORS_ALLOWED_ORIGINS", "example.com"),
            ("CORS_ALLOWED_ORIGINS", "https://example.com/"),
        ] {
            let ConfigError(problems) = read(&[(name, value)]).unwrap_err();
            assert!(problems[0].starts_with(name), "{name}: {problems:?}");
        }
    }

    #[test]
    fn lists_are_read() {
        let config = read(&[
            ("TRUSTED_PROXIES", "10.0.0.0/8, ::1"),
            (
                "CORS_ALLOWED_ORIGINS",
                "https://a.example,http://b.example:8080",
            ),
        ])
        .unwrap();
        assert_eq!(config.trusted_proxies.len(), 2);
        assert_eq!(config.cors_origins.unwrap().len(), 2);
    }
}
