//! The event log against a real Kafka and a real PostgreSQL.
//!
//! Most tests share one, with topics and groups or a database of their own; those that kill it have
//! a private one.

#![expect(clippy::expect_used, reason = "a failed expectation fails the test")]

mod commit;
mod conformance;
mod consume;
mod far_broker;
mod logs;
mod outage;
mod postgres;
mod postgres_faults;
mod publish;
mod raw_records;

mod support;
