//! The event log: publish records and consume them in order, over Kafka or over PostgreSQL.
//!
//! - [`Publisher`] publishes a batch and acknowledges it as one: [`kafka::Producer`],
//!   [`postgres::PostgresLog`]; [`nats::JetStream`], which is written only.
//! - [`kafka::Consumer`] and [`postgres::PostgresSource`] hand the records of the partitions they are
//!   assigned to a fixed number of [`WorkerQueue`]s, each read by one worker. [`Source`] steers them.
//! - [`kafka::topics::ensure`] creates the topics that are missing.
//!
//! Invariants, stated as absences: nothing here looks into a payload or decides what an event is.
//! Kafka's committed offset is a hint only: the storing transaction keeps the true positions beside the
//! events, and who stores says from where to read ([`kafka::Handle::place`]). Nothing here deletes a row of the Postgres log: that is the storing transaction's to do.

mod byte_budget;
mod delivery_positions;
mod future;
pub mod kafka;
pub mod nats;
pub mod postgres;
mod publisher;
mod queue;
mod record;
mod source;
mod worker_queue;

pub use byte_budget::{BudgetExhausted, ByteBudget, BytePermit};
pub use delivery_positions::{DeliveryPositions, Gap};
pub use future::BoxFuture;
pub use publisher::{Acknowledgement, PublishError, Publisher};
pub use record::{Headers, Outgoing, Record};
pub use source::{PartitionLag, Source};
pub use worker_queue::{Chunk, Permit, WorkerQueue};
