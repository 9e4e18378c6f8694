//! The gateway from outside: the built binary, real HTTP, real Kafka read back with a foreign client.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test has nothing better to do than to panic"
)]

mod gateway;
mod outage;
mod refusals;
mod routes;
mod slow;
mod spill;
