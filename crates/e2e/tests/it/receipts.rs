//! The receipt of an event tells what really happened to it.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use store::log::LOG;
use testkit::eventually_eq;
use uuid::Uuid;

use crate::SHAPE;
use crate::direct::{Record, produce};
use crate::ledger::{Place, everything_on_the_log};
use crate::projections::define;
use crate::sender::client;
use crate::system::System;
use crate::world::{BACKEND, Shape, World, beside_others};

async fn receipt(system: &System, id: &str) -> (u16, Value) {
    let url = system.query_url(&format!("/api/v1/events/{id}/receipt"));
    let answer = client().get(url).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_agrees_with_the_log_and_the_tables() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let system = world.system().start().await;
    let (sent, direct, never) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    let event = |id: Uuid| {
        json!({"event_id": id, "event_type": "paid", "user_id": "u", "data": {},
            "timestamp": "2026-11-02T10:30:00Z"})
    };
    define(
        &system,
        json!({"name": "of-users", "entity_type": "user", "event_types": ["paid"]}),
    )
    .await;
    // Over HTTP, and twice straight to the log: the second is dropped.
    let url = system.ingest_url("/api/events/create?wait=stored");
    let answer = client().post(&url).json(&event(sent)).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    let record = || Record::new(3, "k", event(direct).to_string());
    let first = produce(&world, BACKEND, &[record()]).await;
    eventually_eq("stored events", 2, || world.database.count("event_ids")).await;
    let bad = Record::new(
        3,
        "k",
        format!("{{\"event_id\": \"{never}\", \"event_type\": 7}}"),
    );
    let again = produce(&world, BACKEND, &[record(), bad]).await;
    eventually_eq("dead letters", 1, || world.database.count("dead_letters")).await;
    eventually_eq("duplicates", 1, || world.database.count("event_duplicates")).await;

    let (status, of_sent) = receipt(&system, &sent.to_string()).await;
    assert_eq!(
        (status, &of_sent["door"]),
        (200, &json!("gateway")),
        "{of_sent}"
    );
    assert_eq!(of_sent["duplicates"]["dropped"], 0);
    assert_eq!(of_sent["stream_id"], "user:u");
    let (_, of_direct) = receipt(&system, &direct.simple().to_string()).await;
    assert_eq!(of_direct["door"], "log");
    let record = &of_direct["record"];
    match SHAPE {
        Shape::Split => {
            let place = json!({"log": "kafka", "topic": world.topic(BACKEND), "partition": 3, "offset": first[0]});
            assert_eq!(*record, place);
        }
        Shape::AllInOne => {
            assert_eq!(
                (&record["log"], &record["offset"]),
                (&json!("postgres"), &json!(first[0]))
            );
        }
    }
    let dropped = &of_direct["duplicates"];
    assert_eq!(
        (&dropped["dropped"], &dropped["places"][0]["offset"]),
        (&json!(1), &json!(again[0]))
    );
    // Both are counted in the same rows.
    let counted = json!({"event_type": "paid", "date": "2026-11-02", "daily": 2,
        "hour": "2026-11-02T10:00:00Z", "hourly": 2});
    assert_eq!(
        (&of_sent["counted"], &of_direct["counted"]),
        (&counted, &counted)
    );
    assert_eq!(of_sent["announced"]["waits"], false);
    for (receipt, version) in [(&of_sent, 1), (&of_direct, 2)] {
        let told = json!([{"projection_name": "of-users", "definition_version": 1,
            "entity_type": "user", "entity_id": "u", "status": "folded", "version": version,
            "current_version": 2, "error": null}]);
        assert_eq!(receipt["projections"], told);
    }

    let (status, none) = receipt(&system, &never.to_string()).await;
    assert_eq!(status, 404, "{none}");
    assert_eq!(none["dead_letters"][0]["record"]["offset"], again[1]);
    let positions = none["positions"].as_array().unwrap();
    let beyond = |position: &Value| position["next"]["offset"] == again[1] + 1;
    assert!(positions.iter().any(beyond), "{positions:?}");

    // Other people's events have no receipt here.
    let sql = "update event_ids set tenant_id = 'other' where event_id = $1";
    let client = world.database.connect().await.unwrap();
    client.execute(sql, &[&sent]).await.unwrap();
    assert_eq!(receipt(&system, &sent.to_string()).await.0, 404);
}

/// Receipts looked at: of events that were repeated, and of others.
const LOOKED_AT: usize = 40;

/// Looks at receipts after whatever has happened, all of which is worked off: they agree with the tables, and
/// name each record of their event that is on Kafka, and no other.
pub(crate) async fn assert_true(world: &World, system: &System) {
    let log = everything_on_the_log(world).await;
    let some = |repeated: bool| {
        let not = if repeated { "" } else { "not" };
        let sql = format!(
            "select i.event_id, e.created_at, i.stream_version, coalesce(d.dropped, 0), e.status::text \
             from event_ids i join events e using (event_id, tenant_id, timestamp) \
             left join event_duplicates d using (event_id, tenant_id) where {not} (coalesce(d.dropped, 0) > 0 or \
             exists (select from dead_letters l where l.event_id = i.event_id)) \
             order by md5(i.event_id::text) limit {LOOKED_AT}"
        );
        async move { world.database.rows(&sql, &[]).await.unwrap() }
    };
    let rows = [some(true).await, some(false).await].concat();
    assert!(rows.len() > LOOKED_AT, "{} events", rows.len());
    for row in rows {
        let id: Uuid = row.get(0);
        let text = id.to_string();
        let (status, receipt) = receipt(system, &text).await;
        assert_eq!(status, 200, "{receipt}");
        assert_eq!(receipt["event_id"], text);
        let stored = domain::timestamp::format(row.get(1));
        assert_eq!(receipt["stored_at"], stored, "{receipt}");
        let version: Option<i64> = row.get(2);
        assert_eq!(receipt["stream_version"], json!(version), "{receipt}");
        assert_eq!(receipt["status"], row.get::<_, String>(4), "{receipt}");
        let dropped: i32 = row.get(3);
        assert_eq!(receipt["duplicates"]["dropped"], dropped, "{receipt}");
        if SHAPE == Shape::AllInOne {
            continue;
        }
        let on_kafka = |record: &Value| -> Option<Place> {
            let topic = record["topic"].as_str().filter(|topic| *topic != LOG)?;
            let partition = i32::try_from(record["partition"].as_i64()?).ok()?;
            Some((topic.to_owned(), partition, record["offset"].as_i64()?))
        };
        let duplicates = receipt["duplicates"]["places"].as_array().unwrap().iter();
        let letters = receipt["dead_letters"].as_array().unwrap().iter();
        let told = [&receipt["record"]].into_iter().chain(duplicates);
        let told = told.chain(letters.map(|letter| &letter["record"]));
        let told: BTreeSet<Place> = told.filter_map(on_kafka).collect();
        let has_it = |payload: &String| payload.contains(&text);
        let is: BTreeSet<Place> = (log.iter())
            .filter(|(_, record)| record.payload.as_ref().is_some_and(has_it))
            .map(|(place, _)| place.clone())
            .collect();
        assert_eq!(told, is, "{receipt}");
        // The gateway's own records say when it took the event.
        if let Some(record) = on_kafka(&receipt["record"]).and_then(|place| log.get(&place)) {
            let by_gateway = record.payload.as_ref().unwrap().contains("\"received_at\"");
            let door = if by_gateway { "gateway" } else { "log" };
            assert_eq!(receipt["door"], door, "{receipt}");
        }
    }
}
