//! What Kafka has of a partition, and where the group stands in it.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};
use uuid::Uuid;

use super::consumer::Handle;
use super::error::ConsumerError;

/// How long Kafka may take for each of its answers.
const ANSWER: Duration = Duration::from_secs(5);

/// What Kafka has of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The topic's id, which another topic of the same name does not have; `None` from brokers
    /// before Kafka 2.8.
    pub topic_id: Option<Uuid>,
    /// The first offset that is still there.
    pub first: i64,
    /// The offset of the next record.
    pub end: i64,
    /// Up to where the group is done, if it ever committed.
    pub committed: Option<i64>,
}

/// A partition of a topic.
type Partition = (Arc<str>, i32);

impl Handle {
    /// What Kafka has of these partitions, asked now (up to 15 s). Those it says nothing about are
    /// left out: ask again.
    ///
    /// # Errors
    /// Kafka does not answer, or the consumer is closed.
    pub async fn extents(
        &self,
        partitions: &[Partition],
    ) -> Result<Vec<(Partition, Extent)>, ConsumerError> {
        let client = self.shared().client().ok_or(ConsumerError::Closed)?;
        let known = self.shared().topic_ids();
        let partitions: Vec<Partition> = partitions
            .iter()
            .filter(|(topic, _)| known.contains_key(topic))
            .cloned()
            .collect();
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let ask = move || -> KafkaResult<_> {
            let list = |offset: Offset| -> KafkaResult<TopicPartitionList> {
                let mut list = TopicPartitionList::with_capacity(partitions.len());
                for (topic, partition) in &partitions {
                    list.add_partition_offset(topic, *partition, offset)?;
                }
                Ok(list)
            };
            // Asked for as times, the logical offsets give the real ones.
            let first = client.offsets_for_times(list(Offset::Beginning)?, ANSWER)?;
            let end = client.offsets_for_times(list(Offset::End)?, ANSWER)?;
            let committed = client.committed_offsets(list(Offset::Invalid)?, ANSWER)?;
            let offset = |list: &TopicPartitionList, (topic, partition): &Partition| {
                let found = list.find_partition(topic, *partition)?;
                found.error().ok()?;
                match found.offset() {
                    Offset::Offset(offset) => Some(offset),
                    _ => None,
                }
            };
            let extents = partitions.into_iter().filter_map(|partition| {
                let extent = Extent {
                    topic_id: known.get(&partition.0).copied().flatten(),
                    first: offset(&first, &partition)?,
                    end: offset(&end, &partition)?,
                    committed: offset(&committed, &partition),
                };
                Some((partition, extent))
            });
            Ok(extents.collect())
        };
        let answer = tokio::task::spawn_blocking(ask)
            .await
            .map_err(|_| ConsumerError::Closed)?;
        Ok(answer?)
    }

    /// Commits offsets of the group, and waits until Kafka has them.
    ///
    /// # Errors
    /// Kafka refuses them or does not answer within 10 s, or the consumer is closed.
    pub async fn commit(&self, offsets: Vec<(Partition, i64)>) -> Result<(), ConsumerError> {
        let client = self.shared().client().ok_or(ConsumerError::Closed)?;
        let commit = move || -> KafkaResult<()> {
            let mut list = TopicPartitionList::with_capacity(offsets.len());
            for ((topic, partition), offset) in &offsets {
                list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
            }
            client.commit(&list, CommitMode::Sync)
        };
        let committing = tokio::task::spawn_blocking(commit);
        match tokio::time::timeout(ANSWER * 2, committing).await {
            Ok(Ok(committed)) => Ok(committed?),
            Ok(Err(_)) | Err(_) => Err(ConsumerError::Closed),
        }
    }

    /// Waits until there are assigned partitions that no offset was given for, and returns them
    /// ([`KafkaConfig::placed`](super::KafkaConfig::placed)).
    pub async fn unplaced(&self) -> Vec<Partition> {
        loop {
            let unplaced = self.shared().assignments.unplaced();
            if !unplaced.is_empty() {
                return unplaced;
            }
            self.shared().assignments.assigned.notified().await;
        }
    }

    /// Has an assigned partition read from that offset on. What was handed out of it is taken back.
    pub fn place(&self, topic: &Arc<str>, partition: i32, offset: i64) {
        let place = (Arc::clone(topic), partition, offset);
        self.shared().assignments.place(place);
    }
}
