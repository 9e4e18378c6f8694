//! librdkafka's callbacks for a consumer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, Statistics, TopicPartitionList};

use super::assignments::Assignments;
use super::client::{any_broker_up, forward_log};

/// librdkafka's consumer with these callbacks.
pub(super) type Client = BaseConsumer<Context>;

/// The callbacks; all run on the polling thread, inside its poll.
pub(super) struct Context {
    pub(super) assignments: Arc<Assignments>,
    /// See [`KafkaConfig::placed`](super::KafkaConfig::placed).
    pub(super) placed: bool,
    /// The client is being closed: what its group still says no longer concerns the assignments, which
    /// may be those of the next one.
    pub(super) closed: AtomicBool,
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
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        code: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let is_open = !self.closed.load(Ordering::Relaxed);
        let followed = match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                if is_open {
                    self.assign(consumer, partitions);
                }
                consumer.incremental_assign(partitions)
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => {
                if is_open {
                    self.revoke(consumer, partitions);
                }
                consumer.incremental_unassign(partitions)
            }
            other => Err(KafkaError::Rebalance(other.into())),
        };
        if let Err(error) = followed {
            tracing::warn!(%error, "kafka rebalance failed");
        }
        self.assignments.generation.fetch_add(1, Ordering::Relaxed);
    }
}

impl Context {
    fn assign(&self, consumer: &BaseConsumer<Self>, partitions: &mut TopicPartitionList) {
        self.set_connected(true);
        if self.placed {
            // Nothing is to be read before there is an offset, and what was committed is not it. Until
            // then it is a number: of the end librdkafka would ask Kafka, and go on there when the
            // answer comes after the partition was placed (librdkafka 2.12.1 asks once more after an
            // answer that `rd_kafka_toppar_handle_Offset` finds outdated).
            if let Err(error) = partitions.set_all_offsets(Offset::Offset(0)) {
                tracing::warn!(%error, "partitions begin where their group stands");
            }
            // Before they begin, where they are known already; the dispatcher pauses them all.
            if let Err(error) = consumer.pause(partitions) {
                tracing::debug!(%error, "partitions are paused once they are assigned");
            }
        }
        let partitions = partitions.elements();
        tracing::info!(partitions = %Shown(&partitions), "kafka partitions assigned");
        for partition in &partitions {
            self.assignments
                .assign(partition.topic(), partition.partition(), !self.placed);
        }
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, partitions: &TopicPartitionList) {
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
