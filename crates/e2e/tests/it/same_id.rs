//! One id, two partitions, two processes, the same moment: one event.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use testkit::TestService;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::SHAPE;
use crate::direct::{Record, produce};
use crate::ledger::{Place, assert_counts, wait_worked_off};
use crate::world::{Shape, World, beside_others, lanes_held, partitions_held, sum, wait_assigned};

const IDS: usize = 1_000;
/// Sent at once: small, so that the two writers meet again and again.
const ROUND: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn with_and_without_a_timestamp() {
    let an_hour_ago = domain::timestamp::format(OffsetDateTime::now_utc() - Duration::HOUR);
    sent_twice_at_once(Some(&an_hour_ago), Some(&an_hour_ago)).await;
    sent_twice_at_once(None, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_other_content_it_is_a_conflict_that_is_counted_and_kept() {
    let now = OffsetDateTime::now_utc();
    let recent = domain::timestamp::format(now - Duration::HOUR);
    let old = domain::timestamp::format(now - Duration::days(100));
    sent_twice_at_once(Some(&recent), Some(&old)).await;
}

async fn sent_twice_at_once(one_time: Option<&str>, other_time: Option<&str>) {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let processors = [world.processor().spawn(), world.processor().spawn()];
    wait_assigned(&world, &[&processors[0], &processors[1]]).await;
    let (one, other) = two_partitions(&world, &processors).await;

    let mut log: BTreeMap<Place, ()> = BTreeMap::new();
    let ids: Vec<Uuid> = (0..IDS).map(|_| Uuid::now_v7()).collect();
    for (round, ids) in ids.chunks(ROUND).enumerate() {
        // Every second round is a backlog for both, which they begin at the same moment.
        let held_back = round % 2 == 1;
        if held_back {
            processors.iter().for_each(TestService::pause);
        }
        let (first, second) = tokio::join!(
            send(&world, &one, ids, one_time),
            send(&world, &other, ids, other_time),
        );
        if held_back {
            processors.iter().for_each(TestService::resume);
        }
        log.extend(first.into_iter().chain(second).map(|place| (place, ())));
    }
    wait_worked_off(&world, &log).await;

    assert_eq!(log.len(), 2 * IDS);
    assert_counts(&world, IDS).await;
    let conflicts = if one_time == other_time { 0 } else { IDS };
    assert_conflicts(&world, &processors, conflicts).await;
    let stored = world
        .database
        .rows("select event_id from events order by 1", &[])
        .await
        .unwrap();
    let stored: Vec<Uuid> = stored.iter().map(|row| row.get(0)).collect();
    let mut expected = ids;
    expected.sort_unstable();
    assert_eq!(stored, expected);
    // Both worked on it, and met.
    let mut duplicates = 0.0;
    let mut races = 0.0;
    for processor in &processors {
        let metrics = processor.url("/metrics");
        let result = if conflicts == 0 { "duplicate" } else { "dead" };
        duplicates += sum(
            &metrics,
            "tidegate_processor_records_total",
            &[("result", result)],
        )
        .await;
        races += sum(
            &metrics,
            "tidegate_processor_write_failures_total",
            &[("kind", "conflict")],
        )
        .await;
    }
    println!("{races} of the transactions met another with the same ids");
    assert!(duplicates >= IDS as f64, "{duplicates} seen again");
}

/// Each conflict is counted, and kept with its place in the log and its bytes.
async fn assert_conflicts(world: &World, processors: &[TestService], conflicts: usize) {
    let mut counted = 0.0;
    for processor in processors {
        let metrics = processor.url("/metrics");
        counted += sum(&metrics, "tidegate_processor_id_conflicts_total", &[]).await;
    }
    assert_eq!(counted, conflicts as f64);
    let kept = "dead_letters where reason = 'id_conflict' and convert_from(payload, 'utf8')::jsonb \
        ->> 'event_type' = 'same' and (select count(*) from dead_letters other \
        where (other.topic, other.partition, other.\"offset\") \
        = (dead_letters.topic, dead_letters.partition, dead_letters.\"offset\")) = 1";
    let kept = world.database.count(kept).await.unwrap();
    assert_eq!(usize::try_from(kept).unwrap(), conflicts);
}

/// A topic, by its full name, and a partition of it.
type Partition = (String, i32);

async fn send(world: &World, to: &Partition, ids: &[Uuid], time: Option<&str>) -> Vec<Place> {
    let (topic, partition) = to;
    let record = |id: &Uuid| {
        let mut event = json!({"event_id": id, "event_type": "same", "data": {"a": 1}});
        if let Some(time) = time {
            event["timestamp"] = Value::from(time);
        }
        Record::new(*partition, "any", event.to_string())
    };
    let records: Vec<Record> = ids.iter().map(record).collect();
    let name = topic.strip_prefix(&world.prefix).unwrap();
    let offsets = produce(world, name, &records).await;
    offsets
        .into_iter()
        .map(|offset| (topic.clone(), *partition, offset))
        .collect()
}

/// A partition of each processor's, of the same topic if the group's assignment allows.
async fn two_partitions(world: &World, [one, other]: &[TestService; 2]) -> (Partition, Partition) {
    let (one, other) = match SHAPE {
        Shape::Split => (partitions_held(one).await, partitions_held(other).await),
        Shape::AllInOne => {
            let mut held = lanes_held(world).await.into_iter();
            (held.next().unwrap(), held.next().unwrap())
        }
    };
    let pairs = || one.iter().flat_map(|a| other.iter().map(move |b| (a, b)));
    let (a, b) = pairs()
        .find(|(a, b)| a.0 == b.0)
        .or_else(|| pairs().next())
        .unwrap();
    (a.clone(), b.clone())
}
