//! Two processors share the work, and neither death nor coma of one loses or doubles anything.

use std::collections::BTreeMap;

use serde_json::json;
use testkit::eventually;
use uuid::Uuid;

use crate::direct::{Record, produce};
use crate::ledger::{Ledger, everything_on_the_log, wait_worked_off};
use crate::world::{BACKEND, PARTITIONS, PATIENCE, World, beside_others, wait_assigned};

/// Sends `count` events over all partitions of a topic and notes them in the ledger.
async fn send(world: &World, ledger: &mut Ledger, count: u64) {
    let first = ledger.named.len() as u64;
    let mut records = Vec::new();
    for n in first..first + count {
        let id = Uuid::now_v7();
        ledger.named.insert(id, n);
        let partition = i32::try_from(n).unwrap() % PARTITIONS;
        let event =
            json!({"event_id": id, "event_type": format!("shared_{}", n % 5), "data": {"n": n}});
        records.push(Record::new(partition, &format!("k{n}"), event.to_string()));
    }
    produce(world, BACKEND, &records).await;
}

async fn stored(world: &World) -> i64 {
    world.database.count("event_ids").await.unwrap_or(0)
}

/// Waits until more than `before` events are stored: the processors are in the middle of it.
async fn wait_for_progress(world: &World, before: i64) {
    eventually("events are being stored", PATIENCE, || async {
        let now = stored(world).await;
        if now > before { Ok(()) } else { Err(now) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_one_loses_and_doubles_nothing() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let mut one = world.processor().spawn();
    let mut other = world.processor().spawn();
    wait_assigned(&world, &[&one, &other]).await;

    let mut ledger = Ledger::default();
    send(&world, &mut ledger, 1_000).await;
    wait_worked_off(&world, &everything_on_the_log(&world).await).await;
    // Small batches make many transactions, one of which the kill will hit.
    let before = stored(&world).await;
    assert_eq!(before, 1_000);
    send(&world, &mut ledger, 30_000).await;
    wait_for_progress(&world, before).await;
    one.kill();
    send(&world, &mut ledger, 1_000).await;
    wait_assigned(&world, &[&other]).await;
    ledger.assert_balanced(&world).await;

    // The dead one comes back, and the other goes.
    one.restart().await;
    wait_assigned(&world, &[&one, &other]).await;
    let before = stored(&world).await;
    send(&world, &mut ledger, 20_000).await;
    wait_for_progress(&world, before).await;
    other.kill();
    wait_assigned(&world, &[&one]).await;
    ledger.assert_balanced(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_wakes_up_after_its_partitions_were_given_away_doubles_nothing() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let zombie = world.processor().env("BATCH_SIZE", 200).spawn();
    let other = world.processor().env("BATCH_SIZE", 200).spawn();
    wait_assigned(&world, &[&zombie, &other]).await;

    let mut ledger = Ledger::default();
    for _ in 0..2 {
        let before = stored(&world).await;
        send(&world, &mut ledger, 20_000).await;
        wait_for_progress(&world, before).await;
        zombie.pause();
        // It keeps its connections, and perhaps an open transaction; the group goes on without it.
        wait_assigned(&world, &[&other]).await;
        wait_worked_off(&world, &everything_on_the_log(&world).await).await;
        zombie.resume();
        send(&world, &mut ledger, 2_000).await;
        ledger.assert_balanced(&world).await;
        wait_assigned(&world, &[&zombie, &other]).await;
    }
    let mut by_place = BTreeMap::new();
    for place in everything_on_the_log(&world).await.into_keys() {
        *by_place.entry(place.1).or_insert(0) += 1;
    }
    assert_eq!(
        by_place.len(),
        usize::try_from(PARTITIONS).unwrap(),
        "{by_place:?}"
    );
}
