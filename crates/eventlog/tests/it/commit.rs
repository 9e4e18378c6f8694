//! When offsets are committed, and where a group without any begins.

use std::sync::Arc;
use std::time::Duration;

use eventlog::Source as _;
use eventlog::kafka::{Commit, Handle, KafkaConfig, OffsetReset, Producer, WorkerQueue};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::support::{
    LIMIT, config, consumer, next, number, numbered, producer, topic, wait_until,
};

/// No test lasts that long.
const NEVER: Duration = Duration::from_secs(3_600);

/// What Kafka would tell the next member of the group about partition 0, asked of a client of the
/// group that never joins it.
fn committed(config: &KafkaConfig, topic: &str) -> Option<i64> {
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &config.brokers)
        .set("group.id", &config.group_id)
        .create()
        .expect("client");
    let mut wanted = TopicPartitionList::new();
    wanted.add_partition(topic, 0);
    let found = client.committed_offsets(wanted, LIMIT).expect("answer");
    match found.elements()[0].offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }
}

/// Sends these, takes them and is done with them.
async fn pass(
    producer: &Producer,
    topic: &Arc<str>,
    handle: &Handle,
    queue: &mut WorkerQueue,
    range: std::ops::Range<usize>,
) {
    let ack = producer.publish(numbered(topic, range.start, range.len()));
    ack.expect("enqueued").await.expect("acknowledged");
    let mut taken = 0;
    while taken < range.len() {
        taken += next(queue).await.records.len();
    }
    // At once, so that no commit comes in between.
    let next_offset = i64::try_from(range.end).expect("small");
    handle.mark_done(topic, 0, next_offset);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_done_records_are_committed_without_waiting() {
    let config = KafkaConfig {
        partitions: 1,
        commit: Commit {
            records: Some(100),
            interval: NEVER,
        },
        ..config().await
    };
    let topic = topic(&config, "hundred").await;
    let producer = producer(&config).await;
    let (handle, mut queues) = consumer(&config, &topic, 1, 1 << 20);
    // Many small ones count together, and those after a commit are counted anew.
    for n in 0..4 {
        pass(
            &producer,
            &topic,
            &handle,
            &mut queues[0],
            n * 25..(n + 1) * 25,
        )
        .await;
    }
    let now = || tokio::task::block_in_place(|| committed(&config, &topic));
    wait_until("the first hundred", || now() == Some(100)).await;
    pass(&producer, &topic, &handle, &mut queues[0], 100..220).await;
    wait_until("the next ones", || now() == Some(220)).await;
    // The rest is committed at the end, be it never so small.
    pass(&producer, &topic, &handle, &mut queues[0], 220..223).await;
    assert_eq!(now(), Some(220));
    handle.shutdown(LIMIT).await;
    assert_eq!(now(), Some(223));
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_are_committed_in_time() {
    let config = KafkaConfig {
        partitions: 1,
        commit: Commit {
            records: Some(100),
            interval: Duration::from_secs(2),
        },
        ..config().await
    };
    let topic = topic(&config, "fewer").await;
    let producer = producer(&config).await;
    let (handle, mut queues) = consumer(&config, &topic, 1, 1 << 20);
    let now = || tokio::task::block_in_place(|| committed(&config, &topic));
    for up_to in [1, 2] {
        pass(&producer, &topic, &handle, &mut queues[0], up_to - 1..up_to).await;
        let expected = Some(i64::try_from(up_to).expect("small"));
        wait_until("the commit", || now() == expected).await;
    }
    handle.shutdown(LIMIT).await;
}

#[tokio::test]
async fn a_new_group_begins_where_it_is_told_to() {
    let early = KafkaConfig {
        partitions: 1,
        ..config().await
    };
    let topic = topic(&early, "reset").await;
    let producer = producer(&early).await;
    let ack = producer.publish(numbered(&topic, 0, 10));
    ack.expect("enqueued").await.expect("acknowledged");

    let (handle, mut queues) = consumer(&early, &topic, 1, 1 << 20);
    assert_eq!(number(&next(&mut queues[0]).await.records[0]), 0);
    handle.shutdown(Duration::ZERO).await;

    let late = KafkaConfig {
        group_id: format!("{}.late", early.group_id),
        offset_reset: OffsetReset::Latest,
        ..early
    };
    let (handle, mut queues) = consumer(&late, &topic, 1, 1 << 20);
    // When it has found the end nobody says, so records are sent until one arrives.
    let mut sent = 10;
    let first = loop {
        let ack = producer.publish(numbered(&topic, sent, 1));
        ack.expect("enqueued").await.expect("acknowledged");
        sent += 1;
        let wait = Duration::from_millis(100);
        if let Ok(chunk) = tokio::time::timeout(wait, queues[0].recv()).await {
            break number(&chunk.expect("an open queue").records[0]);
        }
    };
    assert!(first >= 10, "{first} was there before");
    handle.shutdown(Duration::ZERO).await;
}
