//! With Redis the listeners stay connected while the one process is killed. What it had stored but not
//! delivered then comes to them as a reset.

use testkit::{Part, TestService, eventually};
use tokio::task::JoinSet;

use crate::live::feed::{Feed, user};
use crate::live::listener::Listener;
use crate::world::{PATIENCE, World, beside_others};

const USERS: usize = 100;
const KILLS: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn listeners_are_told_what_a_killed_process_had_stored_and_not_told() {
    let _turn = beside_others().await;
    let world = World::with_own(&[Part::Redis]).await;
    let redis = world.parts.redis_url.clone();
    let system = world.system().env("REDIS_URL", &redis);
    let mut system = system.env("REDIS_TIMEOUT_MS", 300).start().await;
    let query = TestService::builder("query").database(&world.database);
    let query = query.env("REDIS_URL", &redis).start().await;
    let mut listeners = Vec::new();
    for number in 0..USERS {
        listeners.push(Listener::begin(&query.url(""), &user(number)).await);
    }
    let mut feed = Feed::new(system.ingest_url(""), USERS);
    let stored = async |wanted: u64| {
        let wanted = i64::try_from(wanted).unwrap();
        eventually("events are stored", PATIENCE, || async {
            match world.database.count("event_ids").await {
                Ok(count) if count >= wanted => Ok(()),
                other => Err(other),
            }
        })
        .await;
    };
    for kill in 0..KILLS {
        feed.round(&world).await;
        if kill % 2 == 0 {
            stored(USERS as u64 * feed.last).await;
            // From here on it stores, and cannot tell.
            let paused = world.parts.pause(Part::Redis).await;
            for _ in 0..3 {
                feed.round(&world).await;
            }
            // First with what it tries to tell, then with what it has dropped.
            let waits = if kill % 4 == 0 { 1 } else { 3 };
            stored(USERS as u64 * (feed.last - 3 + waits)).await;
            system.processor_mut().kill();
            drop(paused);
        } else {
            // Somewhere in between.
            system.processor_mut().kill();
        }
        // What is sent meanwhile is sent again until it is taken; each event is stored once.
        let ((), ()) = tokio::join!(system.processor_mut().restart(), feed.round(&world));
    }
    feed.round(&world).await;
    let mut reading = JoinSet::new();
    for mut listener in listeners {
        let last = feed.last;
        reading.spawn(async move {
            listener.read_up_to(last).await;
            let reasons = listener.assert_told(last);
            assert!(reasons.iter().all(|reason| reason == "gap"), "{reasons:?}");
            reasons.len()
        });
    }
    let resets = reading.join_all().await;
    assert!(resets.iter().all(|resets| *resets >= 1), "{resets:?}");
    let sent = i64::try_from(USERS as u64 * feed.last).unwrap();
    testkit::eventually_eq("stored events", sent, || world.database.count("event_ids")).await;
    // Quiet: another kill would lose nothing.
    testkit::eventually_eq("partitions not delivered", 0, || {
        world.database.count("log_positions where live < stored")
    })
    .await;
}
