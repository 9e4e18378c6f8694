//! The bridge alone, without a database, in the profile of the specification's own events.

use serde_json::json;
use uuid::Uuid;

use crate::direct::flood;
use crate::live::listener::Seen;
use crate::live::malformed::{GOOD, assert_unimpressed, mixed};
use crate::system::System;
use crate::world::{DOMAIN, PATIENCE, World, beside_others};

/// Each kind fails at another step of the filter.
fn bad_for_genesis(n: u64) -> String {
    let mut event = genesis(n);
    match n % 8 {
        0 => event["event_id"] = json!("not a UUID"),
        1 => drop(event.as_object_mut().unwrap().remove("aggregate_id")),
        2 => drop(event.as_object_mut().unwrap().remove("payload")),
        3 => event["event_type"] = json!("Genesis.Session.Painted"),
        4 => event["event_type"] = json!("Billing.Invoice.Paid"),
        5 => event["payload"]["session_id"] = json!("7"),
        6 => event["aggregate_id"] = json!("stream-1"),
        _ => event["payload"]["user_id"] = json!("someone"),
    }
    event.to_string()
}

const GENESIS_USER: &str = "0190c8a4-0000-7000-8000-000000000001";

fn genesis(n: u64) -> serde_json::Value {
    json!({
        "event_id": Uuid::now_v7(), "event_type": "Genesis.Session.Started",
        "aggregate_id": Uuid::now_v7(), "correlation_id": Uuid::now_v7(),
        "payload": {"user_id": GENESIS_USER, "session_id": Uuid::now_v7(), "n": n},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_malformed_events_stop_nothing_in_the_genesis_profile() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let bridge = world
        .service("processor")
        .env("PROCESSOR_ROLES", "bridge")
        .env("BRIDGE_PROFILE", "genesis")
        .env("BRIDGE_GROUP_ID", world.topic("bridge"))
        // Nobody listens there: this role needs no database.
        .env("DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
        .start()
        .await;
    let ingest = world.service("ingest").start().await;
    let system = System::of(ingest, bridge, world.service("query").start().await);
    let url = system.query_url(&format!("/api/v1/sse/users/{GENESIS_USER}?named=false"));
    let mut stream = testkit::SseStream::open(&url, None).await.unwrap();
    stream.wait_cursor().await.unwrap();
    let records = mixed(bad_for_genesis, |n| genesis(n).to_string());
    tokio::task::block_in_place(|| flood(&world, DOMAIN, records));
    let mut seen = Vec::new();
    while (seen.len() as u64) < GOOD {
        let next = tokio::time::timeout(PATIENCE, stream.next()).await;
        let event = next.expect("a good one").unwrap().unwrap();
        let data: serde_json::Value = serde_json::from_str(&event.data).unwrap();
        assert_eq!(event.event, "message");
        assert_eq!(data["event_type"], "Genesis.Session.Started");
        assert!(
            data["correlation_id"].is_string() && data["session_id"].is_string(),
            "{data}"
        );
        seen.push(Seen::Event(data["payload"]["n"].as_u64().unwrap()));
    }
    assert_eq!(seen, (1..=GOOD).map(Seen::Event).collect::<Vec<_>>());
    assert_unimpressed(&system).await;
}
