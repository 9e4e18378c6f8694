//! Personal data is gone before anybody keeps it, at every door.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use testkit::{LIMIT, Nats, SseStream, eventually, eventually_eq};

use crate::SHAPE;
use crate::direct::{Record, produce};
use crate::erasures::found;
use crate::ledger::everything_on_the_log;
use crate::nats::client as client_of;
use crate::sender::client;
use crate::world::{BACKEND, DOMAIN, Shape, World, beside_others};

const EMAIL: &str = "ada.lovelace@example.org";
const CARD: &str = "4242424242424242";
const NAME: &str = "Augusta Ada King";
const ADDRESS: &str = "203.0.113.77";

const RULES: &str = "\
# what no event may say
** data.**.email hash
** context.**.email hash
** data.**.card mask
** data.**.name drop
** properties.**.email hash
** properties.**.card mask
** properties.**.name drop
";

fn data() -> Value {
    json!({"email": EMAIL, "order": {"card": CARD, "name": NAME, "n": 1}, "ip": ADDRESS})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_rules_name_reaches_no_log_no_table_and_no_listener() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let file = std::env::temp_dir().join(format!("rules-{}", uuid::Uuid::now_v7()));
    std::fs::write(&file, RULES).unwrap();
    let system = world
        .system()
        .env("PERSONAL_DATA_RULES", file.display())
        .env("PERSONAL_DATA_KEY", "a key that is long enough")
        .env("ANONYMIZE_IP", true)
        .start()
        .await;
    let url = system.query_url("/api/v1/sse/users/u-1");
    let mut stream = SseStream::open(&url, None).await.unwrap();
    stream.wait_cursor().await.unwrap();
    let event = |more: Value| {
        let mut event = json!({"event_type": "order.placed", "user_id": "u-1", "data": data()});
        event
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        event
    };
    let segment = json!({"type": "track", "event": "Order Placed", "userId": "u-1", "properties": data(),
        "context": {"ip": ADDRESS, "traits": {"email": EMAIL}}});
    let cloud = json!({"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.placed", "data": data()});
    for (path, media, body) in [
        (
            "/api/v1/events/create",
            "application/json",
            event(json!({})),
        ),
        (
            "/api/events/batch",
            "application/json",
            json!([event(json!({})), event(json!({}))]),
        ),
        (
            "/api/frontend/events",
            "application/json",
            event(json!({"properties": data()})),
        ),
        (
            "/api/v1/events/create",
            "application/cloudevents+json",
            cloud,
        ),
        ("/v1/track", "application/json", segment),
    ] {
        let request = client()
            .post(system.ingest_url(path))
            .header("content-type", media);
        let answer = request.body(body.to_string()).send().await.unwrap();
        assert!(
            answer.status().is_success(),
            "{path}: {}",
            answer.text().await.unwrap()
        );
    }
    eventually_eq("stored events", 6, || world.database.count("event_ids")).await;
    if SHAPE == Shape::Split {
        for message in everything_on_the_log(&world).await.values() {
            let payload = message.payload.as_deref().unwrap();
            for secret in [EMAIL, CARD, NAME, ADDRESS] {
                assert!(!payload.contains(secret), "{payload}");
            }
        }
    }
    // Straight to the log, past the gateway.
    let direct = event(json!({"event_id": uuid::Uuid::now_v7(), "event_type": "straight"}));
    produce(&world, BACKEND, &[Record::new(0, "k", direct.to_string())]).await;
    produce(
        &world,
        DOMAIN,
        &[Record::new(1, "k", event(json!({})).to_string())],
    )
    .await;
    eventually_eq("stored events", 8, || world.database.count("event_ids")).await;
    for secret in [EMAIL, CARD, NAME, ADDRESS] {
        assert_eq!(found(&world, secret).await, BTreeMap::new(), "{secret}");
    }
    let sql = "select data from events where event_type = 'straight'";
    let stored: Value = world.database.scalar(sql, &[]).await.unwrap();
    assert_eq!(
        (&stored["order"], &stored["ip"]),
        (&json!({"card": "***4242", "n": 1}), &json!("203.0.113.0"))
    );
    // One value has one hash, at whichever door.
    let sql = "select count(distinct data ->> 'email') from events where data ? 'email'";
    assert_eq!(world.database.scalar::<i64>(sql, &[]).await.unwrap(), 1);
    loop {
        let heard = stream
            .next()
            .await
            .unwrap()
            .expect("the event straight to the log");
        for secret in [EMAIL, CARD, NAME, ADDRESS] {
            assert!(!heard.data.contains(secret), "{}", heard.data);
        }
        if heard.event == "straight" {
            break;
        }
    }
    std::fs::remove_file(file).unwrap();
}

/// What a message of NATS says passes the same rules on its way to the log.
#[tokio::test(flavor = "multi_thread")]
async fn the_rules_hold_for_messages_of_nats() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let nats = Nats::start().await;
    let file = std::env::temp_dir().join(format!("rules-{}", uuid::Uuid::now_v7()));
    std::fs::write(&file, RULES).unwrap();
    let system = world
        .system()
        .env("NATS_URL", nats.url())
        .env("PERSONAL_DATA_RULES", file.display())
        .env("PERSONAL_DATA_KEY", "a key that is long enough")
        .env("ANONYMIZE_IP", true)
        .start()
        .await;
    let context = client_of(&nats).await;
    // The gateway makes the stream.
    eventually("the stream", LIMIT, || context.get_stream("events")).await;
    let native = json!({"event_type": "order.placed", "user_id": "u-1", "data": data()});
    let bus = json!({"type": "order.placed", "data": data()});
    let cloud = json!({"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.placed", "data": data()});
    for body in [&native, &bus, &cloud] {
        let sent = context.publish("events.orders", body.to_string().into());
        sent.await.unwrap().await.unwrap();
    }
    eventually_eq("stored events", 3, || world.database.count("event_ids")).await;
    for secret in [EMAIL, CARD, NAME, ADDRESS] {
        assert_eq!(found(&world, secret).await, BTreeMap::new(), "{secret}");
    }
    if SHAPE == Shape::Split {
        for message in everything_on_the_log(&world).await.values() {
            let payload = message.payload.as_deref().unwrap();
            for secret in [EMAIL, CARD, NAME, ADDRESS] {
                assert!(!payload.contains(secret), "{payload}");
            }
        }
    }
    // One value has one hash, whichever door it came by.
    let url = system.ingest_url("/api/v1/events/create");
    let sent = client().post(url).json(&native).send().await.unwrap();
    assert_eq!(sent.status(), 201);
    eventually_eq("stored events", 4, || world.database.count("event_ids")).await;
    let sql = "select count(distinct data ->> 'email') from events where data ? 'email'";
    assert_eq!(world.database.scalar::<i64>(sql, &[]).await.unwrap(), 1);
    let sql = "select count(*) from events where data -> 'order' ->> 'card' = '***4242'";
    assert_eq!(world.database.scalar::<i64>(sql, &[]).await.unwrap(), 4);
    std::fs::remove_file(file).unwrap();
}
