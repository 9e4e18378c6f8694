//! Tests of the built command on real PostgreSQL, Kafka and Redis.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test panics when a helper fails"
)]

mod command;
mod dev;
mod dev_faults;
mod embedded;
mod import;
mod key;
mod migration;
mod no_dependencies;
mod openapi;
mod output;
mod pipe;
mod postgres;
mod refused;
mod send;
mod serve;
mod status;
mod tail;
mod terminal;
mod verbs;
