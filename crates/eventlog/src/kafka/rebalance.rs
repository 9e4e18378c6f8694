//! librdkafka's callbacks for a consumer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{ClientContext, Statistics};

use super::assignments::Assignments;
use super::client::{any_broker_up, forward_log};

/// librdkafka's consumer with these callbacks.
pub(super) type Client = BaseConsumer<Context>;

/// The callbacks; all run on the polling thread, inside its poll.
pub(super) struct Context {
    pub(super) assignments: Arc<Assignments>,
}

impl Context {
    fn set_connected(&self, connected: bool) {
        if self
            .assignments
            .connected
            .swap(connected, Ordering::Relaxed)
            != connected
        {
            tracing::info!(connected, "kafka consumer connection changed");
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        forward_log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.set_connected(any_broker_up(&statistics));
        self.assignments.observe(&statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.set_connected(false);
        }
        tracing::debug!(%error, reason, "kafka consumer error");
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => {
                self.set_connected(true);
                let partitions = partitions.elements();
                tracing::info!(partitions = %Shown(&partitions), "kafka partitions assigned");
                for partition in &partitions {
                    self.assignments
                        .assign(partition.topic(), partition.partition());
                }
            }
            Rebalance::Revoke(partitions) => {
                let lost = consumer.assignment_lost();
                let partitions = partitions.elements();
                tracing::info!(partitions = %Shown(&partitions), lost, "kafka partitions revoked");
                if !lost {
                    let ours: Vec<_> = partitions
                        .iter()
                        .filter_map(|p| self.assignments.find(p.topic(), p.partition()))
                        .collect();
                    self.assignments
                        .commit_of(consumer, &ours, CommitMode::Sync);
                }
                for partition in &partitions {
                    self.assignments
                        .revoke(partition.topic(), partition.partition());
                }
            }
            Rebalance::Error(error) => tracing::warn!(%error, "kafka rebalance failed"),
        }
        self.assignments.generation.fetch_add(1, Ordering::Relaxed);
    }
}

/// `topic/partition` of each, for the log.
struct Shown<'a>(&'a [TopicPartitionListElem<'a>]);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, element) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { " " };
            write!(f, "{separator}{}/{}", element.topic(), element.partition())?;
        }
        Ok(())
    }
}
