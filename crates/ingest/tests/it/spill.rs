//! With a database, backend events are taken while Kafka is down: real Kafka, killed; real
//! PostgreSQL. That the processor stores them once is proved end to end in `crates/e2e`.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use testkit::{Database, LIMIT, Part, Parts, TestService, eventually, eventually_eq};

use crate::gateway::{BACKEND, Gateway};

const EVENT: &str = r#"{"event_type":"a"}"#;

/// A database with the schema, in the shared PostgreSQL.
async fn database() -> Database {
    let database = Parts::shared().await.fresh_database().await;
    let pool = store::Database::new(&store::DatabaseConfig {
        url: database.url.clone(),
        schema: "event".to_owned(),
        pool_size: 1,
        verify_tls: false,
        application_name: "test".to_owned(),
    });
    store::migrate::run(&pool.unwrap()).await.unwrap();
    database
}

/// The ids of the events in the Postgres log, each as often as it is there.
async fn spilled(database: &Database) -> Vec<String> {
    let rows = database
        .rows("select payload from event_log order by id", &[])
        .await
        .unwrap();
    rows.iter()
        .map(|row| {
            let event: Value = serde_json::from_slice(row.get(0)).unwrap();
            event["event_id"].as_str().unwrap().to_owned()
        })
        .collect()
}

/// A number of /metrics.
async fn metric(gateway: &Gateway, name: &str) -> Option<f64> {
    let text = gateway.get("/metrics").await.text;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

async fn detail(gateway: &Gateway) -> (u16, String) {
    let answer = gateway.get("/ready").await;
    let detail = answer.json()["checks"]["kafka"]["detail"].clone();
    (answer.status, detail.as_str().unwrap().to_owned())
}

/// Waits until events go to Kafka, and everything says so.
async fn used_again(gateway: &Gateway, database: &Database) {
    eventually("Kafka is used", LIMIT, || async {
        let before = spilled(database).await.len();
        assert_eq!(gateway.post("/api/events", EVENT).await.status, 202);
        let spilled = spilled(database).await.len() - before;
        let spilling = metric(gateway, "tidegate_ingest_spilling").await;
        let now = (spilled, spilling, detail(gateway).await);
        let used = (0, Some(0.0), (200, "connected".to_owned()));
        (now == used).then_some(()).ok_or(now)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn backends_do_not_notice_that_kafka_is_away() {
    let parts = Parts::private_of(&[Part::Kafka]).await;
    let database = database().await;
    let gateway = Gateway::on(&parts, |builder| {
        builder
            .database(&database)
            .env("KAFKA_MESSAGE_TIMEOUT_MS", 10_000)
    })
    .await;
    used_again(&gateway, &database).await;
    let before: HashSet<String> = spilled(&database).await.into_iter().collect();

    parts.kill(Part::Kafka).await;
    let mut ids = HashSet::new();
    for _ in 0..5 {
        let answer = gateway.post("/api/events", EVENT).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        ids.insert(answer.json()["event_id"].as_str().unwrap().to_owned());
    }
    let answer = gateway
        .post("/api/events/batch", format!("[{EVENT},{EVENT}]"))
        .await;
    assert_eq!(answer.status, 201, "{answer:?}");
    for event in answer.json().as_array().unwrap() {
        ids.insert(event["event_id"].as_str().unwrap().to_owned());
    }
    // The one that was already handed to Kafka is spilled under its own id, so all seven are there.
    let mut stored = spilled(&database).await;
    let all = stored.len();
    stored.retain(|id| !before.contains(id));
    assert_eq!(stored.len(), 7);
    assert_eq!(stored.into_iter().collect::<HashSet<_>>(), ids);
    let topic: String = database
        .scalar("select distinct topic from event_log", &[])
        .await
        .unwrap();
    assert!(topic.ends_with(BACKEND), "{topic}");
    let down = (200, "down, spilling to PostgreSQL".to_owned());
    assert_eq!(detail(&gateway).await, down);
    assert_eq!(
        metric(&gateway, "tidegate_ingest_spilling").await,
        Some(1.0)
    );
    let count = metric(&gateway, "tidegate_ingest_spilled_events_total").await;
    assert_eq!(count, Some(all as f64));

    // A browser's event is not worth a transaction (C03).
    for path in ["/api/frontend/events", "/api/v1/events/frontend/batch"] {
        let answer = gateway.post(path, EVENT).await;
        assert_eq!(answer.status, 503, "{path}");
        assert_eq!(answer.json()["detail"], "Event stream not available");
    }

    parts.start(Part::Kafka).await;
    used_again(&gateway, &database).await;
    eventually("a browser's event is taken", LIMIT, || async {
        let answer = gateway.post("/api/frontend/events", EVENT).await;
        (answer.status == 200).then_some(()).ok_or(answer)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_every_acknowledged_event_is_in_a_log() {
    let parts = Parts::private_of(&[Part::Kafka]).await;
    let database = database().await;
    let gateway = Gateway::on(&parts, |builder| {
        builder
            .database(&database)
            .env("KAFKA_MESSAGE_TIMEOUT_MS", 10_000)
    })
    .await;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (stop, url) = (stop.clone(), gateway.service.url("/api/events"));
            tokio::spawn(async move {
                let client = reqwest::Client::new();
                let mut taken = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let answer = client.post(&url).body(EVENT).send().await.unwrap();
                    assert_eq!(answer.status(), 202);
                    let answer: Value =
                        serde_json::from_str(&answer.text().await.unwrap()).unwrap();
                    taken.push(answer["event_id"].as_str().unwrap().to_owned());
                }
                taken
            })
        })
        .collect();
    let spilled_some = || async {
        let count = spilled(&database).await.len();
        (count > 100).then_some(()).ok_or(count)
    };
    parts.kill(Part::Kafka).await;
    eventually("spilling", LIMIT, spilled_some).await;
    parts.start(Part::Kafka).await;
    eventually("not spilling", LIMIT, || async {
        let spilling = metric(&gateway, "tidegate_ingest_spilling").await;
        (spilling == Some(0.0)).then_some(()).ok_or(spilling)
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let mut taken = HashSet::new();
    for client in clients {
        taken.extend(client.await.unwrap());
    }
    assert!(!taken.is_empty());
    let mut held: HashSet<String> = spilled(&database).await.into_iter().collect();
    held.extend(gateway.ids(BACKEND).await);
    let lost = taken.difference(&held).count();
    assert_eq!(lost, 0, "of {}", taken.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_starts_without_kafka_and_browsers_spill_where_they_may() {
    let database = database().await;
    // Nobody listens on port 9 of loopback.
    let service = TestService::builder("ingest")
        .env("KAFKA_BROKERS", "127.0.0.1:9")
        .database(&database)
        .env("SPILL_FRONTEND", true)
        .start()
        .await;
    let client = reqwest::Client::new();
    for path in ["/api/frontend/events", "/api/events"] {
        let answer = client.post(service.url(path)).body(EVENT).send().await;
        assert!(answer.unwrap().status().is_success(), "{path}");
    }
    assert_eq!(spilled(&database).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_both_away_the_answer_is_503() {
    let service = TestService::builder("ingest")
        .env("KAFKA_BROKERS", "127.0.0.1:9")
        .env("DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
        .spawn();
    eventually("HTTP", LIMIT, || reqwest::get(service.url("/health"))).await;
    let post = || {
        reqwest::Client::new()
            .post(service.url("/api/events"))
            .body(EVENT)
            .send()
    };
    let answer = post().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    eventually_eq(
        "the reason",
        "down, and PostgreSQL cannot be reached".to_owned(),
        || async {
            let ready = reqwest::get(service.url("/ready")).await?.text().await?;
            let ready: Value = serde_json::from_str(&ready)?;
            let detail = &ready["checks"]["kafka"]["detail"];
            Ok(detail.as_str().unwrap_or_default().to_owned())
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_can_be_turned_off() {
    let database = database().await;
    let service = TestService::builder("ingest")
        .env("KAFKA_BROKERS", "127.0.0.1:9")
        .database(&database)
        .env("SPILL", "off")
        .spawn();
    eventually("HTTP", LIMIT, || reqwest::get(service.url("/health"))).await;
    let answer = reqwest::Client::new()
        .post(service.url("/api/events"))
        .body(EVENT)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(spilled(&database).await.len(), 0);
}
