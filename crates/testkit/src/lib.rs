//! For tests only: the real parts, the built services, and small tools to look at both.
//!
//! - [`Parts`]: PostgreSQL, Kafka and Redis, shared by all tests or private to one.
//! - [`Database`]: a fresh database, gone at the end. [`topic_prefix`]: fresh Kafka topics.
//! - [`TestService`]: a built `ingest`, `processor`, `query` or `tidegate`, watched from outside.
//! - [`Kcat`]: a Kafka client that is not ours. [`event`]: request bodies.
//! - [`SseStream`]: a reader of server-sent events that is not ours. [`Proxy`]: one address for
//!   several servers, with a wire to cut.
//! - [`eventually`], [`eventually_eq`]: waiting for what other processes do.
//!
//! Helpers panic with the reason when they cannot do their part: a test has nothing better to do.
//! What a test expects to fail for a while (a query while PostgreSQL is down) returns a `Result`.

mod database;
pub mod event;
mod kcat;
mod names;
mod parts;
mod port;
mod process;
mod proxy;
mod service;
mod sse;
mod wait;

pub use database::Database;
pub use kcat::{Kcat, Message, topic_prefix};
pub use parts::{Edge, Part, Parts, Paused};
pub use process::{ProcessMemory, memory};
pub use proxy::Proxy;
pub use service::{ServiceBuilder, TestService};
pub use sse::{SseEvent, SseRefused, SseStream};
pub use wait::{LIMIT, eventually, eventually_eq};
