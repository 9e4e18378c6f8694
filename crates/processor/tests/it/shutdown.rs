//! A bridge that is stopped in order while it works.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::world::{BACKEND, World, events, wait};

const USERS: usize = 20;

/// The totals that the bridge logged at each stop.
fn ends(log: &str) -> Vec<Value> {
    log.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["message"] == "bridge stopped")
        .map(|line| serde_json::from_str(line["events"].as_str().unwrap()).unwrap())
        .collect()
}

/// The fence in Redis would hide a stop that forgets to commit: the records would be read again,
/// and refused there. So what counts is that none is read again.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_under_load_repeats_and_misses_nothing() {
    const STOPS: usize = 3;
    let world = Arc::new(World::shared().await);
    // Neither number nor time makes it commit: only the stop does.
    let mut bridge = world
        .bridge()
        .env("BRIDGE_COMMIT_RECORDS", 1_000_000)
        .env("BRIDGE_COMMIT_INTERVAL_SECONDS", 3_600)
        .start()
        .await;
    let (sent, enough) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let load = tokio::spawn({
        let (world, sent, enough) = (Arc::clone(&world), Arc::clone(&sent), Arc::clone(&enough));
        async move {
            while !enough.load(Ordering::Relaxed) {
                let first = sent.load(Ordering::Relaxed);
                let batch = (first..first + 500).map(|n| {
                    json!({"event_type": "a.b", "user_id": format!("u{}", n % USERS), "data": {"n": n}})
                });
                world.send(BACKEND, batch).await;
                sent.store(first + 500, Ordering::Relaxed);
            }
        }
    });
    for _ in 0..STOPS {
        wait("some work", |n| n >= 500.0, || events(&bridge, "published")).await;
        assert!(bridge.terminate().await.success());
        bridge.restart().await;
    }
    enough.store(true, Ordering::Relaxed);
    load.await.unwrap();
    let sent = sent.load(Ordering::Relaxed);
    let earlier: u64 = ends(&bridge.log())
        .iter()
        .map(|end| end["published"].as_u64().unwrap())
        .sum();
    let left = sent as f64 - earlier as f64;
    wait("the rest", |n| n >= left, || events(&bridge, "published")).await;
    assert!(bridge.terminate().await.success());

    let ends = ends(&bridge.log());
    assert_eq!(ends.len(), STOPS + 1);
    let total = |what: &str| -> u64 { ends.iter().map(|end| end[what].as_u64().unwrap()).sum() };
    assert_eq!(total("published"), sent as u64, "{ends:?}");
    assert_eq!(total("consumed"), sent as u64, "none twice: {ends:?}");
    assert_eq!(total("duplicate"), 0, "{ends:?}");
    for user in 0..USERS {
        let messages = world.channel(&format!("u{user}")).await.unwrap();
        let numbers: Vec<_> = messages
            .iter()
            .map(|message| message.data["payload"]["n"].as_u64().unwrap() as usize)
            .collect();
        let kept: Vec<_> = (user..sent).step_by(USERS).collect();
        // The channel keeps the last ones only.
        assert_eq!(numbers, kept[kept.len() - numbers.len()..], "user {user}");
    }
}
