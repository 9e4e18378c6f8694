//! Without Redis events are stored as before, and listeners are told of what they missed. How fast
//! they are stored meanwhile is measured by `make bench`.

use std::time::Duration;

use serde_json::json;
use testkit::{LIMIT, Part, SseStream, eventually, eventually_eq};
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use crate::direct::flood;
use crate::live::feed::{Feed, user};
use crate::live::listener::Listener;
use crate::live::{CLOSED, OPEN, breaker_state, breaker_transitions};
use crate::system::System;
use crate::world::{BACKEND, PATIENCE, World, beside_others, soak, sum};

const USERS: usize = 100;
const CLIENTS: usize = 20;
/// Between two events of each user: 1,000 events a second.
const ROUND: Duration = Duration::from_millis(100);

/// A load at a steady pace.
struct Load<'a> {
    world: &'a World,
    feed: Feed,
}

impl Load<'_> {
    async fn go_on(&mut self, seconds: u64) {
        let mut rounds = tokio::time::interval(ROUND);
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end {
            rounds.tick().await;
            self.feed.round(self.world).await;
        }
    }

    /// Waits until everything acknowledged is stored.
    async fn catch_up(&self) {
        let acknowledged = i64::try_from(self.feed.last * USERS as u64).unwrap();
        eventually("everything is stored", PATIENCE, || async {
            match self.world.database.count("event_ids").await {
                Ok(stored) if stored == acknowledged => Ok(()),
                other => Err(other),
            }
        })
        .await;
    }
}

async fn wait_breaker(system: &System, wanted: f64) {
    eventually_eq("the breaker's state", wanted, || async {
        Ok(breaker_state(system).await)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn storing_goes_on_and_listeners_are_told() {
    let _turn = beside_others().await;
    let world = World::with_own(&[Part::Redis]).await;
    let system = world
        .system()
        .env("BREAKER_RECOVERY_TIMEOUT", 2)
        .start()
        .await;
    let base = system.query_url("");
    let mut listeners = Vec::new();
    for client in 0..CLIENTS {
        listeners.push(Listener::begin(&base, &user(client * 5)).await);
    }
    let feed = Feed::over_http(system.ingest_url(""), USERS, 100);
    let world = &world;
    let mut load = Load { world, feed };
    load.go_on(3).await;
    let before_the_outage = load.feed.last;
    for listener in &mut listeners {
        listener.read_up_to(before_the_outage).await;
        listener.assert_complete(before_the_outage);
    }
    let old_ids: Vec<String> = listeners.iter().map(|l| l.last_event_id.clone()).collect();
    assert_eq!(breaker_state(&system).await, CLOSED);

    // Everything acknowledged meanwhile is stored while Redis is still away.
    world.parts.stop(Part::Redis).await;
    tokio::join!(load.go_on(soak(5, 60)), wait_breaker(&system, OPEN));
    load.catch_up().await;
    // It is probed meanwhile, in vain.
    eventually("probes", LIMIT, || async {
        let probes = breaker_transitions(&system, "half_open").await;
        if probes >= 2.0 { Ok(()) } else { Err(probes) }
    })
    .await;
    assert_ne!(breaker_state(&system).await, CLOSED);
    let metrics = system.processor_url("/metrics");
    let dropped = [("status", "dropped")];
    assert!(sum(&metrics, "eventbridge_events_total", &dropped).await > 0.0);

    // Nobody has to send anything for it to close again.
    world.parts.start(Part::Redis).await;
    wait_breaker(&system, CLOSED).await;
    assert!(breaker_transitions(&system, "closed").await >= 1.0);

    // Everyone is told, over the connection he has, and goes on with what is sent from now on.
    load.go_on(2).await;
    let last = load.feed.last;
    let mut reading = JoinSet::new();
    for mut listener in listeners {
        reading.spawn(async move {
            listener.read_up_to(last).await;
            listener
        });
    }
    for listener in reading.join_all().await {
        let reasons = listener.assert_told(last);
        assert_eq!(listener.connections, 1);
        assert!(
            !reasons.is_empty() && reasons.iter().all(|r| r == "gap"),
            "{reasons:?}"
        );
    }
    // And so is who was away all the time.
    for (client, id) in old_ids.iter().enumerate() {
        let url = format!("{base}/api/v1/sse/users/{}", user(client * 5));
        let mut stream = SseStream::open(&url, Some(id)).await.unwrap();
        let first = stream.next().await.unwrap().unwrap();
        assert_eq!(first.event, "reset", "{first:?}");
    }
    load.catch_up().await;
}

/// All is stored before the bridge's first command to Redis has failed: a store that waited for the
/// bridge would have stored nothing by then.
#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_stored_while_redis_hangs() {
    const BACKLOG: i64 = 10_000;
    let _turn = beside_others().await;
    let world = World::with_own(&[Part::Redis]).await;
    let system = world.system().env("REDIS_TIMEOUT_MS", 60_000);
    let system = system.env("SSE_HISTORY", "all").start().await;
    let metrics = system.processor_url("/metrics");
    let bridged = async |status: &str| {
        let status = [("status", status)];
        sum(&metrics, "eventbridge_events_total", &status).await
    };
    let redis = world.parts.pause(Part::Redis).await;
    let records = (0..BACKLOG).map(|n| {
        let (id, user) = (Uuid::now_v7(), user(usize::try_from(n).unwrap() % USERS));
        let event = json!({"event_id": id, "event_type": "a.b", "user_id": user, "data": {}});
        (user, event.to_string())
    });
    tokio::task::block_in_place(|| flood(&world, BACKEND, records));
    eventually("the backlog is stored", PATIENCE, || async {
        match world.database.count("event_ids").await {
            Ok(BACKLOG) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    for status in ["published", "dropped", "failed"] {
        assert_eq!(bridged(status).await, 0.0, "{status} while Redis hangs");
    }

    // What waited for Redis is handed to it then.
    drop(redis);
    eventually("the bridge is through", PATIENCE, || async {
        let mut through = 0.0;
        for status in ["published", "duplicate", "dropped", "failed"] {
            through += bridged(status).await;
        }
        if through >= BACKLOG as f64 {
            Ok(())
        } else {
            Err(through)
        }
    })
    .await;
    assert!(bridged("published").await > 0.0);
    wait_breaker(&system, CLOSED).await;
}
