//! The event log over Kafka.

mod assignment;
mod assignments;
mod client;
mod config;
mod consumer;
mod delivery;
mod dispatch;
mod error;
mod extent;
mod memory;
mod message;
mod offsets;
mod poll;
mod producer;
mod rebalance;
mod sender;
mod shared;
mod topic_ids;
pub mod topics;

pub use config::KafkaConfig;
pub use consumer::{Consumer, Handle};
pub use error::{ConsumerError, ProducerError};
pub use extent::Extent;
pub use offsets::{Commit, OffsetReset};
pub use producer::Producer;
pub use topics::TopicSpec;

pub use crate::source::PartitionLag;
pub use crate::worker_queue::{Chunk, Permit, WorkerQueue};
