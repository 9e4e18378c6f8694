//! The settings in librdkafka's terms, one client for each use, and what all clients report alike.

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::{ClientConfig, Statistics};

use super::config::KafkaConfig;

impl KafkaConfig {
    /// What every client has in common.
    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "tidegate")
            // The default backs off to 10 s, for which every request would have to wait.
            .set("reconnect.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", "1000")
            // A topic created after the start is noticed within this time, not after five minutes.
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

    pub(super) fn admin(&self) -> ClientConfig {
        let mut client = self.client();
        client.set("socket.timeout.ms", "10000");
        client
    }

    pub(super) fn producer(&self) -> ClientConfig {
        let mut client = self.client();
        client
            .set("acks", "all")
            .set("enable.idempotence", "true")
            // Java's default partitioner: every client sends a key to the same partition.
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

    /// The producer that does not linger; the other one's statistics report on the brokers.
    pub(super) fn low_latency_producer(&self) -> ClientConfig {
        let mut client = self.producer();
        client
            .set("linger.ms", "0")
            .set("statistics.interval.ms", "0");
        client
    }

    pub(super) fn consumer(&self) -> ClientConfig {
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
            // Where records are missing, a placed consumer must not pass over them unseen.
            .set(
                "auto.offset.reset",
                if self.placed {
                    "error"
                } else {
                    self.offset_reset.as_str()
                },
            )
            .set("socket.timeout.ms", "10000")
            .set("statistics.interval.ms", "1000")
            .set("queued.min.messages", "10000")
            .set("queued.max.messages.kbytes", "4096")
            // Limits of the compressed answer: what it unpacks to counts against the queue only
            // when it is there, and good compression makes that tenfold. A batch that is larger
            // comes all the same, alone.
            .set("fetch.message.max.bytes", "262144")
            .set("fetch.max.bytes", "1048576")
            // Only a lower bound of fetch.max.bytes here.
            .set("message.max.bytes", "1000000")
            // A full prefetch queue is checked again after 20 ms, not after a second: two cores
            // empty it faster than that.
            .set("fetch.queue.backoff.ms", "20");
        if !self.fetch_wait.is_zero() {
            // Enough for some hundred records: with them an answer comes at once.
            client
                .set("fetch.min.bytes", "65536")
                .set("fetch.wait.max.ms", self.fetch_wait.as_millis().to_string());
        }
        if let Some(instance) = &self.group_instance_id {
            client.set("group.instance.id", instance);
        }
        client
    }
}

/// Forwards a log line of librdkafka, all under one target. Its errors are mostly about a
/// connection that it restores by itself, so they are warnings here.
pub(super) fn forward_log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
            tracing::warn!(target: "librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{message}"),
    }
}

/// Whether the statistics know of a connected broker.
pub(super) fn any_broker_up(statistics: &Statistics) -> bool {
    statistics
        .brokers
        .values()
        .any(|broker| broker.state == "UP")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::OffsetReset;

    #[test]
    fn librdkafka_accepts_every_setting() {
        let config = KafkaConfig {
            linger_ms: 0.5,
            group_instance_id: Some("processor-0".to_owned()),
            offset_reset: OffsetReset::Latest,
            fetch_wait: std::time::Duration::from_millis(30),
            ..Default::default()
        };
        for client in [
            config.admin(),
            config.producer(),
            config.low_latency_producer(),
            config.consumer(),
        ] {
            client.create_native_config().expect("valid settings");
        }
    }
}
