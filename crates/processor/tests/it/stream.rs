//! From a record to a message in the user's channel, and what does not get there.

use serde_json::{Value, json};
use testkit::{LIMIT, eventually};
use uuid::Uuid;

use crate::world::{BACKEND, World, events, metric, rejected, wait};

const ID: &str = "8f14e45f-ceea-467f-a8f5-5f9b1c0b7a11";

#[tokio::test]
async fn every_envelope_reaches_its_users_channel() {
    let world = World::shared().await;
    let bridge = world
        .bridge()
        .env("RUST_LOG", "info,eventbridge::published=debug")
        .start()
        .await;
    let at = "2025-03-01T10:00:00Z";
    let envelopes = [
        json!({"event_id": ID, "event_type": "user.login", "user_id": "ann", "session_id": "s1",
            "correlation_id": "c1", "timestamp": at,
            "data": {"n": 1, "internal_x": 2, "user_id": "ann"}}),
        json!({"event_id": Uuid::new_v4(), "event_type": "Order.Placed", "aggregate_id": "o-1", "timestamp": at,
            "payload": {"user_id": "ann", "session_id": "s1", "n": 1, "timestamp": at}}),
        json!({"aggregate_id": "o-1", "event_type": "Order.Paid", "occurred_at": at,
            "event_data": {"user_id": "ann", "content": {"n": 1}}}),
        json!({"id": Uuid::new_v4(), "type": "order.sent", "source": "shop", "time": at,
            "data": {"user_id": "ann", "n": 1}}),
        json!({"specversion": "1.0", "id": Uuid::new_v4(), "type": "order.back", "source": "/shop", "time": at,
            "data": {"user_id": "ann", "n": 1}}),
    ];
    // One partition, so that the order is the log's.
    for envelope in &envelopes {
        let payload = envelope.to_string();
        let topic = world.topic(BACKEND);
        world
            .kcat
            .produce(&topic, Some(b"ann"), &[], payload.as_bytes())
            .await
            .unwrap();
    }
    let messages = world.messages("ann", 4).await;
    let types: Vec<_> = messages.iter().map(|m| m.event.as_str()).collect();
    assert_eq!(
        types[..4],
        ["user.login", "Order.Placed", "Order.Paid", "order.sent"]
    );
    assert_eq!(
        messages[0].data,
        json!({"event_id": ID, "event_type": "user.login", "user_id": "ann", "session_id": "s1",
            "correlation_id": "c1", "timestamp": at, "payload": {"n": 1}})
    );
    assert_eq!(messages[0].fields, 4, "event, data, scope, version");
    for message in &messages {
        assert_eq!(message.data["payload"], json!({"n": 1}), "{message:?}");
        assert_eq!(message.data["timestamp"], at, "{message:?}");
        assert_eq!(message.data["event_type"], message.event.as_str());
    }

    // The line of S2-63, with the id under which Redis has it.
    let line = eventually("the line", LIMIT, || async {
        let log = bridge.log();
        log.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .find(|line: &Value| line["event_type"] == "event_published")
            .ok_or(log.len())
    })
    .await;
    for (field, value) in [
        ("service", "eventbridge"),
        ("event_id", ID),
        ("user_id", "ann"),
        ("session_id", "s1"),
        ("topic", &world.topic(BACKEND)),
        ("stream_id", &messages[0].id),
        ("domain_event_type", "user.login"),
    ] {
        assert_eq!(line[field], value, "{field} of {line}");
    }
    assert!(line["timestamp"].is_string());
}

#[tokio::test]
async fn what_has_no_channel_is_counted_and_holds_up_nothing() {
    let world = World::shared().await;
    let bridge = world
        .bridge()
        .env("BRIDGE_MAX_MESSAGE_BYTES", 1_000)
        .start()
        .await;
    world
        .send(
            BACKEND,
            [
                json!({"event_type": "a.b", "data": {}}),
                json!({"event_type": "a.b", "user_id": "bob", "data": {"x": "x".repeat(2_000)}}),
                json!({"user_id": "bob", "data": {}}),
                json!({"event_type": "a.b", "user_id": "bob", "data": {}, "timestamp": "soon"}),
                json!({"event_type": "a.b", "user_id": "bob", "data": [1]}),
                json!({"event_type": "a.b", "user_id": "bob", "data": {"last": true}}),
            ],
        )
        .await;
    let messages = world.messages("bob", 1).await;
    assert_eq!(messages[0].data["payload"], json!({"last": true}));
    wait("all consumed", |n| n >= 6.0, || events(&bridge, "consumed")).await;
    for reason in [
        "no_user",
        "too_large",
        "missing_field",
        "invalid_timestamp",
        "wrong_type",
    ] {
        wait(reason, |n| n == 1.0, || rejected(&bridge, reason)).await;
    }
    for (status, count) in [("dropped", 2.0), ("filtered", 3.0), ("published", 1.0)] {
        wait(status, |n| n == count, || events(&bridge, status)).await;
    }
    // Offsets of what was left out are done as well.
    wait(
        "no lag",
        |lag| lag == 0.0,
        || metric(&bridge, "eventbridge_consumer_lag_records", &[]),
    )
    .await;
}

#[tokio::test]
async fn ten_thousand_malformed_records_open_no_breaker() {
    let world = World::shared().await;
    let bridge = world.bridge().start().await;
    let topic = world.topic(BACKEND);
    let malformed = (0..10_000).map(|n| {
        let payload = match n % 4 {
            0 => "not json".to_owned(),
            1 => format!("[{n}]"),
            2 => format!(r#"{{"event_type":{n}}}"#),
            _ => {
                format!(r#"{{"event_type":"a","user_id":"u","data":{{"n":{n}}},"timestamp":"x"}}"#)
            }
        };
        (format!("k{n}"), payload)
    });
    world.kcat.produce_lines(&topic, malformed).await.unwrap();
    world
        .send(
            BACKEND,
            [json!({"event_type": "a", "user_id": "eve", "data": {}})],
        )
        .await;
    world.messages("eve", 1).await;
    wait(
        "all filtered",
        |n| n == 10_000.0,
        || events(&bridge, "filtered"),
    )
    .await;
    assert_eq!(metric(&bridge, "eventbridge_breaker_state", &[]).await, 0.0);
    assert_eq!(
        metric(&bridge, "eventbridge_breaker_transitions_total", &[]).await,
        0.0
    );
    assert_eq!(metric(&bridge, "eventbridge_errors_total", &[]).await, 0.0);
}

#[tokio::test]
async fn genesis_lets_through_what_the_specification_lists() {
    const GENESIS: &str = "genesis.domain.events";
    let world = World::shared().await;
    let bridge = world
        .bridge()
        .env("BRIDGE_PROFILE", "genesis")
        .start()
        .await;
    let event = |event_type: &str, session: &str| {
        json!({"event_id": ID, "event_type": event_type, "aggregate_id": ID, "trace_id": "t",
            "payload": {"user_id": ID, "session_id": session, "novel_id": "n", "content": {"text": "x"},
                "timestamp": "2025-03-01T10:00:00Z"}})
    };
    world
        .send(
            GENESIS,
            [
                event("Genesis.Session.Deleted", ID),
                event("Other.Session.Started", ID),
                event("Genesis.Session.Started", "no uuid"),
                event("Genesis.Session.Theme.Proposed", ID),
            ],
        )
        .await;
    let messages = world.messages(ID, 1).await;
    assert_eq!(
        messages[0].data,
        json!({"event_id": ID, "event_type": "Genesis.Session.Theme.Proposed", "user_id": ID,
            "session_id": ID, "timestamp": "2025-03-01T10:00:00Z", "novel_id": "n", "trace_id": "t",
            "payload": {"text": "x"}})
    );
    for reason in ["type_not_allowed", "invalid_type", "invalid_uuid"] {
        wait(reason, |n| n == 1.0, || rejected(&bridge, reason)).await;
    }
}
