//! The gateway's settings.

use std::sync::Arc;
use std::time::Duration;

use config::{ConfigError, Env};
use domain::Limits;
use domain::personal::PersonalData;
use domain::tenant_limits::{
    MAX_BYTES_PER_DAY, MAX_EVENTS_PER_SECOND, MAX_TYPES_PER_DAY, TenantLimits,
};
use eventlog::kafka::KafkaConfig;
use eventlog::postgres::PostgresLogConfig;
use ipnet::IpNet;
use service::config::HttpConfig;
use store::DatabaseConfig;

use crate::body::Bounds;
use crate::nats::config::NatsConfig;
use crate::signature::Signature;

/// The settings of the gateway.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens, and how it ends.
    pub http: HttpConfig,
    /// The log.
    pub kafka: KafkaConfig,
    /// Where messages come from that are events; `None` without NATS.
    pub nats: Option<NatsConfig>,
    /// Where events go while Kafka is down.
    pub spill: SpillConfig,
    /// What one event may be.
    pub limits: Limits,
    /// What is done with personal data.
    pub personal: Arc<PersonalData>,
    /// What one body may be.
    pub body: Bounds,
    /// How many events a batch may hold.
    pub max_batch_events: usize,
    /// Most bytes of requests being read or waiting for their acknowledgement.
    pub max_inflight_bytes: usize,
    /// What it takes of a tenant that has no limits of its own.
    pub tenant_limits: TenantLimits,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Origins whose pages may call; `None` is any.
    pub cors_origins: Option<Vec<String>>,
    /// What RudderStack's webhook has to be signed with, if anything.
    pub rudderstack: Option<Signature>,
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
            nats: NatsConfig::from_env(env),
            spill: SpillConfig::from_env(env),
            limits: service::config::limits(env),
            personal: service::personal_data::from_env(env),
            body: Bounds {
                max_bytes: env.get_in(
                    &["MAX_BODY_BYTES"],
                    4 * 1024 * 1024,
                    1024..=256 * 1024 * 1024,
                    "Most bytes of a request body, compressed and decompressed (413).",
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
                "Most bytes of requests being read or waiting for the log, and of answers not yet taken by their clients; more are refused (503).",
            ),
            tenant_limits: tenant_limits(env),
            trusted_proxies: service::auth::config::trusted_proxies(env),
            cors_origins: service::cors::origins(env),
            rudderstack: Signature::from_env(env),
        };
        config.check(env);
        env.finish()?;
        Ok(config)
    }

    /// What the Postgres log may hold: as much as Kafka's queue.
    #[must_use]
    pub fn postgres_log(&self) -> PostgresLogConfig {
        PostgresLogConfig {
            max_message_bytes: self.kafka.max_message_bytes,
            queue_max_messages: self.kafka.queue_max_messages,
            queue_max_bytes: self.kafka.queue_max_bytes,
            message_timeout: Duration::from_millis(self.kafka.message_timeout_ms),
            ..PostgresLogConfig::default()
        }
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

/// The spill's settings.
#[derive(Debug, Clone)]
pub struct SpillConfig {
    /// The database, where one is named: it tells when events are stored.
    pub named: Option<DatabaseConfig>,
    /// The database of the Postgres log; `None` turns the spill off.
    pub database: Option<DatabaseConfig>,
    /// Whether the frontend routes spill as well (C03).
    pub frontend: bool,
}

fn tenant_limits(env: &Env) -> TenantLimits {
    let limit = |name, most, doc| Some(env.get_in(&[name], 0, 0..=most, doc));
    TenantLimits {
        events_per_second: limit(
            "TENANT_EVENTS_PER_SECOND",
            MAX_EVENTS_PER_SECOND,
            "Events of one tenant that a gateway takes in a second (429), five times as many at once after a pause; 0 is no limit. `tidegate tenant limits` says otherwise for a tenant.",
        ),
        bytes_per_day: limit(
            "TENANT_BYTES_PER_DAY",
            MAX_BYTES_PER_DAY,
            "Bytes of events of one tenant that a gateway takes in a day, in UTC (429); counted from zero when it starts. 0 is no limit. `tidegate tenant limits` says otherwise for a tenant.",
        ),
        types_per_day: limit(
            "TENANT_TYPES_PER_DAY",
            MAX_TYPES_PER_DAY,
            "Types of events of one tenant that a gateway takes in a day, in UTC (429); counted from zero when it starts. 0 is no limit. `tidegate tenant limits` says otherwise for a tenant.",
        ),
        connections: None,
    }
}

impl SpillConfig {
    fn from_env(env: &Env) -> Self {
        let database = DatabaseConfig::from_env(env, "tidegate-ingest");
        let mode: String = env.get(
            &["SPILL"],
            "auto",
            "While Kafka is down, append the events of backends to the Postgres log: auto (when a database is named) or off.",
        );
        if !["auto", "off"].contains(&mode.as_str()) {
            env.complain("SPILL", &mode, "auto or off");
        }
        let named = DatabaseConfig::is_named(env).then_some(database);
        Self {
            database: named.clone().filter(|_| mode == "auto"),
            named,
            frontend: env.get_bool(
                &["SPILL_FRONTEND"],
                false,
                "Spill the events of browsers and apps as well, instead of answering 503.",
            ),
        }
    }
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
        // A record is its payload, a key and headers, and must not exceed Kafka's limit.
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
            ("SPILL", "sometimes"),
            ("SPILL_FRONTEND", "perhaps"),
            ("TRUSTED_PROXIES", "10.0.0.0/33"),
            ("CORS_ALLOWED_ORIGINS", "example.com"),
            ("CORS_ALLOWED_ORIGINS", "https://example.com/"),
        ] {
            let ConfigError(problems) = read(&[(name, value)]).unwrap_err();
            assert!(problems[0].starts_with(name), "{name}: {problems:?}");
        }
    }

    #[test]
    fn the_spill_needs_a_database_and_can_be_turned_off() {
        let spills = |values: &[(&str, &str)]| read(values).unwrap().spill.database.is_some();
        assert!(!spills(&[]));
        assert!(!spills(&[("SPILL", "auto")]));
        assert!(spills(&[("DATABASE_URL", "postgresql://u@h/d")]));
        assert!(spills(&[("POSTGRES_HOST", "h")]));
        assert!(!spills(&[("POSTGRES_HOST", "h"), ("SPILL", "off")]));
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
