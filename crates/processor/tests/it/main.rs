//! The bridge from outside: the built processor in the role `bridge`, real Kafka, real Redis read
//! back with a plain client.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test has nothing better to do than to panic"
)]

mod composed;
mod edge;
mod faults;
mod handlers;
mod metrics;
mod projections;
mod routes;
mod shutdown;
mod spilled;
mod stream;
mod world;
