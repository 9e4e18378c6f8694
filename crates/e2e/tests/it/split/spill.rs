//! Kafka is gone for a while: backends notice nothing, and nothing is lost or doubled.

use std::time::Duration;

use testkit::{Part, eventually};
use tokio::task::JoinSet;

use crate::ledger::Ledger;
use crate::load::Maker;
use crate::receipts;
use crate::sender::{send, send_counting};
use crate::system::System;
use crate::world::{PATIENCE, World, beside_others, soak, sum};

/// Between two slices of the load, of 200 events each.
const PAUSE: Duration = Duration::from_millis(200);

/// What goes on all the time.
struct Load<'a> {
    maker: Maker,
    system: &'a System,
    /// What browsers send waits until it is taken.
    frontend: JoinSet<Vec<(uuid::Uuid, u64)>>,
    /// How often a backend had to send again.
    again: usize,
}

impl Load<'_> {
    async fn slices(&mut self, how_long: Duration) {
        let end = tokio::time::Instant::now() + how_long;
        while tokio::time::Instant::now() < end {
            let next = tokio::time::Instant::now() + PAUSE;
            let base = self.system.ingest_url("");
            let load = self.maker.load(200, 0, false);
            let (frontend, backend): (Vec<_>, Vec<_>) = load
                .posts
                .into_iter()
                .partition(|post| post.path.contains("frontend"));
            let (made, again) = send_counting(&base, backend, 4).await;
            self.maker.named.extend(made);
            self.again += again;
            self.frontend
                .spawn(async move { send(&base, frontend, 1).await });
            tokio::time::sleep_until(next).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn backends_go_on_while_kafka_is_down() {
    let _turn = beside_others().await;
    let world = World::with_own(&[Part::Kafka]).await;
    // What is in flight when Kafka dies has to be answered while its client still waits.
    let mut system = world
        .system()
        .env("KAFKA_MESSAGE_TIMEOUT_MS", 10_000)
        .start()
        .await;
    let mut load = Load {
        maker: Maker::new(),
        system: &system,
        frontend: JoinSet::new(),
        again: 0,
    };
    let metric = async |name| sum(&system.ingest_url("/metrics"), name, &[]).await;

    load.slices(Duration::from_secs(3)).await;
    assert_eq!(metric("tidegate_ingest_spilled_events_total").await, 0.0);
    world.parts.kill(Part::Kafka).await;
    load.slices(Duration::from_secs(soak(8, 120))).await;
    let spilled = metric("tidegate_ingest_spilled_events_total").await;
    assert_eq!(metric("tidegate_ingest_spilling").await, 1.0);
    assert!(spilled > 100.0, "{spilled}");
    // Stored while Kafka is still away.
    let sent = i64::try_from(load.maker.named.len()).unwrap();
    println!("{spilled} spilled of {sent} sent so far");
    eventually("what is spilled is stored", PATIENCE, || async {
        match world.database.count("event_log").await {
            Ok(0) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    let stored = world.database.count("event_ids").await.unwrap();
    // One in twenty is sent twice.
    assert!(
        stored as f64 >= spilled * 0.9,
        "{stored} stored, {spilled} spilled"
    );

    world.parts.start(Part::Kafka).await;
    let mut seconds = 0;
    while metric("tidegate_ingest_spilling").await > 0.0 {
        assert!(seconds < PATIENCE.as_secs(), "Kafka is not used again");
        load.slices(Duration::from_secs(1)).await;
        seconds += 1;
    }
    load.slices(Duration::from_secs(2)).await;
    assert_eq!(load.again, 0, "backends were refused");
    let Load {
        mut maker,
        frontend,
        ..
    } = load;
    for made in frontend.join_all().await {
        maker.named.extend(made);
    }
    let ledger = Ledger::from(maker);
    assert_eq!(ledger.assert_balanced(&world).await, 0);
    receipts::assert_true(&world, &system).await;
    system.assert_well();
}
