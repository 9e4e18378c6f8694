//! What is kept beside the rows is what the rows come to, and where it is not, that is found.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use testkit::{LIMIT, eventually, eventually_eq};
use uuid::Uuid;

use crate::sender::client;
use crate::system::System;
use crate::world::{World, beside_others, sum};

/// Types of one event each, and what is done to it. `$1` is the event.
const FAULTS: [(&str, &str); 6] = [
    (
        "day",
        "update aggregated_events set count = count + 1 where event_type = 'day' and $1::uuid is not null",
    ),
    (
        "hour",
        "update aggregated_events_hourly set count = count - 1 where event_type = 'hour' and $1::uuid is not null",
    ),
    ("lost", "delete from events where event_id = $1::uuid"),
    (
        "doubled",
        "insert into events select (jsonb_populate_record(e, jsonb_build_object('timestamp', \
        e.timestamp + interval '1 millisecond'))).* from events e where event_id = $1::uuid",
    ),
    (
        "unclaimed",
        "delete from event_ids where event_id = $1::uuid",
    ),
    (
        "misplaced",
        "update event_ids set timestamp = timestamp + interval '1 hour' where event_id = $1::uuid",
    ),
];

/// The same for streams, positions and projections.
const OTHERS: &str = "
    update event_streams set version = version - 1 where stream_id = 'order:behind';
    update event_streams set version = version + 1 where stream_id = 'order:ahead';
    delete from event_streams where stream_id = 'order:missing';
    with gone as (delete from event_ids where stream_id = 'order:gap' and stream_version = 2 returning event_id)
        delete from events using gone where events.event_id = gone.event_id;
    update event_projections set state = '{\"count\": 1}', version = 1 where entity_id = 'projection';
    update log_positions set stored = stored + 100000 where topic = 'postgres:event_log' and partition = 3;
    insert into event_log (partition, topic, headers, payload) values (3, 'none', '', '');";

/// What is found of it: with the counts of what is lost, doubled, unclaimed and missing in a stream.
const FOUND: [(&str, usize); 12] = [
    ("daily_count", 4),
    ("hourly_count", 4),
    ("id_misplaced", 1),
    ("position_ahead", 1),
    ("projection", 2),
    ("row_doubled", 1),
    ("row_lost", 1),
    ("row_unclaimed", 1),
    ("stream_ahead", 1),
    ("stream_behind", 1),
    ("stream_gap", 1),
    ("stream_missing", 1),
];
/// What cannot be repaired.
const LEFT: [(&str, usize); 5] = [
    ("daily_count", 1),
    ("hourly_count", 1),
    ("row_lost", 1),
    ("stream_ahead", 1),
    ("stream_gap", 1),
];

/// The differences that an audit finds.
async fn audit(system: &System, body: &Value) -> Value {
    let url = system.query_url("/api/v1/admin/audits");
    let made = client().post(&url).json(body).send().await.unwrap();
    assert_eq!(made.status(), 202);
    let made: Value = made.json().await.unwrap();
    let url = format!("{url}/{}", made["audit_id"].as_str().unwrap());
    let report = eventually("the audit ends", LIMIT, || async {
        let report: Value = client().get(&url).send().await?.json().await?;
        anyhow::ensure!(report["state"] != "running", "{report}");
        Ok(report)
    })
    .await;
    assert_eq!(
        (&report["state"], &report["problem"]),
        (&json!("completed"), &Value::Null),
        "{report}"
    );
    report
}

fn kinds(report: &Value) -> BTreeMap<&str, usize> {
    let mut kinds = BTreeMap::new();
    for one in report["differences"].as_array().unwrap() {
        *kinds.entry(one["kind"].as_str().unwrap()).or_default() += 1;
    }
    kinds
}

async fn send(system: &System, events: &[Value]) {
    let url = system.ingest_url("/api/v1/events/batch");
    let answer = client().post(url).json(&events).send().await.unwrap();
    assert!(answer.status().is_success(), "{:?}", answer.text().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_planted_fault_is_found_and_repaired_where_it_can_be() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let system = world.system().start().await;
    let projection = json!({"name": "steps", "entity_type": "order", "fold": {"rule": "count"}});
    let url = system.query_url("/api/v1/events/projections");
    assert_eq!(
        client()
            .post(url)
            .json(&projection)
            .send()
            .await
            .unwrap()
            .status(),
        201
    );

    // What is lost is of another day, for its counts cannot be repaired.
    let now = time::OffsetDateTime::now_utc();
    let at = |days: i64| {
        let at = now - time::Duration::days(days);
        at.format(&time::format_description::well_known::Rfc3339)
            .unwrap()
    };
    let mut events = vec![];
    let mut ids = vec![];
    for (kind, _) in FAULTS {
        let id = Uuid::now_v7();
        let days = if kind == "lost" { 3 } else { 1 };
        events.push(
            json!({"event_id": id, "event_type": kind, "timestamp": at(days), "data": {"n": 1}}),
        );
        ids.push(id);
    }
    for order in ["behind", "ahead", "missing", "gap", "projection"] {
        for _ in 0..3 {
            events.push(
                json!({"event_type": "step", "aggregate_type": "order", "aggregate_id": order,
                "timestamp": at(1), "data": {}}),
            );
        }
    }
    send(&system, &events).await;
    eventually_eq("stored", i64::try_from(events.len()).unwrap(), || {
        world.database.count("events")
    })
    .await;
    eventually_eq("built", 1, || {
        world
            .database
            .count("projection_definitions where state = 'live'")
    })
    .await;
    let clean = audit(&system, &json!({})).await;
    assert_eq!(clean["differences"], json!([]));
    assert!(clean["checked"].as_i64().unwrap() >= 2 * 21, "{clean}");

    let database = world.database.connect().await.unwrap();
    for ((kind, sql), id) in FAULTS.iter().zip(&ids) {
        let changed = database.execute(*sql, &[id]).await.unwrap();
        assert_eq!(changed, 1, "{kind}");
    }
    database.batch_execute(OTHERS).await.unwrap();
    let found = audit(&system, &json!({})).await;
    assert_eq!(kinds(&found), BTreeMap::from(FOUND), "{found:#}");
    assert_eq!(
        (&found["findings"], &found["repaired"]),
        (&json!(19), &json!(0))
    );
    let lost = found["differences"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["kind"] == "row_lost");
    assert_eq!(
        lost.unwrap()["events"],
        json!([ids[2]]),
        "the row that shows it"
    );

    eventually_eq("the metric tells", 19.0, || async {
        let metrics = system.processor_url("/metrics");
        anyhow::Ok(sum(&metrics, "tidegate_audit_differences", &[]).await)
    })
    .await;

    let repaired = audit(&system, &json!({"repair": true})).await;
    assert!(repaired["repaired"].as_i64().unwrap() >= 10, "{repaired:#}");
    let left = audit(&system, &json!({})).await;
    assert_eq!(kinds(&left), BTreeMap::from(LEFT), "{left:#}");
    // Of the days that are asked for.
    let day = &at(1)[..10];
    let some = audit(&system, &json!({"from": day, "to": day})).await;
    assert_eq!(kinds(&some).get("row_lost"), None, "{some:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_meanwhile_is_no_difference() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let system = world.system().env("AUDIT_AT", "00:00").start().await;
    let sending = async {
        for n in 0..40 {
            let event = |m: i64| {
                json!({"event_type": format!("t{}", m % 3), "aggregate_type": "order",
                    "aggregate_id": format!("{}", m % 5), "data": {"n": n}})
            };
            send(&system, &(0..50).map(event).collect::<Vec<_>>()).await;
        }
    };
    let auditing = async {
        for _ in 0..4 {
            let report = audit(&system, &json!({"repair": true})).await;
            assert_eq!(report["differences"], json!([]), "{report:#}");
        }
    };
    tokio::join!(sending, auditing);
    eventually_eq("one was done by the clock", true, || async {
        let done = "audits where nightly and state = 'completed' and findings = 0";
        Ok(world.database.count(done).await? > 0)
    })
    .await;
    eventually_eq("stored", 2_000, || world.database.count("events")).await;
    let report = audit(&system, &json!({})).await;
    assert_eq!(
        (&report["differences"], &report["findings"]),
        (&json!([]), &json!(0))
    );
    let counted = "select sum(count)::int8 from aggregated_events";
    assert_eq!(
        world.database.scalar::<i64>(counted, &[]).await.unwrap(),
        2_000
    );
}
