//! The note of what is stored and not told, on a real Redis that may hold still: from being left to
//! being taken back, by its owner or by whoever comes after a crash.

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

/// A processor that stores and tells.
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
        let untold = Untold::new(world.db.clone(), bridge.direct_input());
        let store = world.drain_telling(None, Some((bridge.direct_input(), Arc::new(untold))));
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

    /// Events of a user that nobody has yet; returns when all are told.
    async fn told(&self, world: &World, user: &str, count: usize) {
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

async fn untold(world: &World) -> i64 {
    world.count("untold").await
}

async fn wait_taken_back(world: &World) {
    eventually_eq("notes", 0, || world.fresh.count("untold")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_comes_after_a_crash_tells_of_a_gap_and_nobody_else() {
    let world = World::new(&Parts::shared().await).await;
    let listeners = Listeners::on(Parts::private_of(&[Part::Redis]).await);
    let killed = listeners.start(&world);
    listeners.told(&world, "before", 200).await;
    // Quiet: nothing is left that a crash could lose.
    wait_taken_back(&world).await;
    let gaps = listeners.gaps().await;

    let paused = listeners.parts.pause(Part::Redis).await;
    let records: Vec<_> = (1..=200).map(|n| world.event(n, "a.b")).collect();
    world.publish(&records).await;
    world.wait_until_empty().await;
    assert_eq!(world.count("events").await, 400, "storing does not wait");
    let noted = untold(&world).await;
    assert!(noted > 0);
    // Its connections end with it; what it dropped is forgotten.
    drop(killed);
    drop(paused);
    assert_eq!(untold(&world).await, noted);

    let next = listeners.start(&world);
    listeners.told(&world, "after", 200).await;
    wait_taken_back(&world).await;
    assert_eq!(listeners.gaps().await, gaps + 1);
    listeners.told(&world, "end", 200).await;
    next.stop().await;
    assert_eq!(untold(&world).await, 0, "in good order");

    let last = listeners.start(&world);
    listeners.told(&world, "again", 200).await;
    last.stop().await;
    assert_eq!(listeners.gaps().await, gaps + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_dropped_stays_noted_until_it_is_told() {
    let world = World::new(&Parts::shared().await).await;
    let listeners = Listeners::on(Parts::private_of(&[Part::Redis]).await);
    let stopped = listeners.start(&world);
    listeners.told(&world, "before", 200).await;
    let gaps = listeners.gaps().await;

    let paused = listeners.parts.pause(Part::Redis).await;
    let records: Vec<_> = (1..=200).map(|n| world.event(n, "a.b")).collect();
    world.publish(&records).await;
    world.wait_until_empty().await;
    // An orderly end while nobody can be told: it must not look as if everybody were.
    stopped.stop().await;
    assert!(untold(&world).await > 0);
    let next = listeners.start(&world);
    drop(paused);
    listeners.told(&world, "after", 200).await;
    wait_taken_back(&world).await;
    assert!(listeners.gaps().await > gaps);
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_that_change_hands_in_order_alarm_nobody() {
    let parts = Parts::shared().await;
    let world = World::new(&parts).await;
    let listeners = Listeners::on(parts);
    let one = listeners.start(&world);
    listeners.told(&world, "first", 200).await;
    let gaps = listeners.gaps().await;
    let other = listeners.start(&world);
    // Its notes are fresh all the time.
    for n in 0.. {
        listeners.told(&world, &format!("both{n}-"), 100).await;
        if other.store.0.assigned().len() == 8 {
            break;
        }
    }
    assert!(untold(&world).await > 0);
    listeners.told(&world, "more", 200).await;
    one.stop().await;
    for n in 0.. {
        listeners.told(&world, &format!("other{n}-"), 100).await;
        if other.store.0.assigned().len() == 16 {
            break;
        }
    }
    listeners.told(&world, "last", 200).await;
    other.stop().await;
    assert_eq!(listeners.gaps().await, gaps);
    assert_eq!(untold(&world).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notes_survive_a_restart_of_postgres_and_are_taken_back() {
    let parts = Parts::private_of(&[Part::Postgres]).await.or_shared().await;
    let world = World::new(&parts).await;
    let listeners = Listeners::on(parts);
    let running = listeners.start(&world);
    listeners.told(&world, "before", 200).await;
    let gaps = listeners.gaps().await;
    listeners.parts.stop_postgres_immediately().await;
    listeners.parts.start(Part::Postgres).await;
    eventually("the log", LIMIT, || async {
        world.log.connected().then_some(()).ok_or("not connected")
    })
    .await;
    listeners.told(&world, "after", 200).await;
    wait_taken_back(&world).await;
    assert_eq!(listeners.gaps().await, gaps, "its own notes alarm nobody");
    running.stop().await;
}
