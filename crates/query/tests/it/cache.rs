//! Answers that many ask for are read once for all of them.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use testkit::{LIMIT, Part, Parts, TestService, eventually, eventually_eq};

use crate::world::{Answer, PREFIXES, World, numbers};

const STATS: &str = "/api/v1/events/stats";

async fn get(service: &TestService, path: &str) -> Value {
    Answer::of(reqwest::get(service.url(path)).await.unwrap())
        .await
        .ok()
}

/// How often that was read from PostgreSQL.
async fn reads(service: &TestService, what: &str) -> u64 {
    let metrics = reqwest::get(service.url("/metrics")).await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let name = format!("tidegate_query_read_duration_seconds_count{{read=\"{what}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
    line.map_or(0, |count| count.parse().unwrap())
}

/// 200 readers who ask a few times each.
async fn readers(services: &[&TestService], path: &str) {
    let client = reqwest::Client::new();
    let all = (0..200).map(|n| {
        let (client, service) = (client.clone(), services[n % services.len()]);
        async move {
            for _ in 0..5 {
                let answer = client.get(service.url(path)).send().await.unwrap();
                assert_eq!(Answer::of(answer).await.ok()["total_events"], 2);
            }
        }
    });
    futures_util::future::join_all(all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_200_readers_at_two_services_one_reads_the_statistics() {
    let world = World::start_with(&[("CACHE_STATISTICS_MS", "60000")]).await;
    let parts = Parts::shared().await;
    let other = TestService::builder("query")
        .database(&world.database)
        .parts(&parts)
        .env("CACHE_STATISTICS_MS", 60_000)
        .start()
        .await;
    world.insert(&[json!({}), json!({})]).await;
    readers(&[&world.service, &other], STATS).await;
    let all = reads(&world.service, "statistics").await + reads(&other, "statistics").await;
    // One, and a few more where Redis is slow to answer on a busy machine: of a thousand.
    assert!((1..50).contains(&all), "{all}");
    // Other questions and other tenants' are other answers.
    assert_eq!(
        get(&other, &format!("{STATS}?user_id=u")).await["total_events"],
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_each_process_keeps_its_own_and_answers_all_the_same() {
    let parts = Parts::private_of(&[Part::Redis]).await.or_shared().await;
    let database = parts.fresh_database().await;
    let service = TestService::builder("query")
        .database(&database)
        .parts(&parts)
        .env("CACHE_STATISTICS_MS", 60_000)
        .start()
        .await;
    parts.kill(Part::Redis).await;
    let client = database.connect().await.unwrap();
    client
        .batch_execute(
            "insert into aggregated_events (event_type, date, count) values ('a', '2026-01-01', 2)",
        )
        .await
        .unwrap();
    readers(&[&service], STATS).await;
    assert_eq!(reads(&service, "statistics").await, 1);
    // Redis is used again once it is back.
    parts.start(Part::Redis).await;
    let (service, asked) = (&service, AtomicUsize::new(0));
    eventually("an answer is found in Redis", LIMIT, || async {
        let path = format!("{STATS}?user_id={}", asked.fetch_add(1, Ordering::SeqCst));
        get(service, &path).await;
        get(service, &path).await;
        let metrics = reqwest::get(service.url("/metrics")).await.unwrap();
        let metrics = metrics.text().await.unwrap();
        let none = r#"tidegate_query_cache_answers_total{kind="statistics",result="shared"} 0"#;
        (!metrics.contains(none)).then_some(()).ok_or(path)
    })
    .await;
}

#[tokio::test]
async fn what_was_stored_is_recent_at_once() {
    let world = World::start().await;
    let event = |n: usize| {
        let (event_type, user) = (["a", "b"][n % 2], ["u", "v", "w"][n % 3]);
        json!({"event_type": event_type, "user_id": user, "timestamp": format!("2026-03-01T00:00:{n:02}Z")})
    };
    world.insert(&(0..30).map(event).collect::<Vec<_>>()).await;
    for prefix in PREFIXES {
        for (question, want) in [
            ("", (10..30).rev().collect::<Vec<_>>()),
            ("?limit=2", vec![29, 28]),
            ("?event_type=a&limit=3", vec![28, 26, 24]),
            ("?event_type=b&user_id=v&limit=2", vec![25, 19]),
            ("?user_id=nobody", vec![]),
        ] {
            let list = world.get(&format!("{prefix}/recent{question}")).await.ok();
            assert_eq!(numbers(&list), want, "{question}");
        }
    }
    let answer = world.get("/api/v1/events/recent?event_type=%20").await;
    answer.problem(400);
    let answer = world.get("/api/v1/events/recent?limit=0").await;
    assert!(answer.problem(422).contains("limit"));
    let newest = json!({"event_id": "00000000-0000-7000-8000-000000000099", "timestamp": "2026-03-02T00:00:00Z"});
    world.insert(&[newest]).await;
    eventually_eq("it is recent", vec![99], || async {
        let list = world.get("/api/v1/events/recent?limit=1").await.ok();
        Ok(numbers(&list))
    })
    .await;
}

#[tokio::test]
async fn a_projection_is_kept_where_that_is_wanted() {
    for (kept, second) in [("0", 2), ("60000", 1)] {
        let world = World::start_with(&[("CACHE_PROJECTIONS_MS", kept)]).await;
        let client = world.database.connect().await.unwrap();
        client
            .batch_execute(
                r#"with made as (insert into projection_definitions
                    (tenant_id, name, version, entity_type, event_types, fold, state)
                    values ('default', 'orders', 1, 'order', '{*}', '{}', 'live') returning id)
                insert into event_projections (projection_name, entity_id, entity_type, state,
                    tenant_id, definition, definition_version)
                select 'orders', '7', 'order', '{"n": 1}', 'default', id, 1 from made"#,
            )
            .await
            .unwrap();
        let read = async || {
            let path = "/api/v1/events/projections/order/7";
            world.get(path).await.ok()["state"]["n"].clone()
        };
        assert_eq!(read().await, 1);
        let change = r#"update event_projections set state = '{"n": 2}'"#;
        client.batch_execute(change).await.unwrap();
        assert_eq!(read().await, second, "kept for {kept} ms");
    }
}
