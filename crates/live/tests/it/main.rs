//! The live channels: one suite for both implementations, and what only Redis can go through.
//!
//! Most tests share one Redis, with a prefix of their own; those that kill it have a private one.

#![expect(clippy::expect_used, reason = "a failed expectation fails the test")]

/// Each test once for each implementation.
macro_rules! for_both {
    ($($name:ident,)+) => {
        mod local {
            $(#[tokio::test]
            async fn $name() {
                Box::pin(super::$name::<crate::support::Local>()).await;
            })+
        }

        mod redis {
            $(#[tokio::test]
            async fn $name() {
                Box::pin(super::$name::<crate::support::InRedis>()).await;
            })+
        }
    };
}

mod conformance;
mod dedup;
mod history;
mod old_redis;
mod outage;
mod redis;
mod support;
