//! Memory stays bounded with a long backlog: 200,000 records, a million in `make soak`.

use std::time::Duration;

use testkit::eventually;
use uuid::Uuid;

use crate::SHAPE;
use crate::direct::flood;
use crate::ledger::assert_counts;
use crate::world::{BACKEND, Shape, World, alone, soak};

const BOUND: u64 = match SHAPE {
    Shape::Split => 256 << 20,
    // The one process also keeps the latest messages of all channels: 64 MiB as it counts them,
    // which leaves out what the memory for many small things costs.
    Shape::AllInOne => (256 + 128) << 20,
};
/// A million takes its time on a small busy machine.
const LONG: Duration = Duration::from_secs(900);

#[tokio::test(flavor = "multi_thread")]
async fn a_long_backlog_takes_bounded_memory() {
    let backlog = soak(200_000, 1_000_000);
    let _turn = alone().await;
    let world = World::shared().await;
    world.start_processor().await.terminate().await;

    let filling = "a sentence of some length, as people write them, ".repeat(7);
    let records = (0..backlog).map(|n| {
        let user = format!("user-{}", n % 5_000);
        let payload = format!(
            r#"{{"event_id":"{}","event_type":"backlog_{}","user_id":"{user}","data":{{"n":{n},"note":"{filling}"}},"metadata":{{"ip_address":"203.0.113.9"}}}}"#,
            Uuid::now_v7(),
            n % 20,
        );
        (user, payload)
    });
    let mut sizes = records.inspect(|(_, payload)| {
        assert!(
            (480..=540).contains(&payload.len()),
            "{} bytes",
            payload.len()
        );
    });
    tokio::task::block_in_place(|| flood(&world, BACKEND, &mut sizes));

    let processor = world.start_processor().await;
    eventually("the backlog is stored", LONG, || async {
        let done = world.database.scalar::<i64>(
            "select coalesce(sum(count), 0)::bigint from aggregated_events",
            &[],
        );
        match done.await {
            Ok(done) if done.unsigned_abs() == backlog => Ok(()),
            other => {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Err(format!("{other:?}"))
            }
        }
    })
    .await;
    let peak = processor.memory().peak_rss;
    println!("the processor's peak: {} MiB", peak >> 20);
    assert!(peak < BOUND, "{} MiB", peak >> 20);
    assert_counts(&world, usize::try_from(backlog).unwrap()).await;
}
