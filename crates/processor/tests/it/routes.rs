//! The bridge's routes, its command, and how it starts and ends.

use serde_json::{Value, json};
use testkit::{LIMIT, eventually};

use crate::world::{BACKEND, World, health, metric, run, wait};

async fn test(bridge: &testkit::TestService, query: &str, body: String) -> (u16, Value) {
    let client = reqwest::Client::new();
    let url = bridge.url(&format!("/api/v1/bridge/test{query}"));
    let answer = client.post(url).body(body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn a_bridge_alone_is_ready_without_postgres() {
    let world = World::shared().await;
    let mut bridge = world.bridge().start().await;
    let answer = reqwest::get(bridge.url("/ready")).await.unwrap();
    let ready: Value = answer.json().await.unwrap();
    let checks: Vec<_> = ready["checks"].as_object().unwrap().keys().collect();
    assert_eq!(checks, ["bridge", "kafka", "live"], "{ready}");

    world
        .send(
            BACKEND,
            [json!({"event_type": "a.b", "user_id": "u", "session_id": "s", "data": {}})],
        )
        .await;
    world.messages("u", 1).await;
    wait(
        "redis",
        |up| up == 1.0,
        || metric(&bridge, "eventbridge_redis_connected", &[]),
    )
    .await;
    // The lag is known after the first statistics.
    let status = eventually("counted", LIMIT, || async {
        let status = health(&bridge).await;
        let known = status["kafka"]["lag_records"].is_i64();
        (known && status["events"]["published"] == 1)
            .then_some(status.clone())
            .ok_or(status)
    })
    .await;
    assert_eq!(status["status"], "healthy", "{status}");
    assert_eq!(status["circuit_breaker"]["state"], "closed");
    assert_eq!(status["circuit_breaker"]["failure_rate"], 0.0);
    assert_eq!(status["redis"]["connected"], true);
    assert_eq!(status["published_types"], json!({"a.b": 1}));
    assert_eq!(status["sessions"]["active"], 1);
    assert!(status["mean_seconds"]["end_to_end"].is_f64());
    for name in [
        "processing",
        "end_to_end",
        "redis_publish",
        "kafka_consume_latency",
    ] {
        let name = format!("eventbridge_{name}_seconds_count");
        wait(&name, |n| n == 1.0, || metric(&bridge, &name, &[])).await;
    }

    assert!(bridge.terminate().await.success());
    let log = bridge.log();
    let last = log.lines().find(|line| line.contains("bridge stopped"));
    assert!(last.is_some_and(|line| line.contains("published")), "{log}");
}

#[tokio::test]
async fn a_hand_made_event_shows_each_stage() {
    let world = World::shared().await;
    let bridge = world.bridge().start().await;
    let event = json!({"event_id": "6f1c2a04-5d1e-4c7a-9f3b-2a1b0c9d8e7f", "event_type": "a.b", "aggregate_id": "x",
        "payload": {"user_id": "tess", "session_id": "s", "timestamp": "2025-01-01T00:00:00Z", "n": 1}});

    let (status, verdict) = test(&bridge, "", event.to_string()).await;
    assert_eq!((status, &verdict["result"]), (200, &json!("would_publish")));
    assert_eq!(verdict["filter"]["ok"], true);
    assert_eq!(verdict["filter"]["steps"].as_array().unwrap().len(), 5);
    assert_eq!(
        verdict["breaker"],
        json!({"state": "closed", "allows": true})
    );
    assert_eq!(verdict["transform"]["user_id"], "tess");
    assert_eq!(verdict["transform"]["data"]["payload"], json!({"n": 1}));
    assert_eq!(verdict["publish"], json!({"skipped": "dry run"}));
    assert_eq!(world.channel("tess").await.unwrap(), []);

    let (_, verdict) = test(&bridge, "?publish=true", event.to_string()).await;
    assert_eq!(verdict["result"], "published", "{verdict}");
    let messages = world.messages("tess", 1).await;
    assert_eq!(verdict["publish"]["stream_id"], messages[0].id.as_str());
    assert_eq!(messages[0].data, verdict["transform"]["data"]);

    for (body, stage, reason) in [
        ("nonsense", "decode", "invalid_json"),
        ("", "decode", "no_payload"),
        (r#"{"payload":{}}"#, "filter", "missing_field"),
        (
            r#"{"event_id":"e-1","event_type":"a","payload":{}}"#,
            "filter",
            "invalid_uuid",
        ),
        (r#"{"event_type":"a","payload":{}}"#, "transform", "no_user"),
    ] {
        let (status, verdict) = test(&bridge, "?publish=true", body.to_owned()).await;
        assert_eq!(
            (status, &verdict["reason"]),
            (200, &json!(reason)),
            "{verdict}"
        );
        assert_eq!(verdict[stage]["ok"], false, "{verdict}");
    }
    let (status, _) = test(&bridge, "?publish=maybe", event.to_string()).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn the_command_does_the_same() {
    let world = World::shared().await;
    let prefix = world.sse_prefix();
    let environment = [
        ("REDIS_URL", world.parts.redis_url.as_str()),
        ("SSE_PREFIX", prefix.as_str()),
        ("SSE_HISTORY", "all"),
        ("LOG_LEVEL", "OFF"),
        ("REDIS_TIMEOUT_MS", "20000"),
    ];
    let event = r#"{"event_type":"a.b","user_id":"carl","data":{"n":1}}"#;
    let verdict = |output: &std::process::Output| -> Value {
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    };
    let dry = run(&["bridge", "test-event"], &environment, event);
    assert!(dry.status.success(), "{dry:?}");
    assert_eq!(verdict(&dry)["result"], "would_publish");
    assert_eq!(world.channel("carl").await.unwrap(), []);

    let published = run(
        &["bridge", "test-event", "-", "--publish"],
        &environment,
        event,
    );
    assert!(published.status.success(), "{published:?}");
    let messages = world.messages("carl", 1).await;
    assert_eq!(
        verdict(&published)["publish"]["stream_id"],
        messages[0].id.as_str()
    );

    let refused = run(&["bridge", "test-event"], &environment, r#"{"data":{}}"#);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(verdict(&refused)["reason"], "missing_field");
}

#[test]
fn a_pattern_that_is_none_stops_the_start() {
    let output = run(
        &[],
        &[
            ("BRIDGE_ALLOWED_TYPES", "^fine$,^(broken$"),
            ("PROCESSOR_ROLES", "bridges"),
        ],
        "",
    );
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        errors.contains(r#"BRIDGE_ALLOWED_TYPES="^(broken$": expected a regular expression"#),
        "{errors}"
    );
    assert!(errors.contains(r#"PROCESSOR_ROLES="bridges""#), "{errors}");
}
