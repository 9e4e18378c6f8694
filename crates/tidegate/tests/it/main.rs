//! The command from outside: the built binary, real PostgreSQL, real HTTP.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper of a test has nothing better to do than to panic"
)]

mod command;
mod dev;
mod refused;
mod send;
mod serve;
mod status;
mod tail;
