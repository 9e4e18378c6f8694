//! Hand-made events from outside: what the edge refuses, what the body may be, and the examples of the
//! documents.

use serde_json::Value;
use testkit::{Edge, TestService};

use crate::world::{BACKEND, World, run};

async fn test(bridge: &TestService, body: String) -> (u16, Value) {
    let client = reqwest::Client::new();
    let url = bridge.url("/api/v1/bridge/test");
    let answer = client.post(url).body(body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let world = World::shared().await;
    let bridge = world.bridge().start().await;
    let (status, problem) = test(&bridge, "x".repeat(8 * 1024 * 1024 + 1)).await;
    assert_eq!(status, 413, "{problem}");
    assert_eq!(problem["detail"], "the body has more than 8388608 bytes");
}

#[tokio::test]
async fn the_edge_passes_on_the_health_and_no_hand_made_event() {
    let world = World::shared().await;
    let bridge = world.bridge().start().await;
    let edge = Edge::of_processor(bridge.port()).await;
    let client = reqwest::Client::new();
    let health = client.get(edge.url("/api/v1/bridge/health")).send().await;
    assert_eq!(health.unwrap().status(), 200);
    for path in [
        "/api/v1/bridge/test?publish=true",
        "/api/v1/bridge/test",
        "/api/v1/bridge/test/?publish=true",
        "/api/v1//bridge/te%73t?publish=true",
    ] {
        let event = r#"{"event_type":"a.b","user_id":"eve","data":{}}"#;
        let request = client.post(edge.url(path)).body(event);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 403, "{path}");
        let kind = &answer.headers()["content-type"];
        assert_eq!(kind, "application/problem+json", "{path}");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["status"], 403, "{problem}");
    }
    assert_eq!(world.channel("eve").await.unwrap(), []);
}

/// What stands between the first quotes after `before`.
fn quoted<'a>(text: &'a str, before: &str) -> &'a str {
    let (_, rest) = text.split_once(before).unwrap();
    rest.split('\'').nth(1).unwrap()
}

#[tokio::test]
async fn the_examples_of_the_documents_go_live() {
    let readme = include_str!("../../../../README.md");
    let live = include_str!("../../../../docs/live.md");
    let world = World::shared().await;
    let bridge = world.bridge().start().await;
    let record = quoted(readme, "\necho ");
    let topic = world.topic(BACKEND);
    let sent = world.kcat.produce(&topic, None, &[], record.as_bytes());
    sent.await.unwrap();
    assert_eq!(world.messages("u-1", 1).await[0].event, "payment.settled");

    let body = quoted(live, "-H 'content-type: application/json' \\\n");
    let (_, verdict) = test(&bridge, body.to_owned()).await;
    assert_eq!(verdict["result"], "would_publish", "{verdict}");
}

#[test]
fn one_more_pattern_that_is_none_stops_the_start_in_every_profile() {
    for profile in ["generic", "genesis"] {
        let environment = [
            ("BRIDGE_PROFILE", profile),
            ("BRIDGE_MORE_ALLOWED_TYPES", "*"),
        ];
        let output = run(&[], &environment, "");
        assert_eq!(output.status.code(), Some(2), "{profile}");
        let errors = String::from_utf8(output.stderr).unwrap();
        let named = r#"BRIDGE_MORE_ALLOWED_TYPES="*""#;
        assert!(errors.contains(named), "{errors}");
    }
}
