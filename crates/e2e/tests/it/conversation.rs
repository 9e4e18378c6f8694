//! A conversation as a client has it: create, read back, ask, count, try again.

use std::collections::BTreeSet;

use reqwest::RequestBuilder;
use serde_json::{Value, json};
use testkit::{event, eventually_eq};
use uuid::Uuid;

use crate::ledger::{assert_counts, everything_on_the_log, wait_worked_off};
use crate::system::System;
use crate::world::{World, beside_others};

/// All three services, and someone who talks to them.
pub(crate) struct Conversation {
    pub(crate) world: World,
    system: System,
    http: reqwest::Client,
}

impl Conversation {
    pub(crate) async fn begin() -> Self {
        let world = World::shared().await;
        Self {
            system: world.system().start().await,
            http: crate::sender::client(),
            world,
        }
    }

    pub(crate) fn to_ingest(&self, path: &str) -> RequestBuilder {
        self.http.post(self.system.ingest_url(path))
    }

    pub(crate) async fn send(&self, path: &str, body: &Value) -> (u16, Value) {
        answer(self.to_ingest(path).json(body)).await
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.http.get(self.system.query_url(path))).await
    }

    pub(crate) async fn ask(&self, filter: &Value) -> (u16, Value) {
        answer(
            self.http
                .post(self.system.query_url("/api/v1/events/query"))
                .json(filter),
        )
        .await
    }

    pub(crate) async fn wait_stored(&self, count: i64) {
        eventually_eq("stored events", count, || {
            self.world.database.count("event_ids")
        })
        .await;
    }
}

pub(crate) async fn answer(request: RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (
        status,
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")),
    )
}

fn ids(events: &Value) -> BTreeSet<Uuid> {
    let events = events.as_array().unwrap();
    let ids: BTreeSet<Uuid> = events
        .iter()
        .map(|event| event["event_id"].as_str().unwrap().parse().unwrap())
        .collect();
    assert_eq!(ids.len(), events.len(), "an event is listed twice");
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_created_is_read_back() {
    let _turn = beside_others().await;
    let talk = Conversation::begin().await;

    let sent = event::backend("order.created")
        .set("event_category", "order")
        .set(
            "data",
            json!({"total": 12.50, "big": 9_007_199_254_740_993_u64, "name": "Jürgen 🎈"}),
        )
        .set("metadata", json!({"ip_address": "203.0.113.7"}))
        .set("context", json!({"request_id": "r-1"}))
        .set("session_id", "session-7")
        .set("correlation_id", "c-1")
        .set("timestamp", "2024-01-01T12:00:00")
        .json();
    let (status, created) = talk.send("/api/v1/events/create", &sent).await;
    assert_eq!(
        (status, &created["status"]),
        (201, &json!("pending")),
        "{created}"
    );
    talk.wait_stored(1).await;
    let id = created["event_id"].as_str().unwrap();
    let (status, read) = talk.get(&format!("/api/v1/events/{id}")).await;
    assert_eq!(status, 200, "{read}");
    for field in [
        "event_type",
        "event_source",
        "event_category",
        "user_id",
        "data",
        "metadata",
        "session_id",
        "correlation_id",
    ] {
        assert_eq!(read[field], sent[field], "{field}");
        if created.get(field).is_some() {
            assert_eq!(created[field], sent[field], "{field} of the answer");
        }
    }
    assert_eq!(read["context"]["request_id"], "r-1");
    assert_eq!(read["timestamp"], "2024-01-01T12:00:00Z");
    assert_eq!(read["timestamp"], created["timestamp"]);
    assert_eq!(read["status"], "processed");

    // An id that is no UUID is kept, and reads as well as what it stands for.
    let own = event::backend("order.paid")
        .set("event_id", "evt_abc123")
        .json();
    let (status, created) = talk.send("/api/events/create", &own).await;
    assert_eq!(status, 201, "{created}");
    talk.wait_stored(2).await;
    let id: Uuid = created["event_id"].as_str().unwrap().parse().unwrap();
    let (_, by_own) = talk.get("/api/v1/events/evt_abc123").await;
    let (_, by_uuid) = talk.get(&format!("/api/v1/events/{id}")).await;
    assert_eq!(by_own, by_uuid);
    assert_eq!(by_own["client_event_id"], "evt_abc123");

    let (status, missing) = talk.get("/api/v1/events/evt_other").await;
    assert_eq!(
        (status, &missing["detail"]),
        (404, &json!("Event not found: evt_other"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_for_is_found_and_counted() {
    let _turn = beside_others().await;
    let talk = Conversation::begin().await;
    let batch = |user: &str, event_type: &str, category: &str, count: usize| {
        let one = event::backend(event_type)
            .set("user_id", user)
            .set("event_category", category);
        event::backend_batch((0..count).map(|_| one.clone()))
    };
    let mut sent = Vec::new();
    for (user, event_type, category, count) in [
        ("ann", "order.created", "order", 7),
        ("ann", "page.view", "page_view", 5),
        ("bob", "order.created", "order", 4),
    ] {
        let (status, created) = talk
            .send(
                "/api/v1/events/batch",
                &batch(user, event_type, category, count),
            )
            .await;
        assert_eq!(status, 201, "{created}");
        sent.push(ids(&created));
    }
    let page = event::frontend("button_click", "user_interaction").set("user_id", "ann");
    let body = event::frontend_batch([page.clone(), page]);
    let (status, collected) = talk.send("/api/frontend/events/batch", &body).await;
    assert_eq!(
        (status, &collected["processed_count"]),
        (200, &json!(2)),
        "{collected}"
    );
    talk.wait_stored(18).await;

    for (filter, expected) in [
        (json!({}), 18),
        (json!({"user_id": "ann"}), 14),
        (json!({"event_type": "order.created"}), 11),
        (json!({"user_id": "ann", "event_type": "order.created"}), 7),
        (json!({"event_source": "frontend"}), 2),
        (json!({"event_category": "page_view"}), 5),
        (json!({"status": "processed"}), 18),
        (json!({"status": "failed"}), 0),
        (json!({"start_time": "2999-01-01T00:00:00Z"}), 0),
        (
            json!({"end_time": "2999-01-01T00:00:00Z", "user_id": "bob"}),
            4,
        ),
        (json!({"data": {"button": "buy"}}), 2),
    ] {
        let (status, list) = talk.ask(&filter).await;
        assert_eq!(status, 200, "{filter}: {list}");
        assert_eq!(list["total"], expected, "{filter}");
        assert_eq!(ids(&list["events"]).len(), expected, "{filter}");
        assert_eq!(list["has_more"], false, "{filter}");
    }
    let (_, list) = talk.ask(&json!({"user_id": "bob"})).await;
    assert_eq!(ids(&list["events"]), sent[2]);

    // Pages by offset and by cursor hold the same events.
    let mut filter = json!({"limit": 5, "user_id": "ann"});
    let mut by_cursor = BTreeSet::new();
    let mut by_offset = BTreeSet::new();
    for offset in [0, 5, 10] {
        let (_, list) = talk.ask(&filter).await;
        by_cursor.extend(ids(&list["events"]));
        filter["cursor"] = list["next_cursor"].clone();
        let (_, list) = talk
            .ask(&json!({"limit": 5, "user_id": "ann", "offset": offset}))
            .await;
        assert_eq!(
            (&list["total"], &list["has_more"]),
            (&json!(14), &json!(offset < 10))
        );
        by_offset.extend(ids(&list["events"]));
    }
    assert_eq!(filter["cursor"], Value::Null);
    assert_eq!(by_cursor.len(), 14);
    assert_eq!(by_cursor, by_offset);

    // The user's history in both forms.
    let (status, history) = talk.get("/api/events/user/bob").await;
    assert_eq!(status, 200, "{history}");
    assert_eq!(history.as_array().unwrap().len(), 4);
    assert_eq!(history[0]["event_type"], "order.created");
    assert!(history[0]["timestamp"].is_string() && history[0]["metadata"].is_object());
    let (_, full) = talk.get("/api/v1/events/user/bob?format=full").await;
    assert_eq!(ids(&full["events"]), sent[2]);

    // The statistics add up to the same, under both names.
    let (status, stats) = talk.get("/api/v1/events/stats").await;
    assert_eq!(status, 200, "{stats}");
    assert_eq!(
        (&stats["total_events"], &stats["processed_events"]),
        (&json!(18), &json!(18))
    );
    assert_eq!(stats["processing_rate"], 100.0);
    assert_eq!(
        stats["events_by_type"],
        json!({"order.created": 11, "page.view": 5, "button_click": 2})
    );
    let by_day = stats["events_by_day"].as_array().unwrap();
    assert_eq!(
        by_day
            .iter()
            .map(|day| day["count"].as_i64().unwrap())
            .sum::<i64>(),
        18
    );
    let (_, mut same) = talk.get("/api/v1/events/statistics").await;
    same["calculated_at"] = stats["calculated_at"].clone();
    assert_eq!(same, stats);
}

#[tokio::test(flavor = "multi_thread")]
async fn trying_again_stores_once_and_a_partial_batch_its_good_part() {
    let _turn = beside_others().await;
    let talk = Conversation::begin().await;

    // The same key gives the same ids, for one event and for a batch.
    let one = event::backend("retried").json();
    let batch = event::backend_batch([event::backend("retried"), event::backend("retried")]);
    for (path, body, key) in [
        ("/api/v1/events", &one, "key-1"),
        ("/api/v1/events/batch", &batch, "key-2"),
    ] {
        let mut answers = Vec::new();
        for _ in 0..3 {
            let request = talk
                .to_ingest(path)
                .header("Idempotency-Key", key)
                .json(body);
            let (status, answer) = answer(request).await;
            assert!((200..300).contains(&status), "{answer}");
            answers.push(match &answer {
                Value::Array(_) => ids(&answer),
                _ => ids(&json!([answer])),
            });
        }
        assert!(
            answers.windows(2).all(|pair| pair[0] == pair[1]),
            "{answers:?}"
        );
    }
    // Without a key, the event's own id does it.
    let own = event::backend("retried").with_fresh_id().json();
    for _ in 0..3 {
        assert_eq!(talk.send("/api/events", &own).await.0, 202);
    }

    // One bad element refuses the batch, unless the good part is wanted.
    let bad = json!([
        event::backend("good").json(),
        event::backend("bad").set("user_id", 7).json(),
        event::backend("good").json(),
    ]);
    let (status, refused) = talk.send("/api/v1/events/batch", &bad).await;
    assert_eq!(status, 422, "{refused}");
    assert!(refused.to_string().contains("[1].user_id"), "{refused}");
    let (status, partial) = talk.send("/api/v1/events/batch?partial=true", &bad).await;
    assert_eq!(status, 201, "{partial}");
    assert_eq!(
        (&partial["accepted"], &partial["rejected"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(partial["errors"][0]["index"], 1);

    talk.wait_stored(6).await;
    let kept = ids(&partial["events"]);
    let (_, list) = talk.ask(&json!({"event_type": "good"})).await;
    assert_eq!(ids(&list["events"]), kept);
    wait_worked_off(&talk.world, &everything_on_the_log(&talk.world).await).await;
    assert_counts(&talk.world, 6).await;
    assert_eq!(talk.world.database.count("dead_letters").await.unwrap(), 0);
}
