//! What the dry run of a replay tells is what the run then does: for each selection, and for each target.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use testkit::{SseStream, eventually, eventually_eq};
use uuid::Uuid;

use crate::SHAPE;
use crate::attack::{Guarded, key};
use crate::world::{PATIENCE, Shape, World, beside_others};

const PATH: &str = "/api/v1/events";
/// Beside no projection named, these three are the targets.
const SERVICE: &str = "billing";

struct Client<'a> {
    guarded: &'a Guarded,
    key: String,
}

impl Client<'_> {
    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = reqwest::Client::new().post(self.guarded.query().url(path));
        let answer = request.bearer_auth(&self.key).json(body).send().await;
        let answer = answer.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or_default())
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.guarded.get(path, &self.key).send().await.unwrap();
        answer.json().await.unwrap()
    }

    async fn stream(&self, user: &str) -> SseStream {
        let ticket = json!({"user_id": user});
        let (_, ticket) = self.post("/api/v1/sse/tickets", &ticket).await;
        let url = self.guarded.query().url(ticket["url"].as_str().unwrap());
        let mut stream = SseStream::open(&url, None).await.unwrap();
        stream.wait_cursor().await.unwrap();
        stream
    }

    /// Begins a replay, and waits until it has ended.
    async fn replayed(&self, asked: &Value) -> Value {
        let (status, begun) = self.post(&format!("{PATH}/replay"), asked).await;
        assert_eq!(status, 202, "{asked} {begun}");
        let id = begun["replay_id"].as_str().unwrap();
        eventually("it is completed", PATIENCE, || async {
            let now = self.get(&format!("{PATH}/replays/{id}")).await;
            if now["status"] == "completed" {
                Ok(now)
            } else {
                Err(now)
            }
        })
        .await
    }

    /// What it would do.
    async fn predicted(&self, asked: &Value) -> Value {
        let mut dry = asked.clone();
        dry["dry_run"] = true.into();
        let (status, told) = self.post(&format!("{PATH}/replay"), &dry).await;
        assert_eq!(status, 200, "{dry} {told}");
        told
    }
}

fn event(n: usize, event_type: &str, order: Option<&str>) -> Value {
    // The times of a stream do not follow its order.
    let second = (n * 7) % 60;
    json!({"event_id": Uuid::now_v7(), "event_type": event_type, "user_id": "u",
        "aggregate_type": order.map(|_| "order"), "aggregate_id": order, "data": {"n": n},
        "timestamp": format!("2026-11-20T10:00:{second:02}Z")})
}

fn ids(events: &Value) -> Vec<String> {
    let id = |event: &Value| event["event_id"].as_str().unwrap().to_owned();
    events.as_array().unwrap().iter().map(id).collect()
}

fn with(asked: &Value, more: &Value) -> Value {
    let mut all = asked.clone();
    let more = more.as_object().unwrap().clone();
    all.as_object_mut().unwrap().extend(more);
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_what_the_run_does_for_each_selection_and_target() {
    let _turn = beside_others().await;
    let guarded = Guarded::start(World::shared().await).await;
    let acme = Client {
        guarded: &guarded,
        key: key("secret", "a"),
    };
    let mut listener = acme.stream("u").await;
    let events = [
        event(1, "step", Some("1")),
        event(2, "step", Some("2")),
        event(3, "step", Some("1")),
        event(4, "seen", None),
        event(5, "done", Some("1")),
        event(6, "step", Some("2")),
        event(7, "seen", None),
    ];
    // Another tenant has the same.
    for letter in ["a", "x"] {
        for event in &events {
            let sent = guarded.send(&key("secret", letter), event).await;
            assert_eq!(sent.status(), 201);
        }
    }
    let database = &guarded.world.database;
    eventually_eq("stored events", 14, || database.count("event_ids")).await;
    // What is new does not say that it is replayed.
    let first = listener.next().await.unwrap().unwrap();
    for n in 0..events.len() {
        let heard = match n {
            0 => first.clone(),
            _ => listener.next().await.unwrap().unwrap(),
        };
        assert!(!heard.data.contains("replayed"), "{heard:?}");
    }
    let cursor = listener.last_event_id().unwrap().to_owned();
    for entity_type in ["order", "user"] {
        let definition = json!({"name": format!("of-{entity_type}"), "entity_type": entity_type,
            "fold": [{"rule": "merge"}, {"rule": "count"}]});
        let (status, body) = acme.post(&format!("{PATH}/projections"), &definition).await;
        assert_eq!(status, 201, "{body}");
    }
    let live = "projection_definitions where state = 'live'";
    eventually_eq("live projections", 2, || database.count(live)).await;

    let id = |n: usize| events[n - 1]["event_id"].clone();
    let never = Uuid::now_v7();
    let selections = [
        (json!({"event_ids": [id(6), never, id(1), id(7)]}), 3),
        (json!({"stream_id": "order:1"}), 3),
        (json!({"stream_id": "order:1", "event_type": "step"}), 2),
        (json!({"stream_id": "user:u"}), 2),
        (
            json!({"start_time": "2026-11-20T10:00:10Z", "end_time": "2026-11-20T10:00:35Z"}),
            4,
        ),
        (
            json!({"start_time": "2026-11-20", "end_time": "2026-11-21", "event_type": "seen"}),
            2,
        ),
        (json!({"event_type": "step"}), 4),
    ];
    for (n, (selection, count)) in selections.iter().enumerate() {
        let told = states(&acme, database, selection).await;
        assert_eq!(told["events_count"], *count, "{selection}");
        let expected = ids(&told["events"]);
        assert_eq!(expected.len(), *count, "{selection}");
        processors(&acme, database, selection, &format!("p{n}"), &expected).await;
        listeners(&acme, &mut listener, selection, &expected).await;
        if SHAPE == Shape::Split {
            service(&acme, selection, &expected).await;
        }
    }

    // History, counts and channels are as they were, for both.
    assert_eq!(database.count("event_ids").await.unwrap(), 14);
    let counted = "select sum(count)::int8 from aggregated_events";
    assert_eq!(database.scalar::<i64>(counted, &[]).await.unwrap(), 14);
    let of_other = "processing_results where tenant_id <> 'acme'";
    assert_eq!(database.count(of_other).await.unwrap(), 0);
    assert_eq!(listener.last_event_id(), Some(cursor.as_str()));
    let sent = guarded.send(&acme.key, &event(8, "last", None)).await;
    assert_eq!(sent.status(), 201);
    let heard = listener.next().await.unwrap().unwrap();
    let data: Value = serde_json::from_str(&heard.data).unwrap();
    assert_eq!(
        (&data["payload"], &data["replayed"]),
        (&json!({"n": 8}), &Value::Null)
    );
}

/// All states are spoilt: those that are told are as told afterwards, all others stay as they are.
async fn states(acme: &Client<'_>, database: &testkit::Database, selection: &Value) -> Value {
    let spoil = "update event_projections set state = '{\"spoilt\": true}'";
    database.rows(spoil, &[]).await.unwrap();
    let told = acme.predicted(selection).await;
    let done = acme.replayed(selection).await;
    assert_eq!(
        (&done["replayed"], &done["failed"]),
        (&told["events_count"], &json!(0)),
        "{selection}"
    );
    let changes = told["projections"].as_array().unwrap();
    assert!(!changes.is_empty(), "{selection}");
    for change in changes {
        let text = |name: &str| change[name].as_str().unwrap();
        let (kind, entity) = (text("entity_type"), text("entity_id"));
        let now = acme
            .get(&format!("{PATH}/projections/{kind}/{entity}"))
            .await;
        assert_eq!(change["changes"], true, "{change}");
        assert_eq!(change["before"]["state"], json!({"spoilt": true}));
        assert_eq!(change["after"]["state"], now["state"], "{selection}");
        assert_eq!(change["after"]["version"], now["version"], "{selection}");
    }
    let spoilt = "event_projections where state = '{\"spoilt\": true}'";
    let left = 3 - i64::try_from(changes.len()).unwrap();
    assert_eq!(database.count(spoilt).await.unwrap(), left, "{selection}");
    told
}

/// One whose filters take nothing runs with exactly those that were told.
async fn processors(
    acme: &Client<'_>,
    database: &testkit::Database,
    selection: &Value,
    name: &str,
    expected: &[String],
) {
    let processor = json!({"processor_name": name, "processor_type": "log",
        "filters": {"event_types": ["never"]}});
    let (status, body) = acme.post(&format!("{PATH}/processors"), &processor).await;
    assert_eq!(status, 201, "{body}");
    let asked = with(selection, &json!({"processors": [name]}));
    let told = acme.predicted(&asked).await;
    assert_eq!(
        (&told["processors"], ids(&told["events"])),
        (&json!([name]), expected.to_vec())
    );
    acme.replayed(&asked).await;
    let expected: BTreeSet<String> = expected.iter().cloned().collect();
    let ran = "select event_id::text from processing_results where processor_name = $1 \
        and status = 'success' and attempts = 1";
    eventually_eq("events that it ran with", expected, || async {
        let rows = database.rows(ran, &[&name]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    })
    .await;
}

/// Who listens gets exactly those that were told, in their order, and can tell that they are replayed.
async fn listeners(
    acme: &Client<'_>,
    listener: &mut SseStream,
    selection: &Value,
    expected: &[String],
) {
    let asked = with(selection, &json!({"live": true}));
    let told = acme.predicted(&asked).await;
    assert_eq!(
        (&told["live"], &told["projections"], ids(&told["events"])),
        (&json!(["u"]), &json!([]), expected.to_vec())
    );
    let done = acme.replayed(&asked).await;
    assert_eq!(done["replayed"], told["events_count"]);
    for id in expected {
        let heard = listener.next().await.unwrap().unwrap();
        let data: Value = serde_json::from_str(&heard.data).unwrap();
        assert_eq!(
            (&data["event_id"], &data["replayed"], &data["replay_id"]),
            (&json!(id), &json!(true), &done["replay_id"]),
            "{selection}"
        );
        assert_eq!(data["event_type"], heard.event);
    }
}

/// The topic of the service gets exactly those that were told, each key in its order.
async fn service(acme: &Client<'_>, selection: &Value, expected: &[String]) {
    let asked = with(selection, &json!({"target_service": SERVICE}));
    let told = acme.predicted(&asked).await;
    assert_eq!(told["topic"], format!("replay.{SERVICE}"));
    let done = acme.replayed(&asked).await;
    let world = &acme.guarded.world;
    let topic = world.topic(&format!("replay.{SERVICE}"));
    let (mut streams, mut of_key) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::new());
    for record in world.kcat.consume(&topic).await.unwrap() {
        let replay = record.headers.iter().find(|(name, _)| name == "replay-id");
        if replay.map(|(_, id)| json!(id)) == Some(done["replay_id"].clone()) {
            let event: Value = serde_json::from_str(record.payload.as_deref().unwrap()).unwrap();
            let id = event["event_id"].as_str().unwrap().to_owned();
            of_key.insert(id.clone(), record.key.clone());
            streams.entry(record.key).or_default().push(id);
        }
    }
    assert_eq!(of_key.len(), expected.len(), "{selection}");
    for (key, seen) in streams {
        let wanted = expected.iter().filter(|id| of_key.get(*id) == Some(&key));
        assert_eq!(seen, wanted.cloned().collect::<Vec<_>>(), "{selection}");
    }
}
