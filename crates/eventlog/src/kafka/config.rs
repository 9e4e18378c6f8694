//! Settings of the Kafka clients, and what they become in librdkafka's terms.

use std::fmt;
use std::sync::Arc;

use rdkafka::ClientConfig;

use super::offsets::{Commit, OffsetReset};

/// How to reach Kafka and how to behave as its client. The services fill it from the environment.
#[derive(Clone)]
pub struct KafkaConfig {
    /// Bootstrap addresses, `host:port` separated by commas. `KAFKA_BROKERS`.
    pub brokers: String,
    /// Prepended to every topic name. `KAFKA_TOPIC_PREFIX`.
    pub topic_prefix: String,
    /// Partitions of a topic this service creates. `KAFKA_PARTITIONS`.
    pub partitions: i32,
    /// Replicas of a topic this service creates; -1 takes the broker's default.
    /// `KAFKA_REPLICATION_FACTOR`.
    pub replication_factor: i32,
    /// Largest record in bytes, for producers and for the topics this service creates.
    pub max_message_bytes: usize,

    /// `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`. `KAFKA_SECURITY_PROTOCOL`.
    pub security_protocol: Option<String>,
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`. `KAFKA_SASL_MECHANISM`.
    pub sasl_mechanism: Option<String>,
    /// `KAFKA_SASL_USERNAME`.
    pub sasl_username: Option<String>,
    /// `KAFKA_SASL_PASSWORD`; never shown by `Debug`.
    pub sasl_password: Option<String>,
    /// Path of the certificate authority's PEM file. `KAFKA_SSL_CA_LOCATION`.
    pub ssl_ca_location: Option<String>,

    /// How long a record waits for company, in milliseconds. `KAFKA_LINGER_MS`.
    pub linger_ms: f64,
    /// Requests to one broker at a time, 1 to 5. A request carries one partition, and what comes
    /// while all are out is sent together: fewer make larger requests, which cost sender and broker
    /// less; more shorten the wait for a distant broker. `KAFKA_MAX_IN_FLIGHT`.
    pub max_in_flight: u32,
    /// `none`, `gzip`, `snappy`, `lz4` or `zstd`. `KAFKA_COMPRESSION`.
    pub compression: String,
    /// A record not acknowledged within this time fails. `KAFKA_MESSAGE_TIMEOUT_MS`.
    pub message_timeout_ms: u64,
    /// Most records in flight; must be at least the largest batch. `KAFKA_QUEUE_MAX_MESSAGES`.
    pub queue_max_messages: usize,
    /// Most bytes in flight; must be at least the largest batch. `KAFKA_QUEUE_MAX_BYTES`.
    pub queue_max_bytes: usize,

    /// Consumer group. `KAFKA_GROUP_ID`.
    pub group_id: String,
    /// Static membership: a name that stays with this replica. `KAFKA_GROUP_INSTANCE_ID`.
    pub group_instance_id: Option<String>,
    /// A consumer silent for this long loses its partitions. `KAFKA_SESSION_TIMEOUT_MS`.
    pub session_timeout_ms: u64,
    /// When it commits; a service's own affair.
    pub commit: Commit,
    /// Where a new group begins; a service's own affair.
    pub offset_reset: OffsetReset,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            brokers: "localhost:9092".to_owned(),
            topic_prefix: String::new(),
            partitions: 6,
            replication_factor: -1,
            max_message_bytes: 8 * 1024 * 1024,
            security_protocol: None,
            sasl_mechanism: None,
            sasl_username: None,
            sasl_password: None,
            ssl_ca_location: None,
            linger_ms: 0.3,
            max_in_flight: 2,
            compression: "lz4".to_owned(),
            message_timeout_ms: 5_000,
            queue_max_messages: 100_000,
            queue_max_bytes: 64 * 1024 * 1024,
            group_id: "event-processor".to_owned(),
            group_instance_id: None,
            session_timeout_ms: 10_000,
            commit: Commit::default(),
            offset_reset: OffsetReset::default(),
        }
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
    /// The full name of a topic: prefix and name.
    pub fn topic(&self, name: &str) -> Arc<str> {
        format!("{}{name}", self.topic_prefix).into()
    }

    /// What every client has in common.
    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "tidegate")
            // The default backs off to 10 s, which a client of ours would have to sit out.
            .set("reconnect.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", "1000")
            // A topic made after we started is noticed within this time, not after five minutes.
            .set("topic.metadata.refresh.interval.ms", "10000")
            .set("log.connection.close", "false");
        let optional = [
            ("security.protocol", &self.security_protocol),
            ("sasl.mechanism", &self.sasl_mechanism),
            ("sasl.username", &self.sasl_username),
            ("sasl.password", &self.sasl_password),
            ("ssl.ca.location", &self.ssl_ca_location),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                client.set(name, value);
            }
        }
        client
    }

    pub(crate) fn admin(&self) -> ClientConfig {
        let mut client = self.client();
        client.set("socket.timeout.ms", "10000");
        client
    }

    pub(crate) fn producer(&self) -> ClientConfig {
        let mut client = self.client();
        client
            .set("acks", "all")
            .set("enable.idempotence", "true")
            // Java's default partitioner: a key lands in the same partition whoever sends it.
            .set("partitioner", "murmur2_random")
            .set("linger.ms", self.linger_ms.to_string())
            .set("max.in.flight", self.max_in_flight.to_string())
            .set("compression.type", &self.compression)
            .set("message.max.bytes", self.max_message_bytes.to_string())
            .set("message.timeout.ms", self.message_timeout_ms.to_string())
            // A broker that hangs is given up as soon as its records are.
            .set(
                "socket.timeout.ms",
                (self.message_timeout_ms + 1_000).min(300_000).to_string(),
            )
            .set("statistics.interval.ms", "1000")
            // Our own counters refuse first: librdkafka frees a record only after its delivery
            // report was handled, so it may hold twice what we count.
            .set(
                "queue.buffering.max.messages",
                (self.queue_max_messages * 2).to_string(),
            )
            .set(
                "queue.buffering.max.kbytes",
                (self.queue_max_bytes / 1024 * 2 + 1_024).to_string(),
            );
        client
    }

    /// Of the client that does not linger; what is known of the brokers is the other one's to tell.
    pub(crate) fn eager_producer(&self) -> ClientConfig {
        let mut client = self.producer();
        client
            .set("linger.ms", "0")
            .set("statistics.interval.ms", "0");
        client
    }

    pub(crate) fn consumer(&self) -> ClientConfig {
        let mut client = self.client();
        client
            .set("group.id", &self.group_id)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", self.session_timeout_ms.to_string())
            .set(
                "heartbeat.interval.ms",
                (self.session_timeout_ms / 10).clamp(100, 3_000).to_string(),
            )
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", self.offset_reset.as_str())
            .set("socket.timeout.ms", "10000")
            .set("statistics.interval.ms", "1000")
            .set("queued.min.messages", "10000")
            .set("queued.max.messages.kbytes", "8192")
            // Limits of the compressed answer: what it unpacks to counts against the queue only
            // when it is there, and good compression makes that tenfold. A batch that is larger
            // comes all the same, alone.
            .set("fetch.message.max.bytes", "262144")
            .set("fetch.max.bytes", "1048576")
            // Only a lower bound of fetch.max.bytes here.
            .set("message.max.bytes", "1000000")
            // A full prefetch queue is looked at again after 20 ms, not after a second: two cores
            // empty it faster than that.
            .set("fetch.queue.backoff.ms", "20");
        if let Some(instance) = &self.group_instance_id {
            client.set("group.instance.id", instance);
        }
        client
    }
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
    fn librdkafka_accepts_every_setting() {
        let config = KafkaConfig {
            linger_ms: 0.5,
            group_instance_id: Some("processor-0".to_owned()),
            offset_reset: OffsetReset::Latest,
            ..Default::default()
        };
        for client in [config.admin(), config.producer(), config.consumer()] {
            client.create_native_config().expect("valid settings");
        }
    }
}
