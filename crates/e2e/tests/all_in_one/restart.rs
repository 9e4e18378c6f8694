//! The one process is killed: what was in its memory is gone, and who listened is told.

use tokio::task::JoinSet;

use crate::live::feed::{Feed, user};
use crate::live::listener::{Listener, Seen};
use crate::world::{PATIENCE, World, beside_others};

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
