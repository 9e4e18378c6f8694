//! Dead letters after their cause is mended: stored, each once, and what fails again is back with its
//! history.

use reqwest::StatusCode;
use serde_json::{Value, json};
use testkit::{eventually, eventually_eq};
use uuid::Uuid;

use crate::direct::{Record, produce};
use crate::sender::client;
use crate::system::System;
use crate::world::{BACKEND, PARTITIONS, PATIENCE, World, beside_others};

const MENDED: usize = 1_000;
const BROKEN: usize = 100;

async fn post(system: &System, path: &str, body: &Value) -> (StatusCode, Value) {
    let url = system.query_url(&format!("/api/v1/events/dead-letters/{path}"));
    let answer = client().post(url).json(body).send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

async fn get(system: &System, path: &str) -> Value {
    let url = system.query_url(&format!("/api/v1/events/{path}"));
    client()
        .get(url)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap()
}

/// Redrives a selection, request by request.
async fn redrive(system: &System, mut body: Value) -> u64 {
    let mut changed = 0;
    loop {
        let (status, answer) = post(system, "redrive", &body).await;
        assert_eq!(status, 200, "{answer}");
        changed += answer["changed"].as_u64().unwrap();
        if answer["last_id"].is_null() {
            return changed;
        }
        body["after_id"] = answer["last_id"].clone();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_mended_is_stored_once_and_what_fails_again_is_back() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    // Too small by mistake.
    let system = world.system().env("MAX_EVENT_BYTES", 1_024).start().await;
    let mut records = Vec::new();
    for n in 0..MENDED + BROKEN {
        let mut event = json!({"event_type": "large", "data": {"n": n, "text": "x".repeat(2_000)}});
        if n % 2 == 0 {
            event["event_id"] = json!(Uuid::now_v7());
        }
        let payload = if n < MENDED {
            event.to_string()
        } else {
            format!(
                "{{\"event_type\": \"{}\", \"data\": {{}},}}",
                "x".repeat(1_100)
            )
        };
        let partition = i32::try_from(n).unwrap() % PARTITIONS;
        let mut record = Record::new(partition, &format!("k{n}"), payload);
        record.headers = vec![("h", b"1".to_vec()), ("h", vec![0xff, 0])];
        records.push(record);
    }
    let offsets = produce(&world, BACKEND, &records).await;
    let all = i64::try_from(MENDED + BROKEN).unwrap();
    eventually_eq("dead letters", all, || world.database.count("dead_letters")).await;
    let counts = get(&system, "dead-letters/counts").await;
    let first = &counts["counts"][0];
    assert_eq!(
        (&first["reason"], &first["state"], &first["count"]),
        (&json!("too_large"), &json!("open"), &json!(all))
    );
    let places = |state: &'static str| {
        let sql = format!(
            "select id, topic, partition, \"offset\", payload, headers::text from dead_letters \
             where state = '{state}' order by id"
        );
        let world = &world;
        async move {
            let rows = world.database.rows(&sql, &[]).await.unwrap();
            let place = |row: &tokio_postgres::Row| -> (i64, String, i32, i64, Vec<u8>, String) {
                (
                    row.get(0),
                    row.get(1),
                    row.get(2),
                    row.get(3),
                    row.get(4),
                    row.get(5),
                )
            };
            rows.iter().map(place).collect::<Vec<_>>()
        }
    };
    let before = places("open").await;

    // Nothing is done to what is not selected, and nothing in a dry run.
    let (status, problem) = post(&system, "redrive", &json!({})).await;
    assert_eq!(
        (status.as_u16(), &problem["errors"][0]["path"]),
        (422, &json!("ids"))
    );
    let (_, dry) = post(
        &system,
        "redrive",
        &json!({"reason": "too_large", "dry_run": true}),
    )
    .await;
    assert_eq!(
        (&dry["selected"], &dry["changed"]),
        (&json!(all), &json!(0))
    );

    // The cause is mended for most of them.
    drop(system);
    let system = world.system().start().await;
    let selection =
        json!({"reason": "too_large", "topic": world.topic(BACKEND), "limit": 400, "rate": 2_000});
    assert_eq!(
        redrive(&system, selection).await,
        u64::try_from(all).unwrap()
    );
    let stored = i64::try_from(MENDED).unwrap();
    eventually_eq("stored events", stored, || {
        world.database.count("event_ids")
    })
    .await;
    let broken = i64::try_from(BROKEN).unwrap();
    eventually(
        "the broken ones are back, and no others are left",
        PATIENCE,
        || async {
            let open = world
                .database
                .count("dead_letters where state = 'open'")
                .await
                .unwrap();
            let left = world.database.count("dead_letters").await.unwrap();
            if (open, left) == (broken, broken) {
                Ok(())
            } else {
                Err((open, left))
            }
        },
    )
    .await;
    let distinct = "(select distinct data->>'n' from events) x";
    assert_eq!(world.database.count(distinct).await.unwrap(), stored);
    let counted = "aggregated_events where count <> 1000";
    assert_eq!(world.database.count(counted).await.unwrap(), 0);

    // Those that are stored know the records they came from, not those that were redriven.
    let sql = "select (data->>'n')::int8, log_offset from event_ids i join events using (event_id)";
    for row in world.database.rows(sql, &[]).await.unwrap() {
        let (n, offset): (i64, i64) = (row.get(0), row.get(1));
        assert_eq!(offset, offsets[usize::try_from(n).unwrap()], "event {n}");
    }

    // They are the same ones: number, place, key and bytes, with what was tried.
    let after = places("open").await;
    let same = before
        .iter()
        .filter(|letter| after.contains(letter))
        .count();
    assert_eq!((same, after.len()), (BROKEN, BROKEN));
    let with_history = "dead_letters where attempts = 1 and reason = 'invalid_json' \
        and jsonb_array_length(history) = 1 and history->0->>'reason' = 'too_large'";
    assert_eq!(world.database.count(with_history).await.unwrap(), broken);
    let id = after[0].0;
    let letter = get(&system, &format!("dead-letters/{id}")).await;
    assert_eq!(
        (&letter["attempts"], &letter["reason"]),
        (&json!(1), &json!("invalid_json")),
        "{letter}"
    );
    assert_eq!(letter["history"][0]["action"], "redriven");
    assert_eq!(letter["history"][0]["reason"], "too_large");
    let fault = &letter["faults"][0];
    assert!(fault["after"].as_str().unwrap().starts_with('}'), "{fault}");

    // One is mended by hand, one is set aside.
    let (status, _) = post(
        &system,
        "redrive",
        &json!({"ids": [id, id + 1], "payload": "{}"}),
    )
    .await;
    assert_eq!(status, 422);
    let mended = json!({"ids": [id], "payload": r#"{"event_type":"mended","data":{}}"#});
    assert_eq!(redrive(&system, mended).await, 1);
    eventually_eq("stored events", stored + 1, || {
        world.database.count("event_ids")
    })
    .await;
    let other = after[1].0;
    let (status, problem) = post(&system, "discard", &json!({"ids": [other]})).await;
    assert_eq!(
        (status.as_u16(), &problem["errors"][0]["path"]),
        (422, &json!("note"))
    );
    let (_, discarded) = post(
        &system,
        "discard",
        &json!({"ids": [other], "note": "noise"}),
    )
    .await;
    assert_eq!(discarded["changed"], 1);
    let letter = get(&system, &format!("dead-letters/{other}")).await;
    assert_eq!(
        (&letter["state"], &letter["note"]),
        (&json!("discarded"), &json!("noise"))
    );
    let list = get(&system, "dead-letters?limit=1").await;
    assert_eq!(list["total"], broken - 2);
}
