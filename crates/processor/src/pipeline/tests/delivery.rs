//! What is stored and not delivered, on a real Redis that may hold still: the positions of delivery
//! stay behind until it is delivered, or until the next process has marked a gap.

use std::collections::HashMap;

use config::Env;
use live::redis::RedisChannels;
use redis::AsyncCommands as _;

use super::*;
use crate::bridge::{Bridge, BridgeParts};
use crate::config::Config;

struct Listeners {
    parts: Parts,
    prefix: String,
}

/// A processor that stores and delivers.
struct Running {
    bridge: Bridge,
    store: (Handle, JoinSet<()>),
}

impl Listeners {
    fn on(parts: Parts) -> Self {
        let prefix = format!("{}sse:", topic_prefix());
        Self { parts, prefix }
    }

    fn start(&self, world: &World) -> Running {
        let env = [
            ("DATABASE_URL", world.fresh.url.as_str()),
            ("REDIS_URL", &self.parts.redis_url),
            ("SSE_PREFIX", &self.prefix),
            ("SSE_HISTORY", "all"),
            ("REDIS_TIMEOUT_MS", "300"),
            ("BREAKER_RECOVERY_TIMEOUT", "1"),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = Config::from_env(&Env::from_map(HashMap::from(env))).unwrap();
        let bridge = Bridge::start(BridgeParts {
            config: &config.bridge,
            limits: config.limits,
            kafka: None,
            channels: Arc::new(RedisChannels::new(config.redis).unwrap()),
            extension: Arc::new(()),
            registry: &Registry::new(),
        })
        .unwrap();
        let store = world.drain_to(None, Some(bridge.direct_input()));
        Running { bridge, store }
    }

    async fn redis(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(self.parts.redis_url.as_str()).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    async fn gaps(&self) -> usize {
        let key = format!("tidegate:sse:gaps:{}", self.prefix);
        self.redis().await.xlen(key).await.unwrap()
    }

    /// Events of a user that nobody has yet; returns when all are delivered.
    async fn delivered(&self, world: &World, user: &str, count: usize) {
        let records: Vec<_> = (0..count)
            .map(|n| {
                let user = format!("{user}{}", n % 20);
                let id = Uuid::new_v4();
                let payload = format!(
                    r#"{{"event_id":"{id}","event_type":"a.b","user_id":"{user}","data":{{}}}}"#
                );
                world.record(&format!("user:{user}"), payload)
            })
            .collect();
        world.publish(&records).await;
        eventually_eq("messages", count, || async {
            let mut redis = self.redis().await;
            let mut all = 0_usize;
            for n in 0..20 {
                let key = format!("{}{user}{n}", self.prefix);
                all += redis.xlen::<_, usize>(key).await?;
            }
            Ok(all)
        })
        .await;
    }
}

impl Running {
    async fn stop(self) {
        World::stop(self.store).await;
        self.bridge.stop(LIMIT).await;
    }
}

/// Partitions of which listeners may not have all that is stored.
const BEHIND: &str = "log_positions where live < stored";

async fn behind(world: &World) -> i64 {
    world.count(BEHIND).await
}

async fn wait_delivered(world: &World) {
    eventually_eq("partitions behind", 0, || world.fresh.count(BEHIND)).await;
}

/// Waits until no consumer holds a partition.
async fn wait_gone(world: &World) {
    let held = "pg_locks where locktype = 'advisory' and objsubid = 2 and database = \
        (select oid from pg_database where datname = current_database())";
    eventually_eq("locks held", 0, || world.fresh.count(held)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_process_after_a_crash_marks_a_gap_and_no_other_does() {
    let world = World::new(&Parts::shared().await).await;
    let listeners = Listeners::on(Parts::private_of(&[Part::Redis]).await);
    let killed = listeners.start(&world);
    listeners.delivered(&world, "before", 200).await;
    // Quiet: nothing is left that a crash could lose.
    wait_delivered(&world).await;
    let gaps = listeners.gaps().await;

    let paused = listeners.parts.pause(Part::Redis).await;
    let records: Vec<_> = (1..=200).map(|n| world.event(n, "a.b")).collect();
    world.publish(&records).await;
    world.wait_until_empty().await;
    assert_eq!(world.count("events").await, 400, "storing does not wait");
    let left = behind(&world).await;
    assert!(left > 0);
    // Its connections end with it; what it dropped is forgotten.
    drop(killed);
    drop(paused);
    wait_gone(&world).await;
    assert_eq!(behind(&world).await, left);

    let next = listeners.start(&world);
    listeners.delivered(&world, "after", 200).await;
    wait_delivered(&world).await;
    assert_eq!(listeners.gaps().await, gaps + 1);
    listeners.delivered(&world, "end", 200).await;
    next.stop().await;
    assert_eq!(behind(&world).await, 0, "in good order");

    let last = listeners.start(&world);
    listeners.delivered(&world, "again", 200).await;
    last.stop().await;
    assert_eq!(listeners.gaps().await, gaps + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_dropped_stays_behind_until_listeners_know() {
    let world = World::new(&Parts::shared().await).await;
    let listeners = Listeners::on(Parts::private_of(&[Part::Redis]).await);
    let stopped = listeners.start(&world);
    listeners.delivered(&world, "before", 200).await;
    let gaps = listeners.gaps().await;

    let paused = listeners.parts.pause(Part::Redis).await;
    let records: Vec<_> = (1..=200).map(|n| world.event(n, "a.b")).collect();
    world.publish(&records).await;
    world.wait_until_empty().await;
    // An orderly end while nothing can be delivered: it must not look as if everything were.
    stopped.stop().await;
    assert!(behind(&world).await > 0);
    let next = listeners.start(&world);
    drop(paused);
    listeners.delivered(&world, "after", 200).await;
    wait_delivered(&world).await;
    assert!(listeners.gaps().await > gaps);
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_handed_over_in_order_mark_no_gap() {
    let parts = Parts::shared().await;
    let world = World::new(&parts).await;
    let listeners = Listeners::on(parts);
    let one = listeners.start(&world);
    listeners.delivered(&world, "first", 200).await;
    let gaps = listeners.gaps().await;
    let other = listeners.start(&world);
    for n in 0.. {
        listeners.delivered(&world, &format!("both{n}-"), 100).await;
        if other.store.0.assigned().len() == 8 {
            break;
        }
    }
    listeners.delivered(&world, "more", 200).await;
    one.stop().await;
    for n in 0.. {
        listeners
            .delivered(&world, &format!("other{n}-"), 100)
            .await;
        if other.store.0.assigned().len() == 16 {
            break;
        }
    }
    listeners.delivered(&world, "last", 200).await;
    other.stop().await;
    assert_eq!(listeners.gaps().await, gaps);
    assert_eq!(behind(&world).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_postgres_marks_no_gap() {
    let parts = Parts::private_of(&[Part::Postgres]).await.or_shared().await;
    let world = World::new(&parts).await;
    let listeners = Listeners::on(parts);
    let running = listeners.start(&world);
    listeners.delivered(&world, "before", 200).await;
    let gaps = listeners.gaps().await;
    listeners.parts.stop_postgres_immediately().await;
    listeners.parts.start(Part::Postgres).await;
    eventually("the log", LIMIT, || async {
        world.log.connected().then_some(()).ok_or("not connected")
    })
    .await;
    listeners.delivered(&world, "after", 200).await;
    wait_delivered(&world).await;
    assert_eq!(
        listeners.gaps().await,
        gaps,
        "its own partitions return to it"
    );
    running.stop().await;
}
