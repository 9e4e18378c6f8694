//! `tidegate serve` on the parts that the environment names.

use serde_json::json;
use testkit::{LIMIT, Part, Parts, SseStream, TestService, eventually};

use crate::command::{get, post, stored};

async fn one_event_goes_all_the_way(service: &TestService) {
    let mut listener = SseStream::open(&service.url("/api/v1/sse/users/u-1"), None)
        .await
        .unwrap();
    // A new listener gets no message from before its first id.
    let begun = tokio::time::timeout(LIMIT, listener.wait_cursor()).await;
    begun.expect("it begins").unwrap();
    let id = post(service, &json!({"event_type": "a.b", "user_id": "u-1"}))
        .await
        .unwrap();
    stored(service, &id).await;
    let live = tokio::time::timeout(LIMIT, async {
        loop {
            let event = listener.next().await.unwrap().expect("not the end");
            if event.data.contains(&id) {
                break event;
            }
        }
    });
    assert_eq!(live.await.expect("the live event").event, "a.b");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_alone() {
    let database = Parts::shared().await.fresh_database().await;
    let mut service = TestService::builder("tidegate")
        .arg("serve")
        .database(&database)
        .start()
        .await;
    one_event_goes_all_the_way(&service).await;
    let ready = get(&service, "/ready").await.unwrap();
    assert!(ready["checks"].get("kafka").is_none(), "{ready}");
    assert!(service.terminate().await.success());
    assert_eq!(database.count("event_log").await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_kafka_and_redis_it_spills_while_kafka_is_down() {
    let parts = Parts::private_of(&[Part::Kafka]).await.or_shared().await;
    let database = Parts::shared().await.fresh_database().await;
    let prefix = testkit::topic_prefix();
    let service = TestService::builder("tidegate")
        .arg("serve")
        .database(&database)
        .parts(&parts)
        .env("SSE_PREFIX", format!("{prefix}user:"))
        .env("KAFKA_MESSAGE_TIMEOUT_MS", 10_000)
        .env("REDIS_TIMEOUT_MS", 20_000)
        .start()
        .await;
    one_event_goes_all_the_way(&service).await;
    parts.kill(Part::Kafka).await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(
            post(
                &service,
                &json!({"event_type": "spilled", "data": {"n": n}}),
            )
            .await
            .unwrap(),
        );
    }
    for id in &ids {
        stored(&service, id).await;
    }
    let ready = get(&service, "/ready").await.unwrap();
    let detail = &ready["checks"]["kafka"]["detail"];
    assert_eq!(detail, "down, spilling to PostgreSQL", "{ready}");
    assert_eq!(ready["status"], "ready", "{ready}");
    // A dead task of the processor counts; what it waits for does not.
    for name in ["postgres_log", "consumer", "bridge"] {
        let check = &ready["checks"][name];
        assert!(
            check["ok"] == true && check["advisory"].is_null(),
            "{ready}"
        );
    }
    parts.start(Part::Kafka).await;
    // It is found when something is sent there, the same event again and again.
    let probe = json!({"event_type": "probe", "event_id": uuid::Uuid::now_v7()});
    eventually("Kafka is used again", LIMIT, || async {
        post(&service, &probe).await.unwrap();
        let ready = get(&service, "/ready").await.unwrap();
        let detail = &ready["checks"]["kafka"]["detail"];
        (detail == "connected").then_some(()).ok_or(ready)
    })
    .await;
    one_event_goes_all_the_way(&service).await;
    // Eight, each once, whatever Kafka made of the one it was handed before it died.
    eventually("the count", LIMIT, || async {
        let counts = get(&service, "/api/v1/events/stats").await.unwrap();
        (counts["total_events"] == 8).then_some(()).ok_or(counts)
    })
    .await;
}
