//! Replays: stored events run again, whatever dies, and nothing else with them.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{eventually, eventually_eq};
use uuid::Uuid;

use crate::SHAPE;
use crate::projections::{ask, define, get, send};
use crate::system::System;
use crate::world::{ANNOUNCEMENTS, PATIENCE, Shape, World, beside_others};

const PATH: &str = "/api/v1/events";

async fn replay(system: &System, body: Value) -> (u16, Value) {
    let (status, body) = ask(
        Method::POST,
        &system.query_url(&format!("{PATH}/replay")),
        &body,
    )
    .await;
    (status.as_u16(), body)
}

async fn shown(system: &System, id: &str) -> Value {
    get(system, &format!("{PATH}/replays/{id}")).await.1
}

/// Waits until a replay has that status.
async fn reaches(system: &System, id: &str, status: &str) -> Value {
    eventually(status, PATIENCE, || async {
        let now = shown(system, id).await;
        if now["status"] == status {
            Ok(now)
        } else {
            Err(now)
        }
    })
    .await
}

fn step(order: usize, n: usize) -> Value {
    // The times of a stream do not follow its order.
    let second = (n * 7) % 60;
    json!({"event_id": Uuid::now_v7(), "event_type": "step", "aggregate_type": "order",
        "aggregate_id": order.to_string(), "data": {"n": n},
        "timestamp": format!("2026-11-20T10:00:{second:02}Z")})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_is_shown_first_and_then_done() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let mut system = world.system().start().await;
    let events: Vec<Value> = (0..6).map(|n| step(n % 2, n)).collect();
    send(&system, &events).await;
    eventually_eq("stored events", 6, || world.database.count("event_ids")).await;
    define(
        &system,
        json!({"name": "last", "entity_type": "order", "fold": {"rule": "merge"}}),
    )
    .await;
    // Somebody has spoilt a state.
    let spoil = "update event_projections set state = '{\"n\": 99}' where entity_id = '1'";
    world.database.rows(spoil, &[]).await.unwrap();

    let (status, body) = replay(&system, json!({"stream_id": "order:1", "dry_run": true})).await;
    assert_eq!((status, &body["events_count"]), (200, &json!(3)), "{body}");
    let numbers: Vec<_> = (0..3)
        .map(|n| body["events"][n]["data"]["n"].clone())
        .collect();
    assert_eq!(numbers, [1, 3, 5]);
    let change = &body["projections"][0];
    assert_eq!(
        (&change["entity_id"], &change["changes"]),
        (&json!("1"), &json!(true)),
        "{body}"
    );
    assert_eq!(change["before"]["state"], json!({"n": 99}));
    assert_eq!(change["after"]["state"], json!({"n": 5}));
    assert_eq!(world.database.count("replays").await.unwrap(), 0);

    let (status, body) = replay(&system, json!({"stream_id": "order:1"})).await;
    assert_eq!(
        (status, &body["status"]),
        (202, &json!("replay_started")),
        "{body}"
    );
    assert_eq!(
        (&body["dry_run"], &body["events_count"]),
        (&json!(false), &json!(3))
    );
    assert_eq!(body["message"], "Event replay has been initiated");
    let done = reaches(&system, body["replay_id"].as_str().unwrap(), "completed").await;
    assert_eq!(
        (&done["replayed"], &done["failed"]),
        (&json!(3), &json!(0)),
        "{done}"
    );
    let (_, state) = get(&system, &format!("{PATH}/projections/order/1")).await;
    assert_eq!(
        (&state["state"], &state["version"]),
        (&json!({"n": 5}), &json!(3)),
        "{state}"
    );

    // Ids before a stream, a stream before a time; ids that are not there are passed over.
    let first = &events[0]["event_id"];
    let (_, body) = replay(
        &system,
        json!({"event_ids": [first, Uuid::now_v7()], "stream_id": "order:1",
        "dry_run": true}),
    )
    .await;
    assert_eq!(
        (&body["events_count"], &body["events"][0]["event_id"]),
        (&json!(1), first),
        "{body}"
    );
    let day = json!({"start_time": "2026-11-20", "end_time": "2026-11-21", "event_type": "step",
        "dry_run": true, "limit": 2});
    let (_, body) = replay(&system, day).await;
    assert_eq!(
        (
            &body["events_count"],
            body["events"].as_array().map(Vec::len)
        ),
        (&json!(6), Some(2))
    );
    for (asked, path) in [
        (json!({}), "event_ids"),
        (json!({"event_ids": []}), "event_ids"),
        (json!({"event_ids": "all"}), "event_ids"),
        (json!({"start_time": "2026-11-20"}), "end_time"),
        (
            json!({"stream_id": "order:1", "target_service": "a b"}),
            "target_service",
        ),
        (json!({"stream_id": "order:1", "rate": 0}), "rate"),
    ] {
        let (status, body) = replay(&system, asked.clone()).await;
        assert_eq!(
            (status, &body["errors"][0]["path"]),
            (422, &json!(path)),
            "{asked} {body}"
        );
    }
    for dry_run in [false, true] {
        let nothing = json!({"stream_id": "order:9", "dry_run": dry_run});
        let (status, body) = replay(&system, nothing).await;
        let path = &body["errors"][0]["path"];
        assert_eq!((status, path), (404, &json!("stream_id")), "{body}");
    }
    let missing = get(&system, &format!("{PATH}/replays/{}", Uuid::now_v7())).await;
    assert_eq!(missing.0, 404);
    let (_, all) = get(&system, &format!("{PATH}/replays")).await;
    assert_eq!(all["replays"].as_array().map(Vec::len), Some(1), "{all}");

    replayed_to_a_processor(&system, &world).await;

    if SHAPE == Shape::AllInOne {
        // There is no Kafka to hand events to.
        let asked = json!({"stream_id": "order:1", "target_service": "billing"});
        let (_, body) = replay(&system, asked).await;
        let failed = reaches(&system, body["replay_id"].as_str().unwrap(), "failed").await;
        assert!(
            failed["problem"].as_str().unwrap().contains("no Kafka"),
            "{failed}"
        );
    }
    system.assert_well();
}

/// One whose filters took none of them runs with the events once more.
async fn replayed_to_a_processor(system: &System, world: &World) {
    let registered = json!({"processor_name": "late", "processor_type": "log",
        "filters": {"event_types": ["never"]}});
    let url = system.query_url(&format!("{PATH}/processors"));
    let (status, body) = ask(Method::POST, &url, &registered).await;
    assert_eq!(status.as_u16(), 201, "{body}");
    let (status, body) = replay(
        system,
        json!({"stream_id": "order:1", "processors": ["nobody"]}),
    )
    .await;
    assert_eq!(
        (status, &body["errors"][0]["path"]),
        (404, &json!("processors")),
        "{body}"
    );
    let mut asked = json!({"stream_id": "order:1", "processors": ["late"], "dry_run": true});
    let (_, body) = replay(system, asked.clone()).await;
    assert_eq!(
        (&body["processors"], &body["projections"]),
        (&json!(["late"]), &json!([])),
        "{body}"
    );
    asked["dry_run"] = false.into();
    let (_, body) = replay(system, asked).await;
    reaches(system, body["replay_id"].as_str().unwrap(), "completed").await;
    let ran =
        "processing_results where processor_name = 'late' and status = 'success' and attempts = 1";
    eventually_eq("events that it ran with", 3, || world.database.count(ran)).await;
    let settled = "events where status = 'processed'";
    eventually_eq("processed events", 6, || world.database.count(settled)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_killed_half_way_goes_on_and_touches_nothing_else() {
    const ORDERS: usize = 20;
    const EACH: usize = 60;
    if SHAPE == Shape::AllInOne {
        return;
    }
    let _turn = beside_others().await;
    let world = World::shared().await;
    let mut system = world.system().start().await;
    let events: Vec<Value> = (0..ORDERS * EACH)
        .map(|n| step(n % ORDERS, n / ORDERS))
        .collect();
    send(&system, &events).await;
    let all = i64::try_from(events.len()).unwrap();
    eventually_eq("stored events", all, || world.database.count("event_ids")).await;

    let asked = json!({"start_time": "2026-11-20", "end_time": "2026-11-21",
        "target_service": "billing", "rate": 400});
    let (status, body) = replay(&system, asked).await;
    assert_eq!(
        (status, &body["events_count"]),
        (202, &json!(all)),
        "{body}"
    );
    let id = body["replay_id"].as_str().unwrap().to_owned();
    let verb = async |verb: &str| {
        let url = system.query_url(&format!("{PATH}/replays/{id}/{verb}"));
        let (status, body) = ask(Method::POST, &url, &Value::Null).await;
        (status.as_u16(), body)
    };
    let (status, paused) = verb("pause").await;
    assert_eq!(
        (status, &paused["status"]),
        (200, &json!("paused")),
        "{paused}"
    );
    assert_eq!(verb("pause").await.0, 409);
    assert_eq!(verb("resume").await.1["status"], "running");
    eventually("it is half way", PATIENCE, || async {
        let now = shown(&system, &id).await;
        let replayed = now["replayed"].as_i64().unwrap();
        assert!(replayed < all, "it was done before it was killed");
        if replayed > 0 { Ok(()) } else { Err(now) }
    })
    .await;
    system.processor_mut().kill();
    system.processor_mut().restart().await;
    let done = reaches(&system, &id, "completed").await;
    assert_eq!(
        (&done["replayed"], &done["failed"]),
        (&json!(all), &json!(0)),
        "{done}"
    );

    // Each event at least once, each stream in its order, under headers that say what it is.
    let topic = world.topic("replay.billing");
    let records = world.kcat.consume(&topic).await.unwrap();
    let mut streams: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for record in &records {
        let header = |name: &str| {
            let mut headers = record.headers.iter();
            headers
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.as_str())
        };
        assert_eq!(header("target_service"), Some("billing"));
        assert_eq!(header("replay-id"), Some(id.as_str()));
        let event: Value = serde_json::from_str(record.payload.as_deref().unwrap()).unwrap();
        let n = event["data"]["n"].as_i64().unwrap();
        let seen = streams.entry(record.key.clone().unwrap()).or_default();
        // After a kill a part comes again, from an event on.
        assert!(
            n <= i64::try_from(seen.len()).unwrap(),
            "{n} after {seen:?}"
        );
        if n == i64::try_from(seen.len()).unwrap() {
            seen.push(n);
        }
    }
    assert_eq!(streams.len(), ORDERS);
    assert!(
        streams.values().all(|seen| seen.len() == EACH),
        "{streams:?}"
    );

    // Nothing was stored or counted twice, and both ends were announced once.
    assert_eq!(world.database.count("event_ids").await.unwrap(), all);
    let counted = "select sum(count)::int8 from aggregated_events";
    assert_eq!(
        world.database.scalar::<i64>(counted, &[]).await.unwrap(),
        all
    );
    assert_eq!(world.database.count("replay_events").await.unwrap(), 0);
    eventually("both are announced", PATIENCE, || async {
        let topic = world.topic(ANNOUNCEMENTS);
        let sent = world
            .kcat
            .consume(&topic)
            .await
            .map_err(|e| e.to_string())?;
        let subjects = sent.iter().flat_map(|m| &m.headers);
        let subjects = subjects
            .filter(|(name, _)| name == "subject")
            .map(|(_, value)| value.as_str());
        let ours: Vec<_> = subjects
            .filter(|s| s.starts_with("event.replay."))
            .collect();
        if ours == ["event.replay.started", "event.replay.completed"] {
            Ok(())
        } else {
            Err(format!("{ours:?}"))
        }
    })
    .await;

    // A cancelled one ends.
    let (_, body) = replay(
        &system,
        json!({"stream_id": "order:1", "target_service": "billing", "rate": 1}),
    )
    .await;
    let id = body["replay_id"].as_str().unwrap();
    let url = system.query_url(&format!("{PATH}/replays/{id}/cancel"));
    let (status, body) = ask(Method::POST, &url, &Value::Null).await;
    assert_eq!(
        (status.as_u16(), &body["status"]),
        (200, &json!("cancelled")),
        "{body}"
    );
    assert_ne!(shown(&system, id).await["replayed"], 60);
    system.assert_well();
}
