//! The one process is killed: what was in its memory is gone, and who listened is told.

use testkit::eventually_eq;
use tokio::task::JoinSet;

use crate::direct::{Record, produce};
use crate::ledger::assert_counts;
use crate::live::feed::{Feed, user};
use crate::live::listener::{Listener, Seen};
use crate::world::{BACKEND, PATIENCE, World, beside_others};

const USERS: usize = 100;
const KILLS: u64 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn listeners_are_told_of_a_killed_process_and_go_on() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let mut system = world.system().start().await;
    let mut listeners = Vec::new();
    for number in 0..USERS {
        listeners.push(Listener::begin(&system.query_url(""), &user(number)).await);
    }
    let mut feed = Feed::new(system.ingest_url(""), USERS);
    for kill in 1..=KILLS {
        feed.round(&world).await;
        feed.round(&world).await;
        system.processor_mut().kill();
        // What is sent meanwhile is sent again until it is taken; each event is stored once.
        let ((), ()) = tokio::join!(system.processor_mut().restart(), feed.round(&world));
        let mut reading = JoinSet::new();
        for mut listener in listeners {
            reading.spawn(async move {
                let told = |l: &Listener| {
                    let resets = l.seen.iter().filter(|seen| matches!(seen, Seen::Reset(_)));
                    resets.count() as u64
                };
                let reading = async {
                    while told(&listener) < kill {
                        listener.next().await;
                    }
                };
                if tokio::time::timeout(PATIENCE, reading).await.is_err() {
                    panic!("not told: {:?}", listener.seen);
                }
                listener
            });
        }
        listeners = reading.join_all().await;
    }
    feed.round(&world).await;
    let mut reading = JoinSet::new();
    for mut listener in listeners {
        let last = feed.last;
        reading.spawn(async move {
            listener.read_up_to(last).await;
            let reasons = listener.assert_told(last);
            assert_eq!(reasons, vec!["gap"; usize::try_from(KILLS).unwrap()]);
        });
    }
    reading.join_all().await;
    let sent = i64::try_from(USERS as u64 * feed.last).unwrap();
    testkit::eventually_eq("stored events", sent, || world.database.count("event_ids")).await;
}

/// The log lies in the same database, and goes back with it: what was accepted before the backup is
/// stored again, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_put_back_goes_on_from_there() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let mut process = world.start_processor().await;
    let events = |count: usize| {
        let event = |n: usize| {
            let id = uuid::Uuid::now_v7();
            let event =
                serde_json::json!({"event_id": id, "event_type": "rewound", "data": {"n": n}});
            Record::new(i32::try_from(n % 16).unwrap(), "k", event.to_string())
        };
        (0..count).map(event).collect::<Vec<_>>()
    };
    let stored = || world.database.count("event_ids");
    produce(&world, BACKEND, &events(2_000)).await;
    eventually_eq("stored events", 2_000, stored).await;
    assert!(process.terminate().await.success());
    produce(&world, BACKEND, &events(2_000)).await;
    world.database.backup().await.unwrap();
    process.restart().await;
    eventually_eq("stored events", 4_000, stored).await;
    produce(&world, BACKEND, &events(500)).await;
    eventually_eq("stored events", 4_500, stored).await;

    // While it runs, and then while it is down. What came after the backup went with the log.
    world.database.restore().await.unwrap();
    eventually_eq("stored events", 4_000, stored).await;
    produce(&world, BACKEND, &events(500)).await;
    eventually_eq("stored events", 4_500, stored).await;
    assert_counts(&world, 4_500).await;
    assert!(process.terminate().await.success());
    world.database.restore().await.unwrap();
    process.restart().await;
    eventually_eq("stored events", 4_000, stored).await;
    assert_counts(&world, 4_000).await;
    assert_eq!(world.database.count("dead_letters").await.unwrap(), 0);
}
