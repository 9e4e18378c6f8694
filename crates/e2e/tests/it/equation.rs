//! Everything at once in fair weather: HTTP and Kafka, every route and envelope, repetitions and
//! rubbish; and then the books balance.

use crate::ledger::{Ledger, assert_users_counted};
use crate::load::{Line, Maker};
use crate::sender::send;
use crate::world::{TOPICS, World, alone};

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_events_by_two_ways_are_stored_and_counted_once() {
    let _turn = alone().await;
    let world = World::shared().await;
    let mut system = world.system().start().await;

    let mut maker = Maker::new();
    let load = maker.load(10_000, 10_000, true);
    let base = system.ingest_url("");
    let over_http = send(&base, load.posts, 8);
    // A foreign client, several times.
    let to_the_log = async {
        for lines in load.lines.chunks(2_500) {
            produce(&world, lines).await;
        }
    };
    let (made, ()) = tokio::join!(over_http, to_the_log);
    maker.named.extend(made);

    let ledger = Ledger::from(maker);
    let events = ledger.named.len() + ledger.anonymous.len();
    assert!(
        events > 18_000,
        "{events} events are too few to show anything"
    );
    let dead = ledger.assert_balanced(&world).await;
    assert_eq!(dead, 100);
    assert_eq!(ledger.malformed.len(), 100);
    assert_users_counted(&world).await;
    system.assert_well();
}

/// Puts lines on the log with a foreign client, topic by topic.
pub(crate) async fn produce(world: &World, lines: &[Line]) {
    for topic in TOPICS {
        let own = lines.iter().filter(|line| line.topic == topic);
        let own = own.map(|line| (&line.key, &line.payload)).collect();
        world.send_lines(topic, own).await.unwrap();
    }
}
