//! Messages of NATS JetStream are events, each stored once, whatever dies and comes again.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream::context::PublishAckFuture;
use async_nats::jetstream::{self, Context, stream};
use async_nats::{ConnectOptions, HeaderMap};
use serde_json::{Value, json};
use testkit::{LIMIT, Nats, ServiceBuilder, eventually};
use uuid::Uuid;

use crate::SHAPE;
use crate::world::{PATIENCE, Shape, World, beside_others};

/// Messages of which the acknowledgement may be outstanding.
const WINDOW: u64 = 500;

fn gateway(world: &World, nats: &Nats) -> ServiceBuilder {
    world.service("ingest").env("NATS_URL", nats.url())
}

pub(crate) async fn client(nats: &Nats) -> Context {
    let (url, user, password) = nats.open_url();
    let client = eventually("a client", LIMIT, || {
        ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned())
            .connection_timeout(Duration::from_secs(2))
            .connect(url.clone())
    });
    let mut context = jetstream::new(client.await);
    context.set_timeout(Duration::from_secs(2));
    context
}

/// Publishes messages `from..to` under ids of their own until the server has acknowledged all.
async fn publish(context: &Context, from: u64, to: u64) {
    let mut open: Vec<u64> = (from..to).collect();
    while !open.is_empty() {
        let mut again = Vec::new();
        for window in open.chunks(WINDOW as usize) {
            let mut sent: Vec<(u64, PublishAckFuture)> = Vec::new();
            for n in window {
                let mut headers = HeaderMap::new();
                headers.insert("Nats-Msg-Id", format!("message-{n}"));
                let event = json!({"type": format!("nats.{}", n % 5), "data": {"n": n}});
                let published = context
                    .publish_with_headers(
                        "events.backend.service",
                        headers,
                        event.to_string().into(),
                    )
                    .await;
                match published {
                    Ok(acknowledged) => sent.push((*n, acknowledged)),
                    Err(_) => again.push(*n),
                }
            }
            for (n, acknowledged) in sent {
                if acknowledged.await.is_err() {
                    again.push(n);
                }
            }
        }
        if !again.is_empty() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        open = again;
    }
}

/// Waits until a value is the expected one.
async fn becomes<T, F, R>(what: &str, expected: T, mut read: F)
where
    T: PartialEq + std::fmt::Debug,
    F: FnMut() -> R,
    R: Future<Output = T>,
{
    eventually(what, PATIENCE, || {
        let value = read();
        async {
            let value = value.await;
            if value == expected {
                Ok(())
            } else {
                Err(value)
            }
        }
    })
    .await;
}

async fn stored(world: &World) -> i64 {
    world.database.count("events").await.unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_messages_are_stored_once_whatever_dies() {
    const MESSAGES: u64 = 20_000;
    let _turn = beside_others().await;
    let world = World::shared().await;
    let mut nats = Nats::start().await;
    let _processor = match SHAPE {
        Shape::Split => Some(world.start_processor().await),
        Shape::AllInOne => None,
    };
    let mut gateway = gateway(&world, &nats).start().await;
    let context = client(&nats).await;
    // The gateway makes the stream.
    eventually("the stream", LIMIT, || context.get_stream("events")).await;
    let sending = tokio::spawn(async move { publish(&context, 0, MESSAGES).await });
    for kill in 0..5 {
        let before = stored(&world).await;
        eventually("more is stored", PATIENCE, || async {
            let now = stored(&world).await;
            if now > before || now == MESSAGES as i64 {
                Ok(())
            } else {
                Err(now)
            }
        })
        .await;
        gateway.kill();
        if kill == 2 {
            nats.restart().await;
        }
        gateway.restart().await;
    }
    sending.await.unwrap();
    becomes("all are stored", MESSAGES as i64, || stored(&world)).await;
    // And stay as many: what was delivered again is dropped.
    let context = client(&nats).await;
    becomes("nothing waits in the stream", 0, || async {
        let stream = context.get_stream("events").await.unwrap();
        let mut consumer: jetstream::consumer::PullConsumer =
            stream.get_consumer("tidegate").await.unwrap();
        let info = consumer.info().await.unwrap();
        info.num_pending + info.num_ack_pending as u64
    })
    .await;
    let database = &world.database;
    let numbers: i64 = database
        .scalar("select count(distinct data->>'n') from events", &[])
        .await
        .unwrap();
    assert_eq!(
        (numbers, stored(&world).await),
        (MESSAGES as i64, MESSAGES as i64)
    );
    let counted: i64 = database
        .scalar("select sum(count)::bigint from aggregated_events", &[])
        .await
        .unwrap();
    assert_eq!(counted, MESSAGES as i64);
    assert_eq!(database.count("dead_letters").await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_envelope_is_understood_and_what_is_none_is_a_dead_letter() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let mut nats = Nats::start().await;
    let _processor = match SHAPE {
        Shape::Split => Some(world.start_processor().await),
        Shape::AllInOne => None,
    };
    let context = client(&nats).await;
    // The server forgets soon which messages it has: what follows is for the gateway to know.
    let own = stream::Config {
        name: "shop".to_owned(),
        subjects: vec!["shop.>".to_owned()],
        duplicate_window: Duration::from_millis(100),
        ..stream::Config::default()
    };
    context.create_stream(own).await.unwrap();
    let gateway = gateway(&world, &nats)
        .env("NATS_STREAM", "shop")
        .env("NATS_SUBJECT", "shop.>")
        .start()
        .await;
    let send = async |headers: &[(&str, &str)], payload: &str| {
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            all.append(*name, *value);
        }
        let sent = context.publish_with_headers("shop.orders", all, payload.to_owned().into());
        sent.await.unwrap().await.unwrap();
    };
    let id = Uuid::now_v7();
    let native = json!({"event_id": id, "event_type": "native", "aggregate_type": "order", "aggregate_id": "7"});
    send(&[], &native.to_string()).await;
    send(
        &[],
        &json!({"type": "bus", "data": {"user_id": "u"}}).to_string(),
    )
    .await;
    let binary = [
        ("ce-specversion", "1.0"),
        ("ce-id", "9"),
        ("ce-source", "/s"),
        ("ce-type", "binary"),
        ("content-type", "application/json"),
    ];
    send(&binary, r#"{"a":1}"#).await;
    let structured = json!({"specversion": "1.0", "id": "9", "source": "/t", "type": "structured"});
    send(
        &[("Content-Type", "application/cloudevents+json")],
        &structured.to_string(),
    )
    .await;
    let named = [("Nats-Msg-Id", "once")];
    for _ in 0..2 {
        send(&named, r#"{"type":"named","data":{}}"#).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // Without an id of any kind two equal messages are two events.
    for _ in 0..2 {
        send(&[], r#"{"type":"anonymous","data":{}}"#).await;
    }
    send(&[("note", "kept")], "{not json").await;
    send(&[], "").await;
    becomes("the events", 7, || stored(&world)).await;
    let rows = world
        .database
        .rows("select event_type, count(*) from events group by 1", &[])
        .await
        .unwrap();
    let types: BTreeMap<String, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let want = [
        ("native", 1),
        ("bus", 1),
        ("binary", 1),
        ("structured", 1),
        ("named", 1),
        ("anonymous", 2),
    ];
    assert_eq!(types, want.map(|(name, n)| (name.to_owned(), n)).into());
    let known: i64 = world
        .database
        .scalar("select count(*) from events where event_id = $1", &[&id])
        .await
        .unwrap();
    assert_eq!(known, 1);
    becomes("the dead letters", 2, || async {
        world.database.count("dead_letters").await.unwrap()
    })
    .await;
    let rows = world
        .database
        .rows(
            "select reason, payload, headers::text from dead_letters order by reason",
            &[],
        )
        .await
        .unwrap();
    let reasons: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(reasons, ["invalid_json", "no_payload"]);
    let payload: Vec<u8> = rows[0].get(1);
    assert_eq!(payload, b"{not json");
    let headers: String = rows[0].get(2);
    for want in ["\"kept\"", "\"shop.orders\"", "\"nats-sequence\", \"9\""] {
        assert!(headers.contains(want), "{headers}");
    }
    // The truth about the connection, apart from the log's.
    let health = async || {
        let answer = reqwest::get(gateway.url("/api/frontend/health"))
            .await
            .unwrap();
        let answer: Value = answer.json().await.unwrap();
        (
            answer["nats_connected"] == true,
            answer["kafka_connected"] == true,
        )
    };
    assert_eq!(health().await, (true, true));
    nats.kill().await;
    becomes("it shows", (false, true), health).await;
}
