//! What the bridge shows of itself while it works.

use serde_json::{Value, json};
use testkit::{Part, Parts};

use crate::world::{BACKEND, World, health, metric, wait};

#[tokio::test]
async fn without_prometheus_the_figures_are_in_the_health_alone() {
    let world = World::shared().await;
    let bridge = world
        .bridge()
        .env("BRIDGE_PROMETHEUS_ENABLED", "false")
        .start()
        .await;
    world
        .send(
            BACKEND,
            [json!({"event_type": "a.b", "user_id": "u", "data": {}})],
        )
        .await;
    world.messages("u", 1).await;
    let published = || async {
        health(&bridge).await["events"]["published"]
            .as_f64()
            .unwrap()
    };
    wait("published", |n| n == 1.0, published).await;
    let answer = reqwest::get(bridge.url("/metrics")).await.unwrap();
    let text = answer.text().await.unwrap();
    assert!(text.contains("process_"), "the process has others: {text}");
    assert!(!text.contains("eventbridge_"), "{text}");
}

#[tokio::test]
async fn rates_are_taken_at_every_interval() {
    let world = World::shared().await;
    let bridge = world
        .bridge()
        .env("BRIDGE_COLLECT_INTERVAL_SECONDS", 1)
        .start()
        .await;
    world
        .send(
            BACKEND,
            [
                json!({"event_type": "a.b", "user_id": "u", "session_id": "s", "data": {}}),
                json!({"event_type": "a.b", "data": {}}),
                json!({"event_type": "", "user_id": "u", "data": {}}),
                json!({"event_type": "a.b", "user_id": "u", "data": {}, "timestamp": "soon"}),
            ],
        )
        .await;
    for (name, value) in [
        ("eventbridge_filter_rate ", 0.5),
        ("eventbridge_push_success_rate ", 0.5),
        ("eventbridge_active_sessions ", 1.0),
        // Nothing comes any more.
        ("eventbridge_throughput_events_per_second ", 0.0),
        ("eventbridge_errors_per_second ", 0.0),
        ("eventbridge_breaker_failure_rate ", 0.0),
    ] {
        wait(name, |n| n == value, || metric(&bridge, name, &[])).await;
    }
    // Throughput was shown for the one interval in which something came; the log keeps it.
    let log = bridge.log();
    let lines = log
        .lines()
        .filter_map(|l| serde_json::from_str::<Value>(l).ok());
    let mut taken = lines.filter(|line| line["message"] == "bridge");
    assert!(
        taken.any(|line| line["published_per_second"].as_f64() > Some(0.0)),
        "{log}"
    );
}

#[tokio::test]
async fn a_probe_shows_as_half_open() {
    let mut world = World::shared().await;
    let redis = Parts::private_of(&[Part::Redis]).await;
    world.parts.redis_url.clone_from(&redis.redis_url);
    let bridge = world
        .bridge()
        .env("BREAKER_FAILURE_THRESHOLD", 1)
        .env("REDIS_TIMEOUT_MS", 3_000)
        .start()
        .await;
    let event = |n: usize| json!({"event_type": "a.b", "user_id": "u", "data": {"n": n}});
    world.send(BACKEND, [event(1)]).await;
    world.messages("u", 1).await;
    let state = || metric(&bridge, "eventbridge_breaker_state", &[]);
    assert_eq!(state().await, 0.0);

    // One that hangs keeps the probe waiting.
    let paused = redis.pause(Part::Redis).await;
    world.send(BACKEND, [event(2)]).await;
    for (name, value) in [("open", 1.0), ("half-open", 2.0)] {
        wait(name, |n| n == value, state).await;
    }
    drop(paused);
    wait("closed", |n| n == 0.0, state).await;
}
