//! The database goes back in time, and the log has more than it: everything is stored again, once.
//! And what the log no longer has is said.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::admin::AdminOptions;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::json;
use testkit::{LIMIT, TestService, eventually, eventually_eq};
use uuid::Uuid;

use crate::direct::{Record, admin, create_topic, delete_topic, flood, produce};
use crate::ledger::{announcements, assert_counts};
use crate::world::{
    ANNOUNCEMENTS, BACKEND, PARTITIONS, World, beside_others, probe, sum, wait_assigned,
};

fn event(n: usize) -> String {
    let id = Uuid::now_v7();
    json!({"event_id": id, "event_type": "rewound", "data": {"n": n}}).to_string()
}

/// That many events, over all partitions.
async fn send(world: &World, count: usize) {
    let record = |n: usize| {
        let partition = i32::try_from(n).unwrap() % PARTITIONS;
        Record::new(partition, "k", event(n))
    };
    produce(world, BACKEND, &(0..count).map(record).collect::<Vec<_>>()).await;
}

/// That many events in one partition.
async fn send_to(world: &World, partition: i32, count: usize) {
    let record = |n| Record::new(partition, "k", event(n));
    produce(world, BACKEND, &(0..count).map(record).collect::<Vec<_>>()).await;
}

async fn wait_stored(world: &World, count: i64) {
    eventually_eq("stored events", count, || world.database.count("event_ids")).await;
}

async fn metric(processor: &TestService, name: &str, labels: &[(&str, &str)]) -> f64 {
    sum(&processor.url("/metrics"), name, labels).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_put_back_is_filled_again_from_the_log() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let mut processor = world.start_processor().await;
    send(&world, 10_000).await;
    wait_stored(&world, 10_000).await;
    assert!(processor.terminate().await.success());
    world.database.backup().await.unwrap();
    processor.restart().await;
    send(&world, 10_000).await;
    wait_stored(&world, 20_000).await;

    // While it is down: Kafka's own offsets stand at the end.
    assert!(processor.terminate().await.success());
    world.database.restore().await.unwrap();
    assert_eq!(world.database.count("event_ids").await.unwrap(), 10_000);
    processor.restart().await;
    wait_stored(&world, 20_000).await;
    assert_counts(&world, 20_000).await;
    assert!(processor.log().contains("reading again"));

    // While it runs and has nothing to do, so that no fence tells.
    world.database.restore().await.unwrap();
    wait_stored(&world, 20_000).await;
    assert_counts(&world, 20_000).await;

    // While it runs and stores.
    world.database.restore().await.unwrap();
    send(&world, 1_000).await;
    wait_stored(&world, 21_000).await;
    assert_counts(&world, 21_000).await;
    eventually("caught up", LIMIT, || async {
        let (_, ready) = probe(&processor, "/ready")
            .await
            .map_err(|e| e.to_string())?;
        let rewind = &ready["checks"]["rewind"];
        if rewind["ok"] == json!(true) && rewind["detail"] == "none" {
            Ok(())
        } else {
            Err(ready.to_string())
        }
    })
    .await;
    assert_eq!(world.database.count("dead_letters").await.unwrap(), 0);
}

/// Records come all the while: what is read again must not wait for a pause between them.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_put_back_under_load_is_filled_again_while_more_comes() {
    let _turn = beside_others().await;
    let world = Arc::new(World::shared().await);
    let mut processor = world.start_processor().await;
    send(&world, 500).await;
    wait_stored(&world, 500).await;
    assert!(processor.terminate().await.success());
    world.database.backup().await.unwrap();
    processor.restart().await;
    send(&world, 500).await;
    wait_stored(&world, 1_000).await;
    let over = Arc::new(AtomicBool::new(false));
    let load = tokio::task::spawn_blocking({
        let (world, over) = (Arc::clone(&world), Arc::clone(&over));
        move || {
            let mut sent = 0;
            let records = std::iter::from_fn(|| {
                std::thread::sleep(Duration::from_millis(5));
                sent += 1;
                let more = !over.load(Ordering::Relaxed);
                more.then(|| (format!("k{}", sent % 20), event(sent)))
            });
            flood(&world, BACKEND, records);
            sent - 1
        }
    });
    world.database.restore().await.unwrap();
    eventually("more is stored than before", LIMIT, || async {
        match world.database.count("event_ids").await {
            Ok(count) if count > 1_000 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    over.store(true, Ordering::Relaxed);
    let sent = 1_000 + load.await.unwrap();
    wait_stored(&world, i64::try_from(sent).unwrap()).await;
    assert_counts(&world, sent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_database_gets_the_whole_log() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    world.database.backup().await.unwrap();
    let mut processor = world.start_processor().await;
    send(&world, 1_000).await;
    wait_stored(&world, 1_000).await;
    assert!(processor.terminate().await.success());
    world.database.restore().await.unwrap();
    processor.restart().await;
    wait_stored(&world, 1_000).await;
    assert_counts(&world, 1_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewind_shows_while_it_goes_on() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let mut processor = world.start_processor().await;
    send_to(&world, 0, 100).await;
    wait_stored(&world, 100).await;
    assert!(processor.terminate().await.success());
    let client = world.database.connect().await.unwrap();
    // A position put back alone; storing again waits for this lock.
    let put_back = "update log_positions set stored = 40 where stored = 100";
    client.batch_execute(put_back).await.unwrap();
    let lock = "begin; lock table event_ids in exclusive mode";
    client.batch_execute(lock).await.unwrap();
    processor.restart().await;
    let shown = format!("{}/0 from 40 to 100, at 40", world.topic(BACKEND));
    eventually("the rewind shows", LIMIT, || async {
        let (status, ready) = probe(&processor, "/ready")
            .await
            .map_err(|e| e.to_string())?;
        let detail = ready["checks"]["rewind"]["detail"]
            .as_str()
            .unwrap_or_default();
        if status == 200 && detail.contains(&shown) {
            Ok(())
        } else {
            Err(ready.to_string())
        }
    })
    .await;
    client.batch_execute("commit").await.unwrap();
    eventually("nothing more to read again", LIMIT, || async {
        match metric(&processor, "tidegate_processor_rewind_records", &[]).await {
            0.0 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    assert_counts(&world, 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kafka_no_longer_has_is_said() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let mut processor = world.start_processor().await;
    send_to(&world, 0, 100).await;
    wait_stored(&world, 100).await;
    assert!(processor.terminate().await.success());
    send_to(&world, 0, 50).await;
    let mut below = TopicPartitionList::new();
    let topic = world.topic(BACKEND);
    below
        .add_partition_offset(&topic, 0, Offset::Offset(130))
        .unwrap();
    let deleted = admin(&world)
        .delete_records(&below, &AdminOptions::new())
        .await
        .unwrap();
    assert_eq!(deleted.elements()[0].error(), Ok(()));
    processor.restart().await;
    wait_stored(&world, 120).await;
    assert_counts(&world, 120).await;
    let letter = "dead_letters where topic = 't' and partition = 0 and \"offset\" = 100 and payload is null \
        and reason = 'log_gap' and detail like '%offsets 100 to 129 (30 of them)%'"
        .replace("'t'", &format!("'{topic}'"));
    assert_eq!(world.database.count(&letter).await.unwrap(), 1);
    assert_eq!(world.database.count("dead_letters").await.unwrap(), 1);
    let gaps = "tidegate_processor_log_gaps_total";
    assert_eq!(
        metric(&processor, gaps, &[("reason", "retention")]).await,
        1.0
    );
    let records = "tidegate_processor_log_gap_records_total";
    assert_eq!(metric(&processor, records, &[]).await, 30.0);
    let log = processor.log();
    assert!(
        log.contains("Kafka no longer has the offsets 100 to 129"),
        "{log}"
    );
}

/// Again, as retention does it: the records go while the processor runs, but stores nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_kafka_deletes_before_it_is_stored_is_said() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let processor = world.start_processor().await;
    send_to(&world, 0, 10).await;
    wait_stored(&world, 10).await;
    // Frozen, it keeps its place for the session's 6 s, and what it has prefetched.
    processor.pause();
    send_to(&world, 0, 20).await;
    let mut below = TopicPartitionList::new();
    below
        .add_partition_offset(&world.topic(BACKEND), 0, Offset::Offset(25))
        .unwrap();
    let deleted = admin(&world)
        .delete_records(&below, &AdminOptions::new())
        .await;
    assert_eq!(deleted.unwrap().elements()[0].error(), Ok(()));
    processor.resume();
    send_to(&world, 0, 1).await;
    eventually("the rest is stored or said", LIMIT, || async {
        let stored: i64 = world.database.count("event_ids").await.unwrap();
        let gone: i64 = world
            .database
            .scalar(
                "select coalesce(sum(substring(detail from '\\((\\d+) of them\\)')::int8), 0)::int8 \
                 from dead_letters where reason = 'log_gap'",
                &[],
            )
            .await
            .unwrap();
        let last: i64 = world.database.count("log_positions where stored = 31").await.unwrap();
        if stored + gone == 31 && last == 1 {
            Ok(())
        } else {
            Err((stored, gone, last))
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_erased_does_not_return_under_another_group() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let mut processor = world.start_processor().await;
    send(&world, 600).await;
    wait_stored(&world, 600).await;
    assert!(processor.terminate().await.success());
    let client = world.database.connect().await.unwrap();
    let erase = "delete from event_ids where event_id in (select event_id from events limit 200); \
        delete from events where event_id not in (select event_id from event_ids)";
    client.batch_execute(erase).await.unwrap();
    let other = world
        .processor()
        .env("KAFKA_GROUP_ID", world.topic("other"))
        .start()
        .await;
    wait_assigned(&world, &[&other]).await;
    send(&world, 60).await;
    wait_stored(&world, 460).await;
    // One more in each partition: what came before it is through.
    send(&world, 6).await;
    wait_stored(&world, 466).await;
    assert_eq!(world.database.count("events").await.unwrap(), 466);
    let counted = "select sum(count)::int8 from aggregated_events";
    let counted: i64 = world.database.scalar(counted, &[]).await.unwrap();
    assert_eq!(counted, 666, "counted when it was stored, and only then");
}

/// The stored position lies before the end of the new topic, so that only its id tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_and_longer_is_read_from_its_beginning_by_both_roles() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let processor = world.start_processor().await;
    send_to(&world, 0, 2).await;
    wait_stored(&world, 2).await;
    let consumed = [("status", "consumed"), ("type", "rewound")];
    let published = || async { metric(&processor, "eventbridge_events_total", &consumed).await };
    eventually("the bridge has them", LIMIT, || async {
        let seen = published().await;
        if seen == 2.0 { Ok(()) } else { Err(seen) }
    })
    .await;
    delete_topic(&world, BACKEND).await;
    create_topic(&world, BACKEND, PARTITIONS).await;
    send_to(&world, 0, 5).await;
    wait_stored(&world, 7).await;
    eventually("the bridge has them", LIMIT, || async {
        let seen = published().await;
        if seen >= 7.0 { Ok(()) } else { Err(seen) }
    })
    .await;
    assert_counts(&world, 7).await;
    let gone = "dead_letters where reason = 'log_gap' and detail like '%deleted and made again%'";
    assert_eq!(world.database.count(gone).await.unwrap(), 1);
}

/// Announcements that Kafka does not take stop nothing, and go when it takes them again.
#[tokio::test(flavor = "multi_thread")]
async fn storing_does_not_wait_for_event_stream() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    create_topic(&world, ANNOUNCEMENTS, PARTITIONS).await;
    let takes = async |any: bool| {
        use rdkafka::admin::{AlterConfig, ResourceSpecifier};
        let topic = world.topic(ANNOUNCEMENTS);
        // All settings of the topic are these.
        let config = AlterConfig::new(ResourceSpecifier::Topic(&topic))
            .set("max.message.bytes", "8388608")
            .set(
                "message.timestamp.before.max.ms",
                if any { "86400000" } else { "0" },
            );
        let altered = admin(&world)
            .alter_configs([&config], &AdminOptions::new())
            .await
            .unwrap();
        assert!(altered.iter().all(Result::is_ok), "{altered:?}");
    };
    // It refuses every record that is older than its arrival.
    takes(false).await;
    let processor = world.start_processor().await;
    for round in 1..=10 {
        send(&world, 1_000).await;
        wait_stored(&world, round * 1_000).await;
    }
    eventually_eq("announcements that wait", 10_000, || {
        world.database.count("outbox")
    })
    .await;
    let (status, ready) = probe(&processor, "/ready").await.unwrap();
    let detail = ready["checks"]["announcements"]["detail"].as_str().unwrap();
    assert_eq!((status, detail), (200, "down, waiting in the outbox"));
    takes(true).await;
    eventually_eq("announcements that wait", 0, || {
        world.database.count("outbox")
    })
    .await;
    let mut announced: Vec<_> = announcements(&world)
        .await
        .iter()
        .map(|value| value["event_id"].as_str().unwrap().to_owned())
        .collect();
    announced.sort_unstable();
    announced.dedup();
    assert_eq!(announced.len(), 10_000);
    // Straight again.
    send(&world, 10).await;
    eventually("the last are announced", LIMIT, || async {
        let count = announcements(&world).await.len();
        if count >= 10_010 { Ok(()) } else { Err(count) }
    })
    .await;
    assert_counts(&world, 10_010).await;
}
