//! What the product promises, each promise shown on the built services and the real parts.
//!
//! Support first: [`world`] starts things, [`load`] makes events, [`sender`] and [`direct`] send
//! them over HTTP and to Kafka, [`ledger`] checks the books afterwards.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation fails the test"
)]

mod direct;
mod ledger;
mod load;
mod sender;
mod world;

mod conversation;
mod equation;
mod faults;
mod memory;
mod poison;
mod readable;
mod recovery;
mod same_id;
mod two_processors;
