//! Projections: folded as events are stored, rebuilt from the history to the same state, whatever dies.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::{eventually, eventually_eq};
use uuid::Uuid;

use crate::SHAPE;
use crate::sender::client;
use crate::system::System;
use crate::world::{ANNOUNCEMENTS, PATIENCE, Shape, World, beside_others};

const ORDERS: usize = 300;
const PATH: &str = "/api/v1/events/projections";

/// Asks until there is an answer that is no outage.
pub(crate) async fn ask(method: Method, url: &str, body: &Value) -> (StatusCode, Value) {
    eventually("an answer", PATIENCE, || async {
        let request = client().request(method.clone(), url).json(body);
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let status = answer.status();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            return Err(status.to_string());
        }
        let text = answer.text().await.map_err(|error| error.to_string())?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
    })
    .await
}

pub(crate) async fn get(system: &System, path: &str) -> (StatusCode, Value) {
    ask(Method::GET, &system.query_url(path), &Value::Null).await
}

pub(crate) async fn define(system: &System, definition: Value) {
    let (status, body) = ask(Method::POST, &system.query_url(PATH), &definition).await;
    assert_eq!(status, 201, "{body}");
    assert_eq!(body["state"], "building");
    live(system, definition["name"].as_str().unwrap(), 1).await;
}

/// Waits until that version of a projection is live and nothing is built beside it.
async fn live(system: &System, name: &str, version: i64) {
    eventually("it is live", PATIENCE, || async {
        let (_, body) = get(system, &format!("{PATH}?name={name}")).await;
        let is = |n: usize, key: &str| body["definitions"][n][key].clone();
        let only = body["definitions"].as_array().map(Vec::len) == Some(1);
        if only && is(0, "state") == "live" && is(0, "version") == version {
            Ok(())
        } else {
            Err(body)
        }
    })
    .await;
}

pub(crate) async fn send(system: &System, events: &[Value]) {
    for events in events.chunks(100) {
        let url = system.ingest_url("/api/events/batch");
        let (status, body) = ask(Method::POST, &url, &json!(events)).await;
        assert_eq!(status, 201, "{body}");
    }
}

/// The n-th event of an order, or of a user, whose events come out of their order in time.
fn event(n: usize) -> Value {
    let id = Uuid::now_v7();
    let (order, round) = (n % ORDERS, n / ORDERS);
    // One in a hundred cannot be added up.
    let total = if n % 97 == 5 {
        json!("much")
    } else {
        json!(round as f64 + 0.1)
    };
    let data = json!({"total": total, "tag": format!("t{}", n % 7), "n": n});
    if n.is_multiple_of(5) {
        let second = (n * 37) % 60;
        json!({"event_id": id, "event_type": format!("user.did{}", n % 3), "data": data,
            "user_id": format!("u{}", order % 20), "timestamp": format!("2026-11-20T10:00:{second:02}Z")})
    } else {
        json!({"event_id": id, "event_type": "order.paid", "data": data,
            "aggregate_type": "order", "aggregate_id": order.to_string()})
    }
}

fn definitions() -> Vec<Value> {
    let sums = json!([{"rule": "count"}, {"rule": "sum", "field": "total"},
        {"rule": "set", "field": "tag"}, {"rule": "last", "count": 3}]);
    ["live", "rebuilt"]
        .iter()
        .flat_map(|name| {
            [
                json!({"name": format!("orders-{name}"), "entity_type": "order",
                    "event_types": ["order.*"], "fold": sums}),
                json!({"name": format!("users-{name}"), "entity_type": "user"}),
            ]
        })
        .collect()
}

/// The entities whose state differs between the one that was folded live and the one rebuilt, or which
/// only one of them has.
const DIFFERENT: &str = "select count(*) from \
    (select p.* from event_projections p join projection_definitions d on d.id = p.definition \
        where d.state = 'live' and d.name = $1 || '-live') a \
    full join (select p.* from event_projections p join projection_definitions d \
        on d.id = p.definition where d.state = 'live' and d.name = $1 || '-rebuilt') b \
    using (entity_id) where (a.state, a.version, a.last_event_id, a.error_event_id) \
        is distinct from (b.state, b.version, b.last_event_id, b.error_event_id) or a.late or b.late";

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuilt_projection_equals_the_live_one_while_events_come_and_the_processor_dies() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let mut system = world.system().start().await;
    for definition in definitions() {
        define(&system, definition).await;
    }
    let first: Vec<Value> = (0..4 * ORDERS).map(event).collect();
    send(&system, &first).await;

    // Events keep coming from here on.
    let (stop, sent) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(first.len())),
    );
    let url = system.ingest_url("/api/events/batch");
    let producer = tokio::spawn({
        let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
        async move {
            while !stop.load(Ordering::Relaxed) {
                let from = sent.load(Ordering::Relaxed);
                let events: Vec<Value> = (from..from + 20).map(event).collect();
                let (status, body) = ask(Method::POST, &url, &json!(events)).await;
                assert_eq!(status, 201, "{body}");
                sent.fetch_add(events.len(), Ordering::Relaxed);
            }
        }
    });
    for name in ["orders", "users"] {
        let url = system.query_url(&format!("{PATH}/{name}-rebuilt/rebuild"));
        let (status, body) = ask(Method::POST, &url, &Value::Null).await;
        assert_eq!(
            (status.as_u16(), &body["version"]),
            (202, &json!(2)),
            "{body}"
        );
    }
    let building = "select entities from projection_definitions where state = 'building' \
        and name = 'orders-rebuilt'";
    eventually("it is in the middle", PATIENCE, || async {
        let rows = world.database.rows(building, &[]).await.unwrap();
        let read = rows.first().map(|row| row.get::<_, i64>(0));
        assert!(read.is_some(), "it was built before it was killed");
        read.filter(|read| *read > 0).ok_or(read)
    })
    .await;
    system.processor_mut().kill();
    system.processor_mut().restart().await;
    for name in ["orders", "users"] {
        live(&system, &format!("{name}-rebuilt"), 2).await;
    }
    stop.store(true, Ordering::Relaxed);
    producer.await.unwrap();
    let sent = i64::try_from(sent.load(Ordering::Relaxed)).unwrap();
    eventually_eq("stored events", sent, || world.database.count("event_ids")).await;
    for name in ["orders", "users"] {
        eventually_eq("different states", 0, || async {
            let rows = world.database.rows(DIFFERENT, &[&name]).await?;
            Ok(rows[0].get::<_, i64>(0))
        })
        .await;
    }

    // And what they say is true: told by SQL from the events.
    let sums = "select count(*) from (select aggregate_id as entity_id, count(*) as n, \
            round(sum((data->>'total')::numeric), 6) as total from events \
            where aggregate_type = 'order' and jsonb_typeof(data->'total') = 'number' group by 1) e \
        full join (select p.* from event_projections p join projection_definitions d \
            on d.id = p.definition where d.name = 'orders-rebuilt' and d.state = 'live') p \
        using (entity_id) where (p.version, (p.state->>'count')::int8, (p.state->>'sum')::numeric) \
            is distinct from (e.n, e.n, e.total)";
    let wrong: i64 = world.database.scalar(sums, &[]).await.unwrap();
    assert_eq!(wrong, 0);
    let last = "select count(*) from (select distinct on (user_id, event_type) user_id, event_type, data \
            from events where user_id is not null order by 1, 2, timestamp desc, event_id desc) e \
        left join (select p.* from event_projections p join projection_definitions d \
            on d.id = p.definition where d.name = 'users-rebuilt' and d.state = 'live') p \
        on p.entity_id = e.user_id where p.state->e.event_type is distinct from e.data";
    let wrong: i64 = world.database.scalar(last, &[]).await.unwrap();
    assert_eq!(wrong, 0);
    system.assert_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_defined_is_folded_read_changed_and_deleted() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let mut system = world.system().start().await;
    let paid = |order: &str, total: Value| {
        json!({"event_id": Uuid::now_v7(), "event_type": "order.paid", "aggregate_type": "order",
            "aggregate_id": order, "data": {"total": total, "by": {"card": order != "7"}}})
    };
    // Before there is a projection.
    let before = [paid("7", json!(1.1)), paid("8", json!(5))];
    send(&system, &before).await;
    eventually_eq("stored events", 2, || world.database.count("event_ids")).await;
    let totals = json!({"name": "totals", "entity_type": "order", "event_types": ["order.*"],
        "fold": {"rule": "sum", "field": "total"}});
    define(&system, totals.clone()).await;
    let (status, _) = ask(Method::POST, &system.query_url(PATH), &totals).await;
    assert_eq!(status, 409);

    // Text is no number: it is stored, and named on the projection; the next one is folded.
    let wrong = paid("7", json!("much"));
    let after = [paid("7", json!(2.2)), paid("8", json!(1))];
    send(
        &system,
        &[std::slice::from_ref(&wrong), &after[..]].concat(),
    )
    .await;
    let of = async |order: &str| {
        get(&system, &format!("{PATH}/order/{order}?name=totals"))
            .await
            .1
    };
    eventually("it is folded", PATIENCE, || async {
        let seven = of("7").await;
        if seven["version"] == 2 {
            Ok(())
        } else {
            Err(seven)
        }
    })
    .await;
    let seven = of("7").await;
    assert_eq!(seven["state"], json!({"sum": 3.3}));
    assert_eq!(seven["error"], "data.total is no number");
    assert_eq!(seven["error_event_id"], wrong["event_id"]);
    let eight = of("8").await;
    assert_eq!(
        (&eight["state"], &eight["error"]),
        (&json!({"sum": 6}), &Value::Null)
    );
    assert_eq!(
        (&eight["entity_type"], &eight["projection_name"]),
        (&json!("order"), &json!("totals"))
    );
    eventually_eq("stored events", 5, || world.database.count("event_ids")).await;

    // The receipt of each event says after which version of the state it stands.
    for (event, status, version, current) in [
        (&before[0], "folded", json!(1), 2),
        (&wrong, "failed", Value::Null, 2),
        (&after[0], "folded", json!(2), 2),
        (&before[1], "folded", json!(1), 2),
        (&after[1], "folded", json!(2), 2),
    ] {
        let id = event["event_id"].as_str().unwrap();
        let (_, receipt) = get(&system, &format!("/api/v1/events/{id}/receipt")).await;
        let error = (status == "failed").then_some("data.total is no number");
        let told = json!([{"projection_name": "totals", "definition_version": 1,
            "entity_type": "order", "entity_id": event["aggregate_id"], "status": status,
            "version": version, "current_version": current, "error": error}]);
        assert_eq!(receipt["projections"], told, "{event}");
    }

    // By a value of the state, by pages, and what is not there.
    let ids = async |query: &str| {
        let (status, body) = get(&system, &format!("{PATH}/order?{query}")).await;
        assert_eq!(status, 200, "{body}");
        let all = body["projections"].as_array().unwrap().iter();
        all.map(|one| one["entity_id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids("field=sum&value=6").await, ["8"]);
    assert_eq!(ids("name=totals&limit=1").await, ["7"]);
    assert_eq!(ids("name=totals&limit=1&after=7").await, ["8"]);
    for (path, want) in [
        ("/order/9", 404),
        ("/parcel/7", 404),
        ("/order/7?name=none", 404),
        ("/order?field=sum", 422),
        ("/order/rebuild", 404),
    ] {
        let (status, body) = get(&system, &format!("{PATH}{path}")).await;
        assert_eq!(status, want, "{path} {body}");
    }
    for (change, path) in [
        (json!({"fold": {"rule": "sum"}}), "fold.field"),
        (json!({"fold": {"rule": "fold"}}), "fold.rule"),
        (json!({"event_types": [""]}), "event_types[0]"),
        (json!({"entity_type": null}), "entity_type"),
    ] {
        let mut bad = totals.clone();
        bad.as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        let (status, body) = ask(Method::POST, &system.query_url(PATH), &bad).await;
        assert_eq!(
            (status.as_u16(), &body["errors"][0]["path"]),
            (422, &json!(path)),
            "{body}"
        );
    }

    // Changed, it is built beside the old one, and takes its place.
    let changed = json!({"entity_type": "order", "fold": {"rule": "merge"}});
    let url = system.query_url(&format!("{PATH}/totals"));
    let (status, body) = ask(Method::PUT, &url, &changed).await;
    assert_eq!(status, 202, "{body}");
    live(&system, "totals", 2).await;
    let eight = of("8").await;
    assert_eq!(eight["state"], json!({"total": 1, "by": {"card": true}}));
    assert_eq!(
        (&eight["version"], &eight["definition_version"]),
        (&json!(2), &json!(2))
    );
    // Two of one entity: the name is needed.
    let one = json!({"name": "of-eight", "entity_type": "order", "entity_id": "8",
        "fold": {"rule": "count"}});
    define(&system, one).await;
    let (status, body) = get(&system, &format!("{PATH}/order/8")).await;
    assert_eq!(
        (status.as_u16(), &body["errors"][0]["path"]),
        (422, &json!("name")),
        "{body}"
    );
    let (_, body) = get(&system, &format!("{PATH}/order/8?name=of-eight")).await;
    assert_eq!(body["state"], json!({"count": 2}));
    assert_eq!(ids("name=of-eight").await, ["8"]);

    let (status, _) = ask(Method::DELETE, &url, &Value::Null).await;
    assert_eq!(status, 204);
    let (status, _) = ask(Method::DELETE, &url, &Value::Null).await;
    assert_eq!(status, 404);
    // Of all versions, what is left is the one row of the other projection.
    eventually_eq("states", 1, || world.database.count("event_projections")).await;
    eventually_eq("definitions", 1, || {
        world.database.count("projection_definitions")
    })
    .await;

    if SHAPE == Shape::Split {
        let announced = eventually("the announcements", PATIENCE, || async {
            let topic = world.topic(ANNOUNCEMENTS);
            let all = world
                .kcat
                .consume(&topic)
                .await
                .map_err(|e| e.to_string())?;
            let subject = |m: &testkit::Message| {
                let mut headers = m.headers.iter();
                headers.any(|(k, v)| k == "subject" && v == "event.projection.created")
            };
            let of: Vec<_> = all.into_iter().filter(subject).collect();
            if of.len() == 2 {
                Ok(of)
            } else {
                Err(format!("{of:?}"))
            }
        })
        .await;
        let names: Vec<Value> = (announced.iter())
            .map(|m| serde_json::from_str::<Value>(m.payload.as_deref().unwrap()).unwrap())
            .map(|mut payload| payload["projection_name"].take())
            .collect();
        assert_eq!(names, ["totals", "of-eight"]);
    }
    system.assert_well();
}
