//! A thousand clients that hardly read: they cost little memory and are closed, and the others get
//! every event in order. What they cost the others in time is measured by `make bench`.

use std::time::Duration;

use testkit::{SseStream, eventually};
use tokio::task::JoinSet;

use super::feed::{Feed, user};
use super::listener::Listener;
use crate::system::System;
use crate::world::{PATIENCE, World, alone, sum};

const SLOW: usize = 1_000;
const OTHERS: usize = 20;
/// Thirty-three events of 16 KiB a second: half a megabyte.
const PAUSE: Duration = Duration::from_millis(30);
const BYTES: usize = 16 * 1024;
/// What may wait for one of them: some 190 events.
const QUEUE: u64 = 3 << 20;
/// What a thousand of them may cost together: what the server has ready to write for each, some
/// 100 KiB. A queue of its own for each would be 3 GiB.
const BOUND: u64 = 256 << 20;

async fn wait_closed(metrics: String) {
    let slow = [("reason", "slow")];
    eventually("the slow ones are closed", PATIENCE, || async {
        let closed = sum(&metrics, "tidegate_sse_closed_total", &slow).await;
        if closed == SLOW as f64 {
            Ok(())
        } else {
            Err(closed)
        }
    })
    .await;
}

async fn wait_connections(system: &System, expected: usize) {
    let metrics = system.query_url("/metrics");
    eventually("so many are connected", PATIENCE, || async {
        let connections = sum(&metrics, "tidegate_sse_connections", &[]).await;
        if connections == expected as f64 {
            Ok(())
        } else {
            Err(connections)
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_slow_clients_are_closed_and_the_others_lose_nothing() {
    let _turn = alone().await;
    let world = World::shared().await;
    let system = world
        .system()
        .env("SSE_MAX_CONNECTIONS_PER_USER", 2 * SLOW)
        .env("SSE_QUEUE_BYTES", QUEUE)
        .start()
        .await;
    let base = system.query_url("");
    let mut others = Vec::new();
    for _ in 0..OTHERS {
        others.push(Listener::begin(&base, &user(0)).await);
    }
    let rss = system.query().memory().rss;
    let slow = slow_readers(&base).await;
    wait_connections(&system, OTHERS + SLOW).await;

    // They read all the time; the last event is sent when the slow ones are closed.
    let (sent_last, last) = tokio::sync::watch::channel(None::<u64>);
    let mut reading = JoinSet::new();
    for mut listener in others {
        let mut last = last.clone();
        reading.spawn(async move {
            let last = loop {
                tokio::select! {
                    _ = listener.next() => {}
                    last = last.wait_for(Option::is_some) => break last.unwrap().unwrap(),
                }
            };
            listener.read_up_to(last).await;
            listener.assert_complete(last);
            assert_eq!(listener.connections, 1);
        });
    }
    let mut feed = Feed::over_http(system.ingest_url(""), 1, BYTES);
    let closing = tokio::spawn(wait_closed(system.query_url("/metrics")));
    let mut pace = tokio::time::interval(PAUSE);
    while !closing.is_finished() {
        pace.tick().await;
        feed.round(&world).await;
    }
    closing.await.unwrap();
    feed.round(&world).await;
    sent_last.send(Some(feed.last)).unwrap();
    reading.join_all().await;

    let grown = system.query().memory().peak_rss.saturating_sub(rss);
    println!("query grew by {} MiB at most", grown >> 20);
    assert!(grown < BOUND, "{} MiB", grown >> 20);
    drop(slow);
    wait_connections(&system, 0).await;
}

/// They read a byte a second until they are dropped.
async fn slow_readers(base: &str) -> JoinSet<()> {
    let mut readers = JoinSet::new();
    let url = format!("{base}/api/v1/sse/users/{}", user(0));
    let mut opening = JoinSet::new();
    for _ in 0..SLOW {
        let url = url.clone();
        opening.spawn(async move { SseStream::open_slow(&url).await.unwrap() });
    }
    for mut stream in opening.join_all().await {
        readers.spawn(async move {
            while stream.read_byte().await {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
    }
    readers
}
