//! Streams of aggregates: every event gets the next number, whatever dies, and an append that expects
//! what is no longer so is refused, visibly.

use std::collections::BTreeMap;

use reqwest::StatusCode;
use serde_json::{Value, json};
use testkit::eventually;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::SHAPE;
use crate::sender::client;
use crate::world::{PATIENCE, Shape, World, beside_others, wait_assigned};

const AGGREGATES: usize = 50;
const EVENTS: usize = 200;
const PRODUCERS: usize = 8;
const KILLS: usize = 5;

/// Posts until it is taken, as the same events.
async fn post(url: &str, body: &Value) {
    eventually("the gateway takes it", PATIENCE, || async {
        match client().post(url).json(body).send().await {
            Ok(answer) if answer.status() == 201 => Ok(()),
            Ok(answer) => Err(answer.status().to_string()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_have_no_gap_and_no_double_whatever_dies() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let survivor = world.processor().spawn();
    let mut victim = world.processor().spawn();
    let gateway = match SHAPE {
        Shape::Split => Some(world.service("ingest").start().await),
        Shape::AllInOne => None,
    };
    wait_assigned(&world, &[&survivor, &victim]).await;
    let url = gateway
        .as_ref()
        .unwrap_or(&survivor)
        .url("/api/events/batch");

    let rounds = KILLS + 1;
    let per_producer = AGGREGATES * EVENTS / PRODUCERS;
    for round in 0..rounds {
        let before = world.database.count("event_ids").await.unwrap();
        let mut producers = JoinSet::new();
        for producer in 0..PRODUCERS {
            let url = url.clone();
            let (from, to) = (
                per_producer * round / rounds,
                per_producer * (round + 1) / rounds,
            );
            producers.spawn(async move {
                let events: Vec<Value> = (from..to)
                    .map(|n| {
                        let aggregate = (n * PRODUCERS + producer) % AGGREGATES;
                        json!({"event_id": Uuid::now_v7(), "event_type": "step",
                            "aggregate_type": "order", "aggregate_id": aggregate.to_string()})
                    })
                    .collect();
                for events in events.chunks(20) {
                    post(&url, &json!(events)).await;
                }
            });
        }
        if round < KILLS {
            eventually("events are being stored", PATIENCE, || async {
                let now = world.database.count("event_ids").await.unwrap();
                if now > before { Ok(()) } else { Err(now) }
            })
            .await;
            victim.kill();
            victim.restart().await;
        }
        producers.join_all().await;
    }
    let all = i64::try_from(AGGREGATES * EVENTS).unwrap();
    testkit::eventually_eq("stored events", all, || world.database.count("event_ids")).await;
    let sql = "select i.stream_id, count(*), count(distinct i.stream_version), min(i.stream_version), \
        max(i.stream_version), min(s.version) from event_ids i join event_streams s \
        using (tenant_id, stream_id) group by 1";
    let rows = world.database.rows(sql, &[]).await.unwrap();
    let streams: BTreeMap<String, [i64; 5]> = rows
        .iter()
        .map(|row| (row.get(0), [1, 2, 3, 4, 5].map(|n| row.get(n))))
        .collect();
    assert_eq!(streams.len(), AGGREGATES);
    let events = i64::try_from(EVENTS).unwrap();
    for (stream, numbers) in streams {
        assert_eq!(numbers, [events, events, 1, events, events], "{stream}");
    }
    assert_eq!(world.database.count("dead_letters").await.unwrap(), 0);
    // Whatever was killed, each event knows the one record it came from, and that a gateway took it.
    let places = "(select distinct log_partition, log_offset from event_ids where by_gateway) x";
    assert_eq!(world.database.count(places).await.unwrap(), all);
}

fn append(expected: &Value) -> Value {
    json!({"event_id": Uuid::now_v7(), "event_type": "cart.changed", "aggregate_type": "cart",
        "aggregate_id": "1", "expected_version": expected})
}

async fn answer(request: reqwest::RequestBuilder) -> (StatusCode, Value) {
    let answer = request.send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_eight_appends_with_one_expected_version_one_is_stored() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let mut system = world.system().start().await;
    let create = system.ingest_url("/api/v1/events/create?wait=stored");
    let mut appends = JoinSet::new();
    for _ in 0..8 {
        let request = client().post(&create).json(&append(&json!("none")));
        appends.spawn(answer(request));
    }
    let (stored, refused): (Vec<_>, Vec<_>) = appends
        .join_all()
        .await
        .into_iter()
        .partition(|(status, _)| *status == 201);
    assert_eq!(
        (stored.len(), refused.len()),
        (1, 7),
        "{stored:?} {refused:?}"
    );
    assert_eq!(stored[0].1["stream_version"], 1);
    assert_eq!(stored[0].1["status"], "processed");
    for (status, problem) in refused {
        assert_eq!(
            (status.as_u16(), &problem["current_version"]),
            (409, &json!(1)),
            "{problem}"
        );
        assert_eq!(problem["errors"][0]["path"], "expected_version");
        assert_eq!(
            problem["detail"],
            "the stream cart:1 is at version 1, the event expects 0"
        );
    }
    // A retry of what is stored says so once more.
    let again = json!({"event_id": stored[0].1["event_id"], "event_type": "cart.changed",
        "aggregate_type": "cart", "aggregate_id": "1", "expected_version": "none"});
    let (status, body) = answer(client().post(&create).json(&again)).await;
    assert_eq!(
        (status.as_u16(), &body["stream_version"]),
        (201, &json!(1)),
        "{body}"
    );

    // A batch is stored whole, or not at all.
    let batch = system.ingest_url("/api/events/batch");
    let events = || json!([append(&json!(1)), append(&json!(1)), append(&json!(1))]);
    let waiting = |body: &Value| client().post(&batch).header("prefer", "wait=20").json(body);
    let (status, body) = answer(waiting(&events())).await;
    assert_eq!(status, 201, "{body}");
    let versions: Vec<_> = (0..3)
        .map(|n| body[n]["stream_version"].as_i64().unwrap())
        .collect();
    assert_eq!(versions, [2, 3, 4]);
    let (status, problem) = answer(waiting(&events())).await;
    assert_eq!(
        (status.as_u16(), &problem["current_version"]),
        (409, &json!(4)),
        "{problem}"
    );
    assert_eq!(problem["errors"][2]["path"], "[2].expected_version");
    // Each the version after the one before: refused as a whole, though the second would fit.
    let rising = json!([append(&json!(3)), append(&json!(4))]);
    let (status, problem) = answer(waiting(&rising)).await;
    assert_eq!(
        (status.as_u16(), problem["errors"].as_array().map(Vec::len)),
        (409, Some(2))
    );

    let stream = system.query_url("/api/v1/events/stream/cart:1");
    let (_, stream) = answer(client().get(&stream)).await;
    assert_eq!(
        (
            &stream["version"],
            stream["events"].as_array().unwrap().len()
        ),
        (&json!(4), 4)
    );
    // Seven, three and two records are dead letters with their bytes.
    let sql = "select count(*) from dead_letters where reason = 'version_conflict' and payload is not null";
    let kept: i64 = world.database.rows(sql, &[]).await.unwrap()[0].get(0);
    assert_eq!(kept, 12);

    // Time is up before the event is stored: it is stored all the same.
    if SHAPE == Shape::Split {
        system.processor().pause();
        let request = client().post(&create).header("prefer", "wait=1");
        let (status, body) = answer(request.json(&append(&json!(4)))).await;
        assert_eq!(
            (status.as_u16(), &body["status"]),
            (202, &json!("pending")),
            "{body}"
        );
        system.processor().resume();
        testkit::eventually_eq("stored events", 5, || world.database.count("event_ids")).await;
    }
    system.assert_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_wait_are_all_answered() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let system = world.system().start().await;
    let url = system.ingest_url("/api/events/batch?wait=stored");
    let mut clients = JoinSet::new();
    for number in 0..20 {
        let (url, http) = (url.clone(), client());
        clients.spawn(async move {
            for round in 1..=10_i64 {
                let event = || {
                    json!({"event_id": Uuid::now_v7(), "event_type": "step",
                        "aggregate_type": "own", "aggregate_id": number.to_string(),
                        "expected_version": 2 * (round - 1)})
                };
                let events = json!([event(), event()]);
                // On a machine that stands still for a moment a request may be sent again.
                let body = eventually("it is stored", PATIENCE, || async {
                    let answer = http.post(&url).json(&events).send().await;
                    let answer = answer.map_err(|error| error.to_string())?;
                    let status = answer.status();
                    assert_ne!(status, StatusCode::CONFLICT);
                    let text = answer.text().await.map_err(|error| error.to_string())?;
                    (status == StatusCode::CREATED)
                        .then_some(text)
                        .ok_or(status.to_string())
                })
                .await;
                let body: Value = serde_json::from_str(&body).unwrap();
                let versions = [0, 1].map(|n| body[n]["stream_version"].as_i64().unwrap());
                assert_eq!(versions, [2 * round - 1, 2 * round]);
            }
        });
    }
    clients.join_all().await;
}
