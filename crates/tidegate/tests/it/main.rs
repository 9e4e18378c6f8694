//! The command from outside: the built binary, real PostgreSQL, real HTTP.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper of a test has nothing better to do than to panic"
)]

mod command;
mod dev;
mod dev_faults;
mod output;
mod pipe;
mod refused;
mod send;
mod serve;
mod shapes;
mod status;
mod tail;
mod terminal;
mod without;
