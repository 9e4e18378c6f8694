//! Searching events by what they say: one language ([`domain::search`]), two engines.
//!
//! - [`Engine`] is the port: PostgreSQL, and OpenSearch or Elasticsearch beside it. Both are given the same
//!   words and give the same answers, the newest first; the events themselves are read from PostgreSQL.
//!
//! Invariants, stated as absences: storing never waits for an index; no event is lost to an index because
//! its engine was down; no answer has an event that is not stored.

mod config;
mod engine;
mod opensearch;
mod postgres;

pub use config::{Kind, SearchConfig};
pub use engine::{BoxFuture, Engine, Refused, SearchError};
pub use opensearch::OpenSearch;
pub use postgres::Postgres;
pub use store::search::{Found, Indexed, Question};
