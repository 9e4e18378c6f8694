//! Disconnections at random, and a bridge that is killed: nothing missing, nothing twice.

use std::time::Duration;

use testkit::eventually;
use tokio::task::JoinSet;

use super::feed::{Feed, user};
use super::listener::{Dice, Listener};
use crate::world::{PATIENCE, World, alone};

const USERS: usize = 1_000;
const CLIENTS: usize = 200;
/// Of each user: 20 × 1,000 = 20,000.
const EVENTS: u64 = 20;

/// Reads that many events, and loses the connection again and again meanwhile.
async fn read_with_interruptions(mut listener: Listener, mut dice: Dice) -> (Listener, Dice) {
    let reading = async {
        loop {
            // A few events or a little time, whichever is over first: in the middle of a replay,
            // between two events, or while nothing comes.
            let events = dice.below(6);
            let time = Duration::from_millis(dice.below(1_500));
            let leg = async {
                for _ in 0..events {
                    if listener.seen.len() as u64 >= EVENTS {
                        return;
                    }
                    listener.next().await;
                }
            };
            let _ = tokio::time::timeout(time, leg).await;
            if listener.seen.len() as u64 >= EVENTS {
                return;
            }
            listener.drop_connection();
            tokio::time::sleep(Duration::from_millis(dice.below(400))).await;
        }
    };
    if tokio::time::timeout(PATIENCE, reading).await.is_err() {
        panic!("only these came: {:?}", listener.seen);
    }
    (listener, dice)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_gets_every_event_once_and_in_order() {
    let _turn = alone().await;
    let world = World::shared().await;
    let mut system = world.system().start().await;
    let base = system.query_url("");
    let mut beginning = JoinSet::new();
    for client in 0..CLIENTS {
        // Some users have two listeners.
        let (base, user) = (base.clone(), user((client * 11) % 1_980 / 2));
        beginning.spawn(async move { Listener::begin(&base, &user).await });
    }
    let seed = uuid::Uuid::new_v4().as_u64_pair().0;
    println!("seed {seed}");
    let mut reading = JoinSet::new();
    for (client, listener) in beginning.join_all().await.into_iter().enumerate() {
        let dice = Dice::new(seed ^ (client as u64) << 32);
        reading.spawn(read_with_interruptions(listener, dice));
    }

    let mut feed = Feed::new(system.ingest_url(""), USERS);
    while feed.last < EVENTS {
        feed.round(&world).await;
        if feed.last == EVENTS / 3 {
            // It has read these events, and published and committed who knows how many of them.
            system.processor_mut().kill();
            feed.round(&world).await;
            let (restarted, ()) =
                tokio::join!(system.processor_mut().restart(), feed.round(&world));
            restarted
        }
    }
    let mut listeners: Vec<Listener> = Vec::new();
    for (listener, _) in reading.join_all().await {
        listener.assert_complete(EVENTS);
        listeners.push(listener);
    }
    let connections: usize = listeners.iter().map(|l| l.connections).sum();
    println!("{connections} connections of {CLIENTS} clients");
    assert!(connections > 3 * CLIENTS, "{connections} connections");

    // Whatever came twice would come before one more event.
    feed.round(&world).await;
    let mut last = JoinSet::new();
    for mut listener in listeners {
        last.spawn(async move {
            listener.read_up_to(EVENTS + 1).await;
            listener.assert_complete(EVENTS + 1);
        });
    }
    last.join_all().await;
    let expected = i64::try_from(USERS as u64 * (EVENTS + 1)).unwrap();
    eventually("all of them are stored too", PATIENCE, || async {
        match world.database.count("event_ids").await {
            Ok(stored) if stored == expected => Ok(()),
            other => Err(other),
        }
    })
    .await;
}
