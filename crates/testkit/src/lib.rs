//! For tests only: the real parts, the built services, and tools to inspect both.
//!
//! - [`Parts`]: PostgreSQL, Kafka and Redis, shared by all tests or private to one.
//! - [`Database`]: a new database, dropped at the end. [`topic_prefix`]: new Kafka topics.
//! - [`TestService`]: a running `ingest`, `processor`, `query` or `tidegate`.
//! - [`Kcat`]: an independent Kafka client. [`event`]: request bodies.
//! - [`SseStream`]: an independent reader of server-sent events. [`Proxy`]: one address for
//!   several servers, whose connections can be cut. [`Browser`]: Chromium. [`Nats`]: JetStream.
//!   [`Consul`]: a stand-in for its agent.
//! - [`eventually`], [`eventually_eq`]: waiting for other processes.
//!
//! Helpers panic when they fail, except where a test expects a failure for a while (a query while
//! PostgreSQL is down): those return a `Result`.

mod browser;
mod consul;
mod database;
pub mod event;
mod kcat;
mod names;
mod nats;
mod opensearch;
mod parts;
mod port;
mod process;
mod proxy;
mod receiver;
mod secure;
mod service;
mod sse;
mod wait;

pub use browser::{Browser, Tab};
pub use consul::Consul;
pub use database::Database;
pub use kcat::{Kcat, Message, topic_prefix};
pub use nats::Nats;
pub use opensearch::OpenSearch;
pub use parts::{Edge, Part, Parts, Paused};
pub use process::{ProcessMemory, cpu, memory};
pub use proxy::Proxy;
pub use receiver::{Receiver, Reply, Request};
pub use secure::{Authority, KAFKA_USER, Secure};
pub use service::{ServiceBuilder, TestService};
pub use sse::{SseEvent, SseRefused, SseStream, slow_connection};
pub use wait::{LIMIT, eventually, eventually_eq};
