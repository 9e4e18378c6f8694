//! A dead Redis hurts nobody but the live streams, and those are told.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::{LIMIT, Part, SseStream, eventually};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::direct::flood;
use crate::live::feed::{Feed, user};
use crate::live::listener::Listener;
use crate::live::{CLOSED, OPEN, breaker_state, breaker_transitions};
use crate::system::System;
use crate::world::{BACKEND, PATIENCE, World, alone, sum};

const USERS: usize = 100;
const CLIENTS: usize = 20;
/// Between two events of each user: 1,000 events a second, which storing could overtake easily.
const ROUND: Duration = Duration::from_millis(100);
/// How long Redis is away, and how long it is there for comparison.
const OUTAGE: Duration = Duration::from_secs(20);
/// A machine that does something else for a second spoils a comparison: the best one counts.
const TRIES: usize = 3;

/// A load at a steady pace.
struct Load<'a> {
    world: &'a World,
    feed: Feed,
}

impl Load<'_> {
    /// What falls behind is made up for, so that the pace is that of the plan.
    async fn go_on(&mut self, how_long: Duration) {
        let mut rounds = tokio::time::interval(ROUND);
        let end = Instant::now() + how_long;
        while Instant::now() < end {
            rounds.tick().await;
            self.feed.round(self.world).await;
        }
    }

    async fn stored(&self) -> i64 {
        self.world.database.count("event_ids").await.unwrap()
    }

    /// Waits until everything acknowledged is stored.
    async fn catch_up(&self) {
        let acknowledged = i64::try_from(self.feed.last * USERS as u64).unwrap();
        eventually("everything is stored", PATIENCE, || async {
            let now = self.stored().await;
            if now == acknowledged {
                Ok(())
            } else {
                Err(now)
            }
        })
        .await;
    }

    /// What is stored within that time; comes back when the rest is too.
    async fn window(&mut self) -> i64 {
        self.catch_up().await;
        let before = self.stored().await;
        self.go_on(OUTAGE).await;
        let within = self.stored().await - before;
        self.catch_up().await;
        within
    }
}

async fn wait_breaker(system: &System, wanted: f64) {
    eventually("the breaker's state", LIMIT, || async {
        let state = breaker_state(system).await;
        if state == wanted { Ok(()) } else { Err(state) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn storing_goes_on_and_listeners_are_told() {
    let _turn = alone().await;
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
    load.go_on(Duration::from_secs(3)).await;
    let before_the_outage = load.feed.last;
    for listener in &mut listeners {
        listener.read_up_to(before_the_outage).await;
        listener.assert_complete(before_the_outage);
    }
    let old_ids: Vec<String> = listeners.iter().map(|l| l.last_event_id.clone()).collect();

    for attempt in 1.. {
        let with_redis = load.window().await;
        assert_eq!(breaker_state(&system).await, CLOSED);
        world.parts.stop(Part::Redis).await;
        let (without, ()) = tokio::join!(load.window(), wait_breaker(&system, OPEN));
        println!("stored in {OUTAGE:?}: {with_redis}, without Redis {without}");
        // It is probed meanwhile, in vain.
        eventually("probes", LIMIT, || async {
            let probes = breaker_transitions(&system, "half_open").await;
            if probes >= 2.0 { Ok(()) } else { Err(probes) }
        })
        .await;
        assert_ne!(breaker_state(&system).await, CLOSED);
        if without * 100 >= with_redis * 95 {
            break;
        }
        assert!(attempt < TRIES, "{without} instead of {with_redis}");
        world.parts.start(Part::Redis).await;
        wait_breaker(&system, CLOSED).await;
    }
    let metrics = system.processor_url("/metrics");
    let dropped = [("status", "dropped")];
    assert!(sum(&metrics, "eventbridge_events_total", &dropped).await > 0.0);

    // Nobody has to send anything for it to close again.
    world.parts.start(Part::Redis).await;
    wait_breaker(&system, CLOSED).await;
    assert!(breaker_transitions(&system, "closed").await >= 1.0);

    // Everyone is told, over the connection he has, and goes on with what is sent from now on.
    load.go_on(Duration::from_secs(2)).await;
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

/// Flat out, a share of the machine that goes to waiting for Redis would show.
#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_stored_as_fast_while_redis_hangs() {
    const BACKLOG: i64 = 30_000;
    /// Of each kind; the fastest counts, for a busy machine only ever slows down.
    const DRAINS: usize = 8;
    let _turn = alone().await;
    let world = World::with_own(&[Part::Redis]).await;
    let system = world
        .system()
        .env("REDIS_TIMEOUT_MS", 1_000)
        .env("BREAKER_RECOVERY_TIMEOUT", 1)
        // It holds still while the backlog builds up, and keeps its partitions.
        .env("KAFKA_SESSION_TIMEOUT_MS", 60_000)
        .start()
        .await;
    let metrics = system.processor_url("/metrics");
    let bridged = async |status: &str| {
        let status = [("status", status)];
        sum(&metrics, "eventbridge_events_total", &status).await
    };
    let client = world.database.connect().await.unwrap();
    let mut fastest = [Duration::MAX; 2];
    for drain in 1..=2 * DRAINS {
        let hangs = drain % 2 == 0;
        let published = bridged("published").await;
        system.processor().pause();
        let records = (0..BACKLOG).map(|n| {
            let (id, user) = (Uuid::now_v7(), user(usize::try_from(n).unwrap() % USERS));
            let event = json!({"event_id": id, "event_type": "a.b", "user_id": user, "data": {}});
            (user, event.to_string())
        });
        tokio::task::block_in_place(|| flood(&world, BACKEND, records));
        let redis = match hangs {
            true => Some(world.parts.pause(Part::Redis).await),
            false => None,
        };
        system.processor().resume();
        let began = Instant::now();
        let all = BACKLOG * i64::try_from(drain).unwrap();
        let draining = async {
            let sql = "select coalesce(sum(count), 0)::bigint from aggregated_events";
            while client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) < all {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, draining)
            .await
            .expect("the backlog is stored");
        let took = began.elapsed();
        println!(
            "drained in {took:?}{}",
            if hangs { ", while Redis hangs" } else { "" }
        );
        let best = &mut fastest[usize::from(hangs)];
        *best = took.min(*best);
        if hangs {
            assert_eq!(bridged("published").await, published, "Redis hangs");
        }
        drop(redis);
        // What the bridge has left to do is not in the way of the next one.
        eventually("the bridge is through", PATIENCE, || async {
            let mut through = 0.0;
            for status in ["published", "duplicate", "dropped", "failed"] {
                through += bridged(status).await;
            }
            if through >= all as f64 {
                Ok(())
            } else {
                Err(through)
            }
        })
        .await;
        wait_breaker(&system, CLOSED).await;
        let [with_redis, without] = fastest;
        // The first ones are for the connections.
        if drain >= 6 && without.as_secs_f64() * 0.95 <= with_redis.as_secs_f64() {
            return;
        }
    }
    panic!("with Redis, and while it hangs: {fastest:?}");
}
