//! Moving from one shape to the other and back under load, as docs/operating.md describes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;
use testkit::{Database, LIMIT, Parts, ServiceBuilder, TestService, eventually};

use crate::command::post;

const OPERATING: &str = include_str!("../../../../docs/operating.md");

/// A query of the document, by its beginning.
fn query(beginning: &str) -> &'static str {
    let mut spans = OPERATING
        .split('`')
        .filter(|span| span.starts_with(beginning));
    spans.next().expect(beginning)
}

/// Without the search path that only `dev` gives its user.
async fn ask(database: &Database, query: &str) -> Result<i64, String> {
    let connected = tokio_postgres::connect(&database.url, tokio_postgres::NoTls).await;
    let (client, connection) = connected.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    let row = client
        .query_one(&format!("select ({query})::int8"), &[])
        .await;
    row.map(|row| row.get(0))
        .map_err(|error| format!("{query}: {error:?}"))
}

/// Sends one event after the other to `address`, each until it is accepted.
async fn send(
    address: Arc<std::sync::Mutex<String>>,
    stop: Arc<AtomicBool>,
    taken: Arc<AtomicUsize>,
) {
    let client = reqwest::Client::new();
    while !stop.load(Ordering::Relaxed) {
        let event = json!({"event_type": "moved", "event_id": uuid::Uuid::now_v7()}).to_string();
        loop {
            let url = address.lock().unwrap().clone();
            let answer = client.post(url).body(event.clone()).send().await;
            if answer.is_ok_and(|answer| answer.status() == 202) {
                taken.fetch_add(1, Ordering::Relaxed);
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

async fn taken_beyond(taken: &AtomicUsize, more: usize) {
    let before = taken.load(Ordering::Relaxed);
    eventually("more are taken", LIMIT, || async {
        let now = taken.load(Ordering::Relaxed);
        (now >= before + more).then_some(()).ok_or(now)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_postgres_alone_to_kafka_and_back_nothing_is_lost_or_doubled() {
    let parts = Parts::shared().await;
    let database = parts.fresh_database().await;
    let prefix = testkit::topic_prefix();
    let alone = || -> ServiceBuilder {
        TestService::builder("tidegate")
            .arg("serve")
            .database(&database)
    };
    let mut old = alone().start().await;
    let address = Arc::new(std::sync::Mutex::new(old.url("/api/v1/events")));
    let (stop, taken) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let clients: Vec<_> = (0..3)
        .map(|_| tokio::spawn(send(address.clone(), stop.clone(), taken.clone())))
        .collect();
    taken_beyond(&taken, 100).await;

    // Prepare, switch, drain.
    let mut new = alone()
        .parts(&parts)
        .env("KAFKA_TOPIC_PREFIX", &prefix)
        .env("SSE_PREFIX", format!("{prefix}user:"))
        .start()
        .await;
    taken_beyond(&taken, 100).await;
    *address.lock().unwrap() = new.url("/api/v1/events");
    taken_beyond(&taken, 100).await;
    assert!(old.terminate().await.success());
    eventually("the log is empty", LIMIT, || async {
        match ask(&database, query("select count(*) from event.event_log")).await {
            Ok(0) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    taken_beyond(&taken, 100).await;

    // And back, which is the same.
    old.restart().await;
    *address.lock().unwrap() = old.url("/api/v1/events");
    taken_beyond(&taken, 100).await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let last = post(&old, &json!({"event_type": "moved"})).await.unwrap();
    crate::command::stored(&old, &last).await;

    // Verify.
    let expected = i64::try_from(taken.load(Ordering::Relaxed)).unwrap() + 1;
    for query in [
        query("select count(*) from event.events"),
        query("select sum(count) from event.aggregated_events"),
    ] {
        eventually("all are there", LIMIT, || async {
            match ask(&database, query).await {
                Ok(count) if count == expected => Ok(()),
                other => Err((other, expected)),
            }
        })
        .await;
    }
    assert!(new.terminate().await.success());
    assert_eq!(
        ask(&database, query("select count(*) from event.events")).await,
        Ok(expected)
    );
}
