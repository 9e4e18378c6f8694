use std::time::Duration;

use serde_json::json;
use testkit::{LIMIT, Part, Parts, TestService};

use crate::world::{Answer, World};

/// Waits until `check` holds.
async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let ended = tokio::time::timeout(LIMIT, waiting).await;
    assert!(ended.is_ok(), "{what}: not within {LIMIT:?}");
}

async fn get(service: &TestService, path: &str) -> Answer {
    Answer::of(reqwest::get(service.url(path)).await.unwrap()).await
}

#[tokio::test]
async fn without_postgres_it_lives_says_so_and_recovers_by_itself() {
    let parts = Parts::private_of(&[Part::Postgres]).await;
    let database = parts.fresh_database().await;
    let service = TestService::builder("query")
        .database(&database)
        .env("CACHE_STATISTICS_MS", 0)
        .start()
        .await;
    get(&service, "/api/v1/events/stats").await.ok();

    parts.stop_postgres_immediately().await;
    for path in ["stats", "history", "some-id", "user/u", "dead-letters"] {
        let answer = get(&service, &format!("/api/v1/events/{path}")).await;
        assert_eq!(answer.problem(503), "Event store not available");
        assert!(answer.header("retry-after").parse::<u32>().unwrap() > 0);
        get(&service, "/health").await.ok();
    }
    until("/ready tells", async || {
        let ready = get(&service, "/ready").await;
        ready.status == 503 && ready.body["checks"]["postgres"]["ok"] == false
    })
    .await;

    parts.start(Part::Postgres).await;
    // The first question after the start is answered: dead connections are not used twice.
    get(&service, "/api/v1/events/stats").await.ok();
    until("/ready tells", async || {
        get(&service, "/ready").await.status == 200
    })
    .await;
}

#[tokio::test]
async fn it_starts_before_postgres_and_migrates_when_it_comes() {
    let parts = Parts::private_of(&[Part::Postgres]).await;
    let database = parts.fresh_database().await;
    parts.stop(Part::Postgres).await;
    let mut service = TestService::builder("query").database(&database).spawn();
    until("it answers", async || {
        matches!(reqwest::get(service.url("/health")).await, Ok(answer) if answer.status() == 200)
    })
    .await;
    assert_eq!(get(&service, "/ready").await.status, 503);
    get(&service, "/api/v1/events/stats").await.problem(503);
    parts.start(Part::Postgres).await;
    service.wait_ready().await;
    assert_eq!(
        get(&service, "/api/v1/events/stats").await.ok()["total_events"],
        0
    );
    assert!(service.terminate().await.success());
}

#[tokio::test]
async fn a_question_that_takes_too_long_is_ended() {
    let world = World::start_with(&[("QUERY_TIMEOUT_SECONDS", "1")]).await;
    world.insert(&[json!({})]).await;
    let mut client = world.database.connect().await.unwrap();
    let lock = client.transaction().await.unwrap();
    lock.batch_execute("lock table events in access exclusive mode")
        .await
        .unwrap();
    let answer = world.query(&json!({})).await;
    assert!(answer.problem(503).contains("longer than 1 seconds"));
    assert!(!answer.header("retry-after").is_empty());
    world.get("/health").await.ok();
    lock.rollback().await.unwrap();
    until("it answers again", async || {
        let answer = world.query(&json!({})).await;
        answer.status == 200 && answer.body["total"] == 1
    })
    .await;
}

#[tokio::test]
async fn wrong_settings_are_named_and_refused() {
    let mut service = TestService::builder("query")
        .env("QUERY_TIMEOUT_SECONDS", "never")
        .env("DB_POOL_SIZE", "0")
        .spawn();
    until("it ends", async || service.exited().is_some()).await;
    assert_eq!(service.exited().unwrap().code(), Some(2));
    let log = service.log();
    for name in ["QUERY_TIMEOUT_SECONDS", "never", "DB_POOL_SIZE"] {
        assert!(log.contains(name), "{log}");
    }
}
