//! The event log over Kafka.

pub mod config;
pub mod consumer;
mod delivery;
mod message;
mod offsets;
mod poll;
pub mod producer;
mod rebalance;
mod sender;
mod settings;
pub mod topics;

pub use config::KafkaConfig;
pub use consumer::{Consumer, ConsumerError, Handle};
pub use delivery::Ack;
pub use offsets::{Commit, OffsetReset};
pub use producer::{Producer, ProducerError};
pub use topics::TopicSpec;

pub use crate::lane::{Chunk, Lane, Permit};
pub use crate::source::PartitionLag;

use rdkafka::Statistics;
use rdkafka::config::RDKafkaLogLevel;

/// librdkafka's log lines under one target. Its errors are mostly about a connection it will
/// restore by itself, so they are warnings here.
fn forward_log(level: RDKafkaLogLevel, facility: &str, message: &str) {
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

fn any_broker_up(statistics: &Statistics) -> bool {
    statistics
        .brokers
        .values()
        .any(|broker| broker.state == "UP")
}
