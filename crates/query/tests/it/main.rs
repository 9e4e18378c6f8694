//! The query service as it is built, on a real PostgreSQL, over HTTP.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod anomalies;
mod by_id;
mod cache;
mod common;
mod console;
mod dead_letters;
mod listings;
mod outage;
mod processors;
mod query;
mod robust;
mod slow;
mod sse;
mod stats;
mod streams;
mod subscriptions;
mod users;
mod world;
