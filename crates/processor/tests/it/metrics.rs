//! The figures that the bridge shows while it works: in its health, its metrics and its log.

use serde_json::{Value, json};
use testkit::{LIMIT, Part, Parts, eventually};

use crate::world::{BACKEND, World, health, metric, wait};

#[tokio::test]
async fn without_prometheus_the_figures_are_in_the_health_only() {
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
    let sessions = || metric(&bridge, "eventbridge_active_sessions ", &[]);
    wait("sessions", |n| n == 1.0, sessions).await;
    let status = eventually("counted", LIMIT, || async {
        let status = health(&bridge).await;
        let counted = status["events"]["consumed"] == 4;
        // Nothing comes any more.
        let idle = status["rates"]["published_per_second"] == 0.0;
        (counted && idle).then_some(status.clone()).ok_or(status)
    })
    .await;
    let rates = &status["rates"];
    assert_eq!(rates["filter_rate"], 0.5, "{status}");
    assert_eq!(rates["push_success_rate"], 0.5, "{status}");
    assert_eq!(rates["errors_per_second"], 0.0, "{status}");
    assert_eq!(status["circuit_breaker"]["failure_rate"], 0.0, "{status}");
    assert_eq!(status["sessions"]["active"], 1, "{status}");
    // The log keeps the throughput of the one interval in which events came.
    let line = eventually("a line", LIMIT, || async {
        let log = bridge.log();
        let lines = log
            .lines()
            .filter_map(|l| serde_json::from_str::<Value>(l).ok());
        let mut taken = lines.filter(|line| line["message"] == "bridge");
        let found = taken.find(|line| line["published_per_second"].as_f64() > Some(0.0));
        found.ok_or(log)
    });
    assert!(line.await["events"].as_str().unwrap().contains("consumed"));
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
