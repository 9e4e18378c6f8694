//! The same load in foul weather: processor (or the one process), Kafka and PostgreSQL die under it.

use std::time::Duration;

use testkit::{Part, TestService, eventually};

use crate::SHAPE;
use crate::ledger::{Ledger, assert_users_counted};
use crate::load::{Line, Maker};
use crate::receipts;
use crate::sender::send;
use crate::world::{PATIENCE, Shape, TOPICS, World, beside_others, soak};

#[derive(Debug, Clone, Copy)]
enum Accident {
    ProcessorKilled,
    KafkaKilled,
    PostgresStopped,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_books_balance_whatever_dies() {
    let _turn = beside_others().await;
    let world = World::private().await;
    // A static member takes its partitions back at once instead of waiting for its own wake.
    let mut system = world
        .system()
        .env("KAFKA_GROUP_INSTANCE_ID", "only")
        .env("BATCH_SIZE", 500)
        .start()
        .await;

    let mut accidents = vec![
        Accident::ProcessorKilled,
        Accident::PostgresStopped,
        Accident::ProcessorKilled,
    ];
    if SHAPE == Shape::Split {
        accidents.push(Accident::KafkaKilled);
    }
    accidents = accidents.repeat(usize::try_from(soak(1, 20)).unwrap());
    accidents.push(Accident::ProcessorKilled);
    let mut maker = Maker::new();
    for accident in &accidents {
        // One in each slice of the load: 900 over HTTP and as many to the log.
        let load = maker.load(900, 900, false);
        let base = system.ingest_url("");
        let before = stored(&world).await;
        let (made, (), ()) = tokio::join!(
            send(&base, load.posts, 8),
            produce(&world, &load.lines),
            happen(*accident, &world, system.processor_mut(), before),
        );
        maker.named.extend(made);
    }
    let ledger = Ledger::from(maker);
    let slices = accidents.len();
    let events = ledger.named.len();
    assert!(
        events > slices * 1_580,
        "{events} events in {slices} slices"
    );
    let dead = ledger.assert_balanced(&world).await;
    assert_users_counted(&world).await;
    // A kcat that was cut off sends its lines again, the malformed ones too: each is on the log as
    // often, and as often among the dead letters, as the ledger has just seen.
    assert!(
        dead >= ledger.malformed.len() && dead >= slices * 9,
        "{dead}"
    );
    receipts::assert_true(&world, &system).await;
    system.assert_well();
}

async fn stored(world: &World) -> i64 {
    world.database.count("event_ids").await.unwrap_or(0)
}

/// Lets it happen while the processor is in the middle of its work, and brings things back.
async fn happen(accident: Accident, world: &World, processor: &mut TestService, before: i64) {
    eventually("events are being stored", PATIENCE, || async {
        let now = stored(world).await;
        if now > before { Ok(()) } else { Err(now) }
    })
    .await;
    match accident {
        Accident::ProcessorKilled => {
            processor.kill();
            processor.restart().await;
        }
        Accident::KafkaKilled => {
            world.parts.kill(Part::Kafka).await;
            // Long enough for a request to come while there is no Kafka.
            tokio::time::sleep(Duration::from_millis(500)).await;
            world.parts.start(Part::Kafka).await;
        }
        Accident::PostgresStopped => {
            world.parts.stop_postgres_immediately().await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            world.parts.start(Part::Postgres).await;
        }
    }
}

/// Sends in small portions, each until all of it is known to be on the log.
async fn produce(world: &World, lines: &[Line]) {
    for portion in lines.chunks(100) {
        for topic in TOPICS {
            let own: Vec<_> = portion.iter().filter(|line| line.topic == topic).collect();
            if own.is_empty() {
                continue;
            }
            eventually("they are on the log", PATIENCE, || {
                let own = own.iter().map(|line| (&line.key, &line.payload)).collect();
                world.send_lines(topic, own)
            })
            .await;
        }
    }
}
