//! Redis that goes and comes back, a bridge that is killed.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testkit::{Part, Parts, TestService};

use crate::world::{BACKEND, Message, World, events, health, metric, rejected, wait};

fn event(user: &str, n: usize) -> Value {
    json!({"event_type": "a.b", "user_id": user, "data": {"n": n}})
}

fn numbers(messages: &[Message]) -> Vec<u64> {
    let number = |message: &Message| message.data["payload"]["n"].as_u64().unwrap();
    messages.iter().map(number).collect()
}

async fn gaps(world: &World) -> usize {
    let mut redis = world.redis().await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("tidegate:sse:gaps*")
        .query_async(&mut redis)
        .await
        .unwrap();
    let mut gaps = 0;
    for key in keys {
        gaps += redis::cmd("XLEN")
            .arg(key)
            .query_async::<usize>(&mut redis)
            .await
            .unwrap();
    }
    gaps
}

/// How often the breaker went over to that state.
async fn transitions(bridge: &TestService, to: &str) -> f64 {
    let to = format!("to=\"{to}\"");
    metric(bridge, "eventbridge_breaker_transitions_total", &[&to]).await
}

#[tokio::test]
async fn a_dead_redis_opens_the_breaker_and_a_new_one_closes_it() {
    let mut world = World::shared().await;
    let redis = Parts::private_of(&[Part::Redis]).await;
    world.parts.redis_url.clone_from(&redis.redis_url);
    let bridge = world.bridge().start().await;
    world.send(BACKEND, (0..10).map(|n| event("ann", n))).await;
    world.messages("ann", 10).await;

    redis.kill(Part::Redis).await;
    world
        .send(BACKEND, (10..200).map(|n| event("ann", n)))
        .await;
    wait("dropped", |n| n == 190.0, || events(&bridge, "dropped")).await;
    assert_eq!(rejected(&bridge, "breaker_open").await, 190.0);
    let status = health(&bridge).await;
    assert_eq!(status["status"], "degraded");
    assert_ne!(status["circuit_breaker"]["state"], "closed");
    assert_eq!(status["circuit_breaker"]["unreported_drops"], 190);
    assert_eq!(status["redis"]["connected"], false);
    let ready = reqwest::get(bridge.url("/ready")).await.unwrap();
    assert_eq!(ready.status(), 200, "the rest works");
    // Probes fail as long as it is away.
    wait(
        "a second opening",
        |n| n >= 2.0,
        || transitions(&bridge, "open"),
    )
    .await;

    redis.start(Part::Redis).await;
    wait("closed", |n| n == 1.0, || transitions(&bridge, "closed")).await;
    assert_eq!(metric(&bridge, "eventbridge_gaps_total", &[]).await, 1.0);
    assert!(gaps(&world).await >= 1);
    world
        .send(BACKEND, (200..210).map(|n| event("ann", n)))
        .await;
    wait("published", |n| n == 20.0, || events(&bridge, "published")).await;
    let last = world.messages("ann", 10).await;
    assert_eq!(
        numbers(&last)[last.len() - 10..],
        (200..210).collect::<Vec<_>>()
    );
    wait(
        "no lag",
        |lag| lag == 0.0,
        || metric(&bridge, "eventbridge_consumer_lag_records", &[]),
    )
    .await;
}

#[tokio::test]
async fn a_bridge_that_pauses_loses_nothing() {
    let mut world = World::shared().await;
    let redis = Parts::private_of(&[Part::Redis]).await;
    world.parts.redis_url.clone_from(&redis.redis_url);
    let mut bridge = world.bridge().env("BRIDGE_ON_OPEN", "pause").start().await;
    world.send(BACKEND, (0..10).map(|n| event("ann", n))).await;
    world.messages("ann", 10).await;

    redis.stop(Part::Redis).await;
    world
        .send(BACKEND, (10..910).map(|n| event("bob", n)))
        .await;
    wait("open", |n| n >= 1.0, || transitions(&bridge, "open")).await;
    wait("probed", |n| n >= 1.0, || transitions(&bridge, "half_open")).await;
    assert_eq!(events(&bridge, "dropped").await, 0.0);
    // A stop in that state does not wait, and the next process goes on from there.
    assert!(bridge.terminate().await.success());
    bridge.restart().await;
    redis.start(Part::Redis).await;
    world.messages("bob", 900).await;
    assert_eq!(
        numbers(&world.channel("bob").await.unwrap()),
        (10..910).collect::<Vec<_>>()
    );
    assert_eq!(events(&bridge, "dropped").await, 0.0);
    assert_eq!(metric(&bridge, "eventbridge_gaps_total", &[]).await, 0.0);
}

#[tokio::test]
async fn what_was_dropped_in_silence_is_read_again_after_a_kill() {
    let mut world = World::shared().await;
    let redis = Parts::private_of(&[Part::Redis]).await;
    world.parts.redis_url.clone_from(&redis.redis_url);
    let mut bridge = world.bridge().start().await;
    world.send(BACKEND, (0..10).map(|n| event("ann", n))).await;
    world.messages("ann", 10).await;

    redis.stop(Part::Redis).await;
    world
        .send(BACKEND, (10..100).map(|n| event("bob", n)))
        .await;
    wait("dropped", |n| n == 90.0, || events(&bridge, "dropped")).await;
    bridge.kill();
    redis.start(Part::Redis).await;
    bridge.restart().await;
    world.messages("bob", 90).await;
    assert_eq!(
        numbers(&world.channel("bob").await.unwrap()),
        (10..100).collect::<Vec<_>>()
    );
}

async fn published(world: &World, users: usize) -> f64 {
    let mut redis = world.redis().await.unwrap();
    let mut lengths = redis::pipe();
    for user in 0..users {
        lengths
            .cmd("XLEN")
            .arg(format!("{}u{user}", world.sse_prefix()));
    }
    let lengths: Vec<f64> = lengths.query_async(&mut redis).await.unwrap();
    lengths.iter().sum()
}

#[tokio::test]
async fn a_killed_bridge_publishes_nothing_twice() {
    const USERS: usize = 40;
    const ROUND: usize = 2_000;
    let world = World::shared().await;
    // Offsets are committed late, so that records are read again.
    let mut bridge = world
        .bridge()
        .env("BRIDGE_COMMIT_RECORDS", 1_000_000)
        .start()
        .await;
    let (mut sent, mut again) = (0, 0.0);
    // Five rounds, and more until a kill came soon enough to prove something.
    for round in 0..20 {
        if round >= 5 && again > 0.0 {
            break;
        }
        let load = (sent..sent + ROUND).map(|n| event(&format!("u{}", n % USERS), n));
        world.send(BACKEND, load).await;
        // All is published and not all offsets are committed; or it is in the middle of the batch.
        let enough = if round % 2 == 0 {
            sent + ROUND
        } else {
            sent + 1
        };
        wait(
            "published",
            |n| n >= enough as f64,
            || published(&world, USERS),
        )
        .await;
        sent += ROUND;
        again += events(&bridge, "duplicate").await;
        bridge.kill();
        bridge.restart().await;
    }
    again += events(&bridge, "duplicate").await;
    assert!(again > 0.0, "the kills came too late to prove anything");
    let (each, mut all) = (sent / USERS, BTreeSet::new());
    for user in 0..USERS {
        let messages = world.messages(&format!("u{user}"), each).await;
        let numbers = numbers(&messages);
        assert!(numbers.is_sorted(), "in order: {numbers:?}");
        assert_eq!(numbers.len(), each, "user {user}");
        all.extend(numbers);
    }
    assert_eq!(all.len(), sent);
}
