//! Subscribers get each event they asked for, whatever the others do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Receiver, Reply, eventually, eventually_eq};
use uuid::Uuid;

use crate::direct::{Record, produce};
use crate::sender::client;
use crate::system::System;
use crate::world::{BACKEND, PATIENCE, World, beside_others};

const EVENTS: usize = 300;
/// How long one endpoint is down.
const DOWN: Duration = Duration::from_secs(2);

/// An endpoint with its subscription; `done` has the ids that it answered 2xx to.
pub(crate) struct Endpoint {
    pub(crate) receiver: Receiver,
    id: String,
    pub(crate) done: Arc<Mutex<BTreeSet<Uuid>>>,
}

impl Endpoint {
    pub(crate) async fn subscribe(
        system: &System,
        name: &str,
        selector: Value,
        answers: impl Fn(usize, &str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let done = Arc::<Mutex<BTreeSet<Uuid>>>::default();
        let seen = Arc::clone(&done);
        let receiver = Receiver::start(move |n, request| {
            let id = request.header("webhook-id");
            let reply = answers(n, id);
            if let Reply::Status(200..=299, ..) = &reply {
                seen.lock().unwrap().insert(id.parse().unwrap());
            }
            reply
        })
        .await
        .unwrap();
        let mut body = selector;
        body["subscriber_name"] = name.into();
        body["callback_url"] = receiver.url().into();
        body["retry_policy"] = json!({"max_retries": 12, "backoff_seconds": [0, 1]});
        let made = ask(system, "POST", "", &body).await;
        assert_eq!(made.0, 201, "{}", made.1);
        let id = made.1["subscription_id"].as_str().unwrap().to_owned();
        Self { receiver, id, done }
    }

    pub(crate) async fn assert_gets(&self, name: &str, wanted: &BTreeSet<Uuid>) {
        eventually_eq(name, wanted.len(), || async {
            anyhow::Ok(self.done.lock().unwrap().len())
        })
        .await;
        assert_eq!(*self.done.lock().unwrap(), *wanted, "{name}");
    }
}

/// An endpoint that fails half the time, but never one message so often that it is given up.
pub(crate) fn half_the_time() -> impl Fn(usize, &str) -> Reply {
    const MOST: usize = 6;
    let failed = Mutex::<BTreeMap<String, usize>>::default();
    move |n, id| {
        let mut failed = failed.lock().unwrap();
        let failed = failed.entry(id.to_owned()).or_default();
        if !n.is_multiple_of(2) || *failed == MOST {
            return Reply::status(200);
        }
        *failed += 1;
        Reply::status(500)
    }
}

pub(crate) async fn ask(system: &System, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let url = system.query_url(&format!("/api/v1/events/subscriptions{path}"));
    let request = client().request(method.parse().unwrap(), url).json(body);
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_endpoint_gets_its_events_beside_bad_ones_and_a_killed_processor() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let mut system = world
        .system()
        .with_receivers()
        .env("WEBHOOK_TIMEOUT_SECONDS", 2)
        .start()
        .await;
    let event = |n: usize| {
        let kind = if n.is_multiple_of(2) {
            "order.placed"
        } else {
            "user.seen"
        };
        (
            Uuid::now_v7(),
            json!({"event_type": kind, "user_id": format!("u-{}", n % 5), "data": {"n": n}}),
        )
    };
    let record = |(id, body): &(Uuid, Value)| {
        let mut body = body.clone();
        body["event_id"] = id.to_string().into();
        Record::new(
            i32::try_from(id.as_u128() % 6).unwrap(),
            "k",
            body.to_string(),
        )
    };
    // Stored before anybody asked for it.
    produce(&world, BACKEND, &[record(&event(0))]).await;
    eventually_eq("stored events", 1, || world.database.count("event_ids")).await;

    let ok = |_: usize, _: &str| Reply::status(200);
    let orders = json!({"event_types": ["order.*"], "event_sources": ["backend"]});
    let good = Endpoint::subscribe(&system, "good", orders, ok).await;
    let few =
        json!({"filter": {"field": "data.n", "op": "lt", "value": 30}, "users": ["u-1", "u-2"]});
    let slow = Endpoint::subscribe(&system, "slow", few, |_, _| {
        Reply::Status(204, vec![], Duration::from_millis(400))
    })
    .await;
    let flaky = Endpoint::subscribe(&system, "flaky", json!({}), half_the_time()).await;
    let since = Mutex::new(None);
    let down = Endpoint::subscribe(&system, "down", json!({}), move |_, _| {
        let since = *since.lock().unwrap().get_or_insert_with(Instant::now);
        Reply::status(if since.elapsed() < DOWN { 503 } else { 200 })
    })
    .await;
    let met = Mutex::new(BTreeSet::new());
    let busy = Endpoint::subscribe(&system, "busy", json!({}), move |_, id| {
        if met.lock().unwrap().insert(id.to_owned()) {
            return Reply::Status(429, vec!["retry-after: 1".to_owned()], Duration::ZERO);
        }
        Reply::status(200)
    })
    .await;
    let silent = Endpoint::subscribe(&system, "silent", json!({}), |_, _| Reply::Silence).await;
    let gone = Endpoint::subscribe(&system, "gone", json!({}), |_, _| Reply::status(410)).await;

    let events: BTreeMap<Uuid, Value> = (0..EVENTS).map(event).collect();
    let records: Vec<Record> = events
        .iter()
        .map(|(id, body)| record(&(*id, body.clone())))
        .collect();
    let (first, second) = records.split_at(EVENTS / 2);
    produce(&world, BACKEND, first).await;
    // Not an event: stored nowhere, sent to nobody. And one that comes twice.
    let bad = Record::new(0, "k", r#"{"event_type": 7}"#.to_owned());
    produce(&world, BACKEND, &[bad]).await;
    produce(&world, BACKEND, &first[..1]).await;
    system.processor_mut().kill();
    produce(&world, BACKEND, second).await;
    system.processor_mut().restart().await;
    eventually("all events stored", PATIENCE, || async {
        let stored = world.database.count("event_ids").await?;
        if stored == EVENTS as i64 + 1 {
            Ok(())
        } else {
            Err(anyhow::anyhow!("{stored}"))
        }
    })
    .await;
    // What was under way when the process died is due once its lease has ended: now.
    let expired = "update work set due_at = now() where due_at > now() + interval '4 seconds'";
    world.database.rows(expired, &[]).await.unwrap();

    let chosen = |meant: &dyn Fn(&Value) -> bool| -> BTreeSet<Uuid> {
        let meant = events.iter().filter(|(_, event)| meant(event));
        meant.map(|(id, _)| *id).collect()
    };
    good.assert_gets(
        "good",
        &chosen(&|event| event["event_type"] == "order.placed"),
    )
    .await;
    let few = |event: &Value| {
        let user = event["user_id"].as_str().unwrap();
        event["data"]["n"].as_u64().unwrap() < 30 && ["u-1", "u-2"].contains(&user)
    };
    slow.assert_gets("slow", &chosen(&few)).await;
    let all = chosen(&|_| true);
    flaky.assert_gets("flaky", &all).await;
    busy.assert_gets("busy", &all).await;
    down.assert_gets("down", &all).await;

    let request = good.receiver.received()[0].clone();
    let body = request.json();
    assert_eq!(request.header("webhook-id"), body["event_id"]);
    assert!(request.header("webhook-signature").starts_with("v1,"));
    let sent = &events[&body["event_id"].as_str().unwrap().parse::<Uuid>().unwrap()];
    assert_eq!(
        (&body["data"], &body["event_type"]),
        (&sent["data"], &sent["event_type"])
    );
    assert_eq!(
        world
            .database
            .count("events where status = 'pending'")
            .await
            .unwrap(),
        0
    );

    let (_, gone) = ask(&system, "GET", &format!("/{}", gone.id), &json!({})).await;
    assert_eq!(
        (&gone["enabled"], &gone["disabled_reason"]),
        (&json!(false), &json!("gone"))
    );
    let (_, silent) = ask(&system, "GET", &format!("/{}", silent.id), &json!({})).await;
    assert!(silent["failing_since"].is_string(), "{silent}");

    log_and_resend(&system, &good, &flaky, all.iter().next().unwrap()).await;
    let (status, _) = ask(&system, "DELETE", &format!("/{}", good.id), &json!({})).await;
    assert_eq!(status, 200);
    let before = good.receiver.received().len();
    let more = event(0);
    produce(&world, BACKEND, &[record(&more)]).await;
    eventually_eq("flaky gets one more", true, || async {
        anyhow::Ok(flaky.done.lock().unwrap().contains(&more.0))
    })
    .await;
    assert_eq!(good.receiver.received().len(), before, "deleted");
    system.assert_well();
}

/// Whatever fails, the events of a stream arrive in the order of its versions.
#[tokio::test(flavor = "multi_thread")]
async fn an_ordered_subscription_gets_each_stream_in_its_order() {
    const STREAMS: usize = 5;
    const EACH: usize = 12;
    let _turn = beside_others().await;
    let world = World::shared().await;
    let mut system = world.system().with_receivers().start().await;
    let arrived = Arc::<Mutex<Vec<Uuid>>>::default();
    let (seen, met) = (Arc::clone(&arrived), Mutex::new(BTreeSet::new()));
    // The first attempt at every third event fails.
    let ordered = json!({"event_types": ["ordered.*"], "ordering": "stream"});
    let endpoint = Endpoint::subscribe(&system, "ordered", ordered, move |_, id| {
        let id: Uuid = id.parse().unwrap();
        if met.lock().unwrap().insert(id) && id.as_u128().is_multiple_of(3) {
            return Reply::status(500);
        }
        seen.lock().unwrap().push(id);
        Reply::status(200)
    })
    .await;
    let (_, shown) = ask(&system, "GET", &format!("/{}", endpoint.id), &json!({})).await;
    assert_eq!(shown["ordering"], "stream");

    let mut streams = vec![vec![]; STREAMS];
    let mut records = vec![];
    for n in 0..STREAMS * EACH {
        let (id, stream) = (Uuid::now_v7(), n % STREAMS);
        streams[stream].push(id);
        let body = json!({
            "event_id": id, "event_type": "ordered.step", "data": {"n": n},
            "aggregate_type": "order", "aggregate_id": format!("{stream}"),
        });
        let partition = i32::try_from(stream).unwrap();
        records.push(Record::new(partition, "k", body.to_string()));
    }
    produce(&world, BACKEND, &records).await;
    let all = streams.iter().flatten().copied().collect();
    endpoint.assert_gets("ordered", &all).await;
    let arrived = arrived.lock().unwrap().clone();
    for stream in &streams {
        let mut order: Vec<Uuid> = arrived
            .iter()
            .copied()
            .filter(|id| stream.contains(id))
            .collect();
        order.dedup();
        assert_eq!(order, *stream);
    }

    // Each is on the receipt of its event.
    let retried = streams
        .iter()
        .flatten()
        .find(|id| id.as_u128().is_multiple_of(3));
    let retried = retried.copied().unwrap_or(streams[0][0]);
    eventually("its deliveries are on the receipt", PATIENCE, || async {
        let url = system.query_url(&format!("/api/v1/events/{retried}/receipt"));
        let receipt: Value = client().get(url).send().await?.json().await?;
        let outcomes: Vec<&Value> = receipt["deliveries"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|one| &one["outcome"])
            .collect();
        match outcomes.first() {
            Some(outcome) if **outcome == "delivered" => Ok(()),
            _ => Err(anyhow::anyhow!("{receipt}")),
        }
    })
    .await;
    system.assert_well();
}

async fn log_and_resend(system: &System, good: &Endpoint, flaky: &Endpoint, event: &Uuid) {
    let (_, log) = ask(
        system,
        "GET",
        &format!("/{}/deliveries?limit=1000", flaky.id),
        &json!({}),
    )
    .await;
    let lines = log["deliveries"].as_array().unwrap();
    let retried = lines
        .iter()
        .find(|line| line["outcome"] == "retry")
        .unwrap();
    assert_eq!(
        (&retried["status"], &retried["error"]),
        (&json!(500), &json!("the endpoint answered 500"))
    );
    assert!(retried["next_attempt_at"].is_string() && retried["duration_ms"].is_u64());
    let delivered = lines
        .iter()
        .find(|line| line["outcome"] == "delivered")
        .unwrap();
    assert_eq!(
        (&delivered["error"], &delivered["next_attempt_at"]),
        (&json!(null), &json!(null))
    );
    let (_, failed) = ask(
        system,
        "GET",
        &format!("/{}/deliveries?outcome=failed", flaky.id),
        &json!({}),
    )
    .await;
    assert_eq!(failed["deliveries"], json!([]));
    let url = system.query_url(&format!("/api/v1/events/{event}/deliveries"));
    let of_event: Value = client()
        .get(url)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let to: BTreeSet<&str> = of_event["deliveries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line["subscription_id"].as_str().unwrap())
        .collect();
    assert!(to.contains(flaky.id.as_str()), "{of_event}");

    // Once more, with the same id.
    let before = good.receiver.received().len();
    let path = format!("/{}/deliveries/{event}/resend", good.id);
    assert_eq!(
        ask(system, "POST", &path, &json!({})).await,
        (202, json!({"resent": 1}))
    );
    eventually_eq("one more", before + 1, || async {
        anyhow::Ok(good.receiver.received().len())
    })
    .await;
    let again = good.receiver.received().pop().unwrap();
    assert_eq!(again.header("webhook-id"), event.to_string());
    let unknown = format!("/{}/deliveries/{}/resend", good.id, Uuid::now_v7());
    assert_eq!(ask(system, "POST", &unknown, &json!({})).await.0, 404);
    let since = json!({"since": "2026-01-01T00:00:00Z"});
    let none = ask(system, "POST", &format!("/{}/resend", flaky.id), &since).await;
    assert_eq!(none, (202, json!({"resent": 0})));
}
