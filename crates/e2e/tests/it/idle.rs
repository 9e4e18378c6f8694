//! Transactions of others that were begun and forgotten.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::eventually_eq;

use crate::world::{World, beside_others, soak};

/// How far a process may grow meanwhile.
const GROWTH: u64 = 64 << 20;

/// Somebody looked at the events, the log and the counts, and went to lunch. Everything is stored
/// meanwhile, events of any time, and nothing piles up.
#[tokio::test(flavor = "multi_thread")]
async fn idle_transactions_on_every_table_stop_nobody() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let system = world
        .system()
        .env("MAX_FUTURE_SECONDS", 100 * 86_400)
        .start()
        .await;
    let idle = world.database.connect().await.unwrap();
    idle.batch_execute(
        "begin; select count(*) from events; select count(*) from event_log; \
         select count(*) from aggregated_events",
    )
    .await
    .unwrap();
    let client = reqwest::Client::new();
    let url = system.ingest_url("/api/v1/events/batch");
    let until = Instant::now() + Duration::from_secs(soak(20, 300));
    let (mut sent, mut memory) = (0_i64, None);
    while Instant::now() < until {
        // Of now, of years ago, and of a day that has no partition yet.
        let now = time::OffsetDateTime::now_utc();
        let batch: Vec<_> = (0..100)
            .map(|n| {
                let days = [0, 0, -700, 90][n % 4];
                let at = now + time::Duration::days(days) - time::Duration::MINUTE;
                let at = domain::timestamp::format(at);
                json!({"event_type": "idle.test", "timestamp": at, "event_id": uuid::Uuid::now_v7()})
            })
            .collect();
        let answer = client.post(&url).json(&batch).send().await.unwrap();
        assert!(
            answer.status().is_success(),
            "{}",
            answer.text().await.unwrap()
        );
        sent += 100;
        // What one batch after the other brings is stored before the next few.
        if sent % 1_000 == 0 {
            eventually_eq("stored events", sent, || world.database.count("event_ids")).await;
        }
        if sent == 10_000 {
            memory = Some(system.processor().memory().rss);
        }
    }
    eventually_eq("events", sent, || world.database.count("events")).await;
    let counted = "select sum(count)::int8 from aggregated_events";
    let counted: i64 = world.database.scalar(counted, &[]).await.unwrap();
    assert_eq!(counted, sent);
    if let Some(before) = memory {
        let now = system.processor().memory().rss;
        assert!(now < before + GROWTH, "{before} bytes, then {now}");
    }
    idle.batch_execute("rollback").await.unwrap();
}
