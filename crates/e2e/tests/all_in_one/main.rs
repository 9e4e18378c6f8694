//! The same promises, kept by one `tidegate serve` on PostgreSQL alone: the tests of `../it` whose
//! outcome depends on the log in PostgreSQL, and what only one process can lose. The conformance
//! suites of `eventlog` and `live` show that both logs and both kinds of channels behave alike.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation fails the test"
)]
#![expect(dead_code, reason = "some of the support is for the split shape")]

#[path = "../it/direct.rs"]
mod direct;
#[path = "../it/documented.rs"]
mod documented;
#[path = "../it/ledger.rs"]
mod ledger;
#[path = "../it/load.rs"]
mod load;
#[path = "../it/log.rs"]
mod log;
#[path = "../it/sender.rs"]
mod sender;
#[path = "../it/system.rs"]
mod system;
#[path = "../it/world.rs"]
mod world;

#[path = "../it/anomalies.rs"]
mod anomalies;
#[path = "../it/attack.rs"]
mod attack;
#[path = "../it/audits.rs"]
mod audits;
#[path = "../it/console.rs"]
mod console;
#[path = "../it/consul.rs"]
mod consul;
#[path = "../it/dead_letters.rs"]
mod dead_letters;
#[path = "../it/equation.rs"]
mod equation;
#[path = "../it/erasures.rs"]
mod erasures;
#[path = "../it/faults.rs"]
mod faults;
#[path = "../it/idle.rs"]
mod idle;
#[path = "../it/memory.rs"]
mod memory;
#[path = "../it/nats.rs"]
mod nats;
#[path = "../it/nats_announcements.rs"]
mod nats_announcements;
#[path = "../it/personal_data.rs"]
mod personal_data;
#[path = "../it/poison.rs"]
mod poison;
#[path = "../it/processors.rs"]
mod processors;
#[path = "../it/projections.rs"]
mod projections;
#[path = "../it/receipts.rs"]
mod receipts;
#[path = "../it/replay_targets.rs"]
mod replay_targets;
#[path = "../it/replays.rs"]
mod replays;
#[path = "../it/reports.rs"]
mod reports;
#[path = "../it/same_id.rs"]
mod same_id;
#[path = "../it/search.rs"]
mod search;
#[path = "../it/streams.rs"]
mod streams;
#[path = "../it/tenants.rs"]
mod tenants;
#[path = "../it/two_processors.rs"]
mod two_processors;
#[path = "../it/webhooks.rs"]
mod webhooks;
#[path = "../it/webhooks_at_size.rs"]
mod webhooks_at_size;

mod console_page;
mod live;
mod restart;
mod with_redis;

/// These tests drive the one process.
const SHAPE: world::Shape = world::Shape::AllInOne;
