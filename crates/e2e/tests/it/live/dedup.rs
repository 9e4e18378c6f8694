//! What is sent again, by a careful client or by a hasty one, is stored once and pushed once.

use serde_json::{Value, json};
use testkit::eventually_eq;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::feed::{event_type, user};
use super::listener::Listener;
use crate::SHAPE;
use crate::system::System;
use crate::world::{Shape, World, beside_others, sum};

const EVENTS: u64 = 20;
/// Of each event, at the same moment.
const AT_ONCE: u64 = 4;

/// Event `n` under its id: some are UUIDs, some the sender's own text. The aggregates are to spread
/// the copies over the partitions.
fn event(n: u64, id: &str, aggregate: u64) -> Value {
    json!({
        "event_id": id, "event_type": event_type(n), "user_id": user(0), "data": {"n": n},
        "aggregate_type": "copy", "aggregate_id": format!("copy-{aggregate}"),
        "event_source": "backend", "event_category": "user_action",
    })
}

async fn post(http: &reqwest::Client, url: String, body: &Value) {
    let answer = http.post(url).json(body).send().await.unwrap();
    let status = answer.status();
    assert!(status.is_success(), "{status}: {:?}", answer.text().await);
}

/// Comes back when that many records were looked at: by the writer, and by the bridge where that
/// reads the log itself.
async fn wait_looked_at(system: &System, records: u64) {
    let metrics = system.processor_url("/metrics");
    let mut counters = vec![("tidegate_processor_records_total", vec![])];
    if SHAPE == Shape::Split {
        counters.push(("eventbridge_events_total", vec![("status", "consumed")]));
    }
    for (name, labels) in counters {
        eventually_eq(name, records as f64, || async {
            Ok(sum(&metrics, name, &labels).await)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_sent_again_is_stored_once_and_pushed_once() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let system = world.system().start().await;
    let http = crate::sender::client();
    let mut listener = Listener::begin(&system.query_url(""), &user(0)).await;
    let ids: Vec<String> = (1..=EVENTS)
        .map(|n| match n % 2 {
            0 => Uuid::now_v7().to_string(),
            _ => format!("order-{n}"),
        })
        .collect();
    for (n, id) in (1..).zip(&ids) {
        let copies = (0..AT_ONCE).map(|copy| {
            let (http, url) = (http.clone(), system.ingest_url("/api/v1/events"));
            let copy = event(n, id, copy);
            async move { post(&http, url, &copy).await }
        });
        copies.collect::<JoinSet<_>>().join_all().await;
        listener.read_up_to(n).await;
    }
    // Once more, some time later, and twice in one request.
    let all: Vec<Value> = (1..)
        .zip(&ids)
        .flat_map(|(n, id)| [event(n, id, 0), event(n, id, n)])
        .collect();
    let batch = system.ingest_url("/api/v1/events/batch");
    post(&http, batch, &json!(all)).await;
    wait_looked_at(&system, EVENTS * (AT_ONCE + 2)).await;
    let last = EVENTS + 1;
    let body = event(last, "the last one", 0);
    post(&http, system.ingest_url("/api/v1/events"), &body).await;
    listener.read_up_to(last).await;
    listener.assert_complete(last);
    let expected = i64::try_from(last).unwrap();
    eventually_eq("stored", expected, || world.database.count("events")).await;
}
