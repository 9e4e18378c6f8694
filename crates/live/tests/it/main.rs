//! The live channels: one suite for both implementations, and what only Redis can go through.
//!
//! Most tests share one Redis, with a prefix of their own; those that kill it have a private one.

#![expect(clippy::expect_used, reason = "a failed expectation fails the test")]

mod conformance;
mod outage;
mod redis;
mod support;
