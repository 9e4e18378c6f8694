//! PostgreSQL: the only place with SQL. One module per table family, functions over a client or
//! transaction; row structs stay in here, [`domain::Event`] travels.

pub mod anomalies;
pub mod api_keys;
pub mod audit;
pub mod behind;
pub mod dead_letter_changes;
pub mod dead_letter_reads;
pub mod erasures;
pub mod error;
pub mod event_reads;
pub mod figures;
pub mod flow;
pub mod instrumentation;
mod lease;
pub mod log;
mod log_throttle;
pub mod migrate;
pub mod outbox;
pub mod outcomes;
pub mod partitions;
pub mod pool;
pub mod processing;
pub mod processors;
pub mod projections;
pub mod reader;
pub mod receipts;
pub mod replays;
pub mod replays_to_processors;
pub mod rules;
pub mod search;
pub mod server_settings;
pub mod sql;
pub mod statistics;
pub mod stream_reads;
pub mod subscription_list;
pub mod subscriptions;
pub mod tenant_limits;
pub mod tenants;
pub mod timeout;
pub mod user_counts;
pub mod webhooks;
pub mod work;
pub mod write;

pub use error::{Error, Kind};
pub use log_throttle::LogThrottle;
pub use pool::{Database, DatabaseConfig};
