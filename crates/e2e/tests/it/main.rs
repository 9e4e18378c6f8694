//! What the product promises, each promise shown on the built services and the real parts.
//!
//! Support first: [`world`] starts things, [`load`] makes events, [`sender`] sends them over HTTP, [`log`] and [`direct`]
//! straight to the log, [`ledger`] checks the books afterwards, [`system`] is the three
//! services as one.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation fails the test"
)]

mod direct;
mod documented;
mod ledger;
mod load;
mod log;
mod sender;
mod system;
mod world;

mod announcements;
mod anomalies;
mod attack;
mod audits;
mod browser_client;
mod console;
mod consul;
mod conversation;
mod dead_letters;
mod doors;
mod equation;
mod erasures;
mod faults;
mod idle;
mod keys;
mod live;
mod memory;
mod nats;
mod nats_announcements;
mod personal_data;
mod poison;
mod processors;
mod projections;
mod readable;
mod receipts;
mod recovery;
mod replay_targets;
mod replays;
mod reports;
mod rewind;
mod sabotage;
mod same_id;
mod sdks;
mod search;
mod split;
mod streams;
mod tenants;
mod two_processors;
mod webhooks;
mod webhooks_at_size;

/// These tests drive the three services.
const SHAPE: world::Shape = world::Shape::Split;
