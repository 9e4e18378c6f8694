//! The settings of the Kafka clients.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use config::{Env, Secret};

use super::offsets::{Commit, OffsetReset};

/// How to reach Kafka and how to behave as its client. [`Self::from_env`] has the meaning and the
/// default of each setting.
#[derive(Clone)]
pub struct KafkaConfig {
    /// `KAFKA_BROKERS`.
    pub brokers: String,
    /// `KAFKA_TOPIC_PREFIX`.
    pub topic_prefix: String,
    /// `KAFKA_PARTITIONS`.
    pub partitions: i32,
    /// `KAFKA_REPLICATION_FACTOR`.
    pub replication_factor: i32,
    /// Largest record in bytes, for producers and for the topics this service creates.
    pub max_message_bytes: usize,

    /// `KAFKA_SECURITY_PROTOCOL`.
    pub security_protocol: Option<String>,
    /// `KAFKA_SASL_MECHANISM`.
    pub sasl_mechanism: Option<String>,
    /// `KAFKA_SASL_USERNAME`.
    pub sasl_username: Option<String>,
    /// `KAFKA_SASL_PASSWORD`; never shown by `Debug`.
    pub sasl_password: Option<String>,
    /// `KAFKA_SSL_CA_LOCATION`.
    pub ssl_ca_location: Option<String>,

    /// `KAFKA_LINGER_MS`.
    pub linger_ms: f64,
    /// `KAFKA_MAX_IN_FLIGHT`, 1 to 5. A request carries one partition, and what comes while all are
    /// out is sent together: fewer make larger requests, which cost sender and broker less; more
    /// shorten the wait for a distant broker.
    pub max_in_flight: u32,
    /// `KAFKA_COMPRESSION`.
    pub compression: String,
    /// `KAFKA_MESSAGE_TIMEOUT_MS`.
    pub message_timeout_ms: u64,
    /// `KAFKA_QUEUE_MAX_MESSAGES`; must be at least the largest batch.
    pub queue_max_messages: usize,
    /// `KAFKA_QUEUE_MAX_BYTES`; must be at least the largest batch.
    pub queue_max_bytes: usize,

    /// `KAFKA_GROUP_ID`.
    pub group_id: String,
    /// `KAFKA_GROUP_INSTANCE_ID`.
    pub group_instance_id: Option<String>,
    /// `KAFKA_SESSION_TIMEOUT_MS`.
    pub session_timeout_ms: u64,
    /// When the consumer commits; the service decides.
    pub commit: Commit,
    /// Where a new group begins; the service decides.
    pub offset_reset: OffsetReset,
    /// How long the broker may wait for more records than one before it answers a fetch; the service
    /// decides. Zero: it answers with the first.
    pub fetch_wait: Duration,
    /// Nothing is read of an assigned partition until [`Handle::place`](super::Handle::place) says
    /// from where, whatever the group has committed; the service decides.
    pub placed: bool,
}

impl Default for KafkaConfig {
    /// What an empty environment gives.
    fn default() -> Self {
        let env = Env::from_map(HashMap::new());
        Self::from_env(&env).with_consumer_env(&env)
    }
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The brokers and the user are what an operator looks for; the rest is in the environment.
        f.debug_struct("KafkaConfig")
            .field("brokers", &self.brokers)
            .field("topic_prefix", &self.topic_prefix)
            .field("security_protocol", &self.security_protocol)
            .field("sasl_mechanism", &self.sasl_mechanism)
            .field("sasl_username", &self.sasl_username)
            .field("sasl_password", &self.sasl_password.as_ref().map(|_| "***"))
            .field("group_id", &self.group_id)
            .field("group_instance_id", &self.group_instance_id)
            .finish_non_exhaustive()
    }
}

impl KafkaConfig {
    /// Reads what every Kafka client needs: brokers, names, security, topics, publishing. The
    /// consumer's part is read by [`Self::with_consumer_env`].
    #[must_use]
    pub fn from_env(env: &Env) -> Self {
        Self {
            brokers: env.get(
                &["KAFKA_BROKERS"],
                "localhost:9092",
                "Bootstrap addresses, host:port separated by commas.",
            ),
            topic_prefix: env
                .get_opt(&["KAFKA_TOPIC_PREFIX"], "Prepended to every topic name.")
                .unwrap_or_default(),
            partitions: env.get_in(
                &["KAFKA_PARTITIONS"],
                6,
                1..=10_000,
                "Partitions of a topic that has to be created.",
            ),
            replication_factor: env.get_in(
                &["KAFKA_REPLICATION_FACTOR"],
                -1,
                -1..=100,
                "Replicas of a topic that has to be created; -1 takes the broker's default.",
            ),
            max_message_bytes: 8 * 1024 * 1024,
            security_protocol: security_protocol(env),
            sasl_mechanism: env.get_opt(
                &["KAFKA_SASL_MECHANISM"],
                "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.",
            ),
            sasl_username: env.get_opt(&["KAFKA_SASL_USERNAME"], "SASL user."),
            sasl_password: env
                .get_secret(&["KAFKA_SASL_PASSWORD"], "SASL password.")
                .map(|secret: Secret| secret.expose().to_owned()),
            ssl_ca_location: env.get_opt(
                &["KAFKA_SSL_CA_LOCATION"],
                "Path of the certificate authority's PEM file.",
            ),
            linger_ms: env.get_in(
                &["KAFKA_LINGER_MS"],
                0.3,
                0.0..=1_000.0,
                "How long a record waits for more to be sent with, in milliseconds; the gateway sends a single one at once.",
            ),
            max_in_flight: env.get_in(
                &["KAFKA_MAX_IN_FLIGHT"],
                2,
                1..=5,
                "Requests to one broker at a time: fewer are larger and cheaper, more are sooner.",
            ),
            compression: compression(env),
            message_timeout_ms: env.get_in(
                &["KAFKA_MESSAGE_TIMEOUT_MS"],
                5_000,
                100..=300_000,
                "A record not acknowledged within this time has failed.",
            ),
            queue_max_messages: env.get_in(
                &["KAFKA_QUEUE_MAX_MESSAGES"],
                100_000,
                1_000..=5_000_000,
                "Records waiting for acknowledgement at most; more are refused (503).",
            ),
            queue_max_bytes: env.get_in(
                &["KAFKA_QUEUE_MAX_BYTES"],
                64 * 1024 * 1024,
                16 * 1024 * 1024..=1024 * 1024 * 1024,
                "Bytes waiting for acknowledgement at most; more are refused (503).",
            ),
            group_id: String::new(),
            group_instance_id: None,
            session_timeout_ms: 0,
            commit: Commit::default(),
            offset_reset: OffsetReset::default(),
            fetch_wait: Duration::ZERO,
            placed: false,
        }
    }

    /// Reads what only a consumer needs: its group.
    #[must_use]
    pub fn with_consumer_env(self, env: &Env) -> Self {
        Self {
            group_id: env.get(&["KAFKA_GROUP_ID"], "event-processor", "Consumer group."),
            group_instance_id: env.get_opt(
                &["KAFKA_GROUP_INSTANCE_ID"],
                "A name that stays with this replica (static membership).",
            ),
            session_timeout_ms: env.get_in(
                &["KAFKA_SESSION_TIMEOUT_MS"],
                10_000,
                1_000..=1_800_000,
                "A consumer silent for this long loses its partitions.",
            ),
            ..self
        }
    }

    /// The full name of a topic: prefix and name.
    pub fn topic(&self, name: &str) -> Arc<str> {
        format!("{}{name}", self.topic_prefix).into()
    }
}

fn security_protocol(env: &Env) -> Option<String> {
    let value = env.get_opt(
        &["KAFKA_SECURITY_PROTOCOL"],
        "plaintext, ssl, sasl_plaintext or sasl_ssl.",
    );
    let known = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];
    if let Some(protocol) = &value
        && !known.contains(&protocol.to_ascii_lowercase().as_str())
    {
        env.complain("KAFKA_SECURITY_PROTOCOL", protocol, &known.join(", "));
    }
    value
}

fn compression(env: &Env) -> String {
    let known = ["none", "gzip", "snappy", "lz4", "zstd"];
    let doc = "none, gzip, snappy, lz4 or zstd.";
    let value: String = env.get(&["KAFKA_COMPRESSION"], "lz4", doc);
    if !known.contains(&value.as_str()) {
        env.complain("KAFKA_COMPRESSION", &value, &known.join(", "));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_password() {
        let config = KafkaConfig {
            sasl_password: Some("s3cret".to_owned()),
            ..Default::default()
        };
        let shown = format!("{config:?}");
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(shown.contains("***"), "{shown}");
    }

    #[test]
    fn topic_names_carry_the_prefix() {
        let config = KafkaConfig {
            topic_prefix: "staging.".to_owned(),
            ..Default::default()
        };
        assert_eq!(&*config.topic("event-stream"), "staging.event-stream");
    }

    #[test]
    fn wrong_values_are_named() {
        let env = Env::from_map(HashMap::from([
            ("KAFKA_COMPRESSION".to_owned(), "rar".to_owned()),
            ("KAFKA_SECURITY_PROTOCOL".to_owned(), "telnet".to_owned()),
        ]));
        let _ = KafkaConfig::from_env(&env);
        let problems = env.finish().expect_err("two problems").to_string();
        assert!(problems.contains("KAFKA_COMPRESSION=\"rar\""), "{problems}");
        assert!(
            problems.contains("KAFKA_SECURITY_PROTOCOL=\"telnet\""),
            "{problems}"
        );
    }
}
