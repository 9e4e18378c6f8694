//! The Kafka settings of the environment.

use config::{Env, Secret};

use super::KafkaConfig;

impl KafkaConfig {
    /// Reads what every Kafka client needs: brokers, names, security, topics.
    #[must_use]
    pub fn from_env(env: &Env) -> Self {
        let default = Self::default();
        let security_protocol = env.get_opt(
            &["KAFKA_SECURITY_PROTOCOL"],
            "plaintext, ssl, sasl_plaintext or sasl_ssl.",
        );
        let known = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];
        if let Some(protocol) = &security_protocol
            && !known.contains(&protocol.to_ascii_lowercase().as_str())
        {
            env.complain("KAFKA_SECURITY_PROTOCOL", protocol, &known.join(", "));
        }
        Self {
            brokers: env.get(
                &["KAFKA_BROKERS"],
                &default.brokers,
                "Bootstrap addresses, host:port separated by commas.",
            ),
            topic_prefix: env
                .get_opt(&["KAFKA_TOPIC_PREFIX"], "Prepended to every topic name.")
                .unwrap_or_default(),
            partitions: env.get_in(
                &["KAFKA_PARTITIONS"],
                default.partitions,
                1..=10_000,
                "Partitions of a topic that has to be created.",
            ),
            replication_factor: env.get_in(
                &["KAFKA_REPLICATION_FACTOR"],
                default.replication_factor,
                -1..=100,
                "Replicas of a topic that has to be created; -1 takes the broker's default.",
            ),
            security_protocol,
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
            ..default
        }
        .with_producer_env(env)
    }

    fn with_producer_env(self, env: &Env) -> Self {
        Self {
            linger_ms: env.get_in(
                &["KAFKA_LINGER_MS"],
                self.linger_ms,
                0.0..=1_000.0,
                "How long a record waits for company, in milliseconds; the gateway sends one that is alone at once.",
            ),
            max_in_flight: env.get_in(
                &["KAFKA_MAX_IN_FLIGHT"],
                self.max_in_flight,
                1..=5,
                "Requests to one broker at a time: fewer are larger and cheaper, more are sooner.",
            ),
            compression: compression(env, &self.compression),
            message_timeout_ms: env.get_in(
                &["KAFKA_MESSAGE_TIMEOUT_MS"],
                self.message_timeout_ms,
                100..=300_000,
                "A record not acknowledged within this time has failed.",
            ),
            queue_max_messages: env.get_in(
                &["KAFKA_QUEUE_MAX_MESSAGES"],
                self.queue_max_messages,
                1_000..=5_000_000,
                "Records waiting for acknowledgement at most; more are refused (503).",
            ),
            queue_max_bytes: env.get_in(
                &["KAFKA_QUEUE_MAX_BYTES"],
                self.queue_max_bytes,
                16 * 1024 * 1024..=1024 * 1024 * 1024,
                "Bytes waiting for acknowledgement at most; more are refused (503).",
            ),
            ..self
        }
    }

    /// Reads what only a consumer needs: its group.
    #[must_use]
    pub fn with_consumer_env(self, env: &Env) -> Self {
        Self {
            group_id: env.get(&["KAFKA_GROUP_ID"], &self.group_id, "Consumer group."),
            group_instance_id: env.get_opt(
                &["KAFKA_GROUP_INSTANCE_ID"],
                "A name that stays with this replica (static membership).",
            ),
            session_timeout_ms: env.get_in(
                &["KAFKA_SESSION_TIMEOUT_MS"],
                self.session_timeout_ms,
                1_000..=1_800_000,
                "A consumer silent for this long loses its partitions.",
            ),
            ..self
        }
    }
}

fn compression(env: &Env, default: &str) -> String {
    let value: String = env.get(
        &["KAFKA_COMPRESSION"],
        default,
        "none, gzip, snappy, lz4 or zstd.",
    );
    let known = ["none", "gzip", "snappy", "lz4", "zstd"];
    if !known.contains(&value.as_str()) {
        env.complain("KAFKA_COMPRESSION", &value, &known.join(", "));
    }
    value
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

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
