//! The store against a real PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod database;
mod faults;
mod log;
mod partitions;
mod plan;
mod purposes;
mod reads;
mod streams;
mod user_counts;
mod work;
