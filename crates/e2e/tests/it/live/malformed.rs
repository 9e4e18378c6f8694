//! Bad data is no fault of Redis: it opens no breaker, and what is good among it arrives.

use serde_json::json;
use testkit::{LIMIT, eventually};
use uuid::Uuid;

use super::listener::Listener;
use super::{CLOSED, breaker_state, breaker_transitions};
use crate::direct::flood;
use crate::load::Maker;
use crate::system::System;
use crate::world::{DOMAIN, PATIENCE, World, beside_others, sum};

const MALFORMED: u64 = 10_000;
/// One good event after so many bad ones.
const EVERY: u64 = 50;
pub(crate) const GOOD: u64 = MALFORMED / EVERY;

/// Bad ones and good ones under one key, so that the good ones stand behind the bad.
pub(crate) fn mixed(
    mut bad: impl FnMut(u64) -> String,
    good: impl Fn(u64) -> String,
) -> impl Iterator<Item = (String, String)> {
    (1..=MALFORMED).flat_map(move |n| {
        let mut records = vec![bad(n)];
        if n % EVERY == 0 {
            records.push(good(n / EVERY));
        }
        records.into_iter().map(|record| ("key".to_owned(), record))
    })
}

pub(crate) async fn assert_unimpressed(system: &System) {
    assert_eq!(breaker_state(system).await, CLOSED);
    assert_eq!(breaker_transitions(system, "open").await, 0.0);
    let metrics = system.processor_url("/metrics");
    let expected = [
        ("consumed", (MALFORMED + GOOD) as f64),
        ("filtered", MALFORMED as f64),
        ("published", GOOD as f64),
        ("dropped", 0.0),
        ("failed", 0.0),
    ];
    eventually("each record is counted", LIMIT, || async {
        for (status, count) in expected {
            let found = sum(&metrics, "eventbridge_events_total", &[("status", status)]).await;
            if found != count {
                return Err(format!("{status}: {found} instead of {count}"));
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_malformed_events_open_no_breaker_and_stall_nothing() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let system = world.system().start().await;
    let mut listener = Listener::begin(&system.query_url(""), "user-1").await;
    let mut maker = Maker::new();
    let good = |n| {
        let event_type = super::feed::event_type(n);
        json!({
            "event_id": Uuid::now_v7(), "event_type": event_type, "aggregate_id": "a-1",
            "payload": {"user_id": "user-1", "n": n},
        })
        .to_string()
    };
    let records = mixed(|_| maker.rubbish(), good);
    tokio::task::block_in_place(|| flood(&world, DOMAIN, records));
    listener.read_up_to(GOOD).await;
    listener.assert_complete(GOOD);
    assert_unimpressed(&system).await;
    eventually("they are dead letters", PATIENCE, || async {
        match world.database.count("dead_letters").await {
            Ok(dead) if dead.unsigned_abs() == MALFORMED => Ok(()),
            other => Err(other),
        }
    })
    .await;
}
