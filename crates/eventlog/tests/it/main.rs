//! The event log against a real Kafka.
//!
//! Most tests share one, with topics and groups of their own; those that kill it have a private one.

#![expect(clippy::expect_used, reason = "a failed expectation fails the test")]

mod consume;
mod outage;
mod publish;
mod strangers;
mod support;
