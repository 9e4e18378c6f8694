//! Consuming: order, queues, backpressure, rebalances, offsets, lag.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use eventlog::kafka::{Chunk, Handle, KafkaConfig, WorkerQueue};
use eventlog::{Record, Source as _};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::far_broker::far;
use crate::support::{
    LIMIT, Seen, config, consumer, next, number, numbered, outgoing, producer, topic, wait_until,
};

/// Everything the queues deliver, with the worker it came to, until the consumer is shut down; each
/// chunk is marked done.
fn collect(handle: &Handle, queues: Vec<WorkerQueue>) -> UnboundedReceiver<(usize, Vec<Record>)> {
    let (sender, receiver) = unbounded_channel();
    for mut queue in queues {
        let (handle, sender): (Handle, UnboundedSender<_>) = (handle.clone(), sender.clone());
        tokio::spawn(async move {
            while let Some(chunk) = queue.recv().await {
                done(&handle, &chunk);
                if sender.send((queue.index(), chunk.into_parts().0)).is_err() {
                    break;
                }
            }
        });
    }
    receiver
}

async fn received(chunks: &mut UnboundedReceiver<(usize, Vec<Record>)>) -> (usize, Vec<Record>) {
    tokio::time::timeout(LIMIT, chunks.recv())
        .await
        .expect("in time")
        .expect("open")
}

fn done(handle: &Handle, chunk: &Chunk) {
    let last = chunk.records.last().expect("a chunk is never empty");
    handle.mark_done(chunk.topic(), chunk.partition(), last.offset + 1);
}

#[tokio::test]
async fn order_holds_per_partition_and_partitions_keep_their_worker() {
    let config = config().await;
    let topic = topic(&config, "order").await;
    let producer = producer(&config).await;
    let total = 20_000;
    for first in (0..total).step_by(500) {
        let ack = producer
            .publish(numbered(&topic, first, 500))
            .expect("enqueued");
        ack.await.expect("acknowledged");
    }
    let (handle, queues) = consumer(&config, &topic, 2, 8 << 20);
    let mut chunks = collect(&handle, queues);
    let mut worker_of = std::collections::BTreeMap::new();
    let mut seen = Seen::default();
    while seen.len() < total {
        let (worker, records) = received(&mut chunks).await;
        assert_eq!(
            *worker_of.entry(records[0].partition).or_insert(worker),
            worker
        );
        seen.add(records);
    }
    seen.assert_complete(total);
    let per_worker = |worker| worker_of.values().filter(|l| **l == worker).count();
    assert_eq!((per_worker(0), per_worker(1)), (2, 2), "{worker_of:?}");
    // Per key, too: numbers of one key rise.
    for records in seen.by_partition.values() {
        let mut last = std::collections::HashMap::new();
        for record in records {
            let before = last.insert(record.key.clone(), number(record));
            assert!(before.is_none_or(|before| before < number(record)));
        }
    }
    handle.shutdown(LIMIT).await;
}

#[tokio::test]
async fn a_stalled_queue_pauses_and_resumes_with_nothing_lost_or_doubled() {
    let config = config().await;
    let topic = topic(&config, "stall").await;
    let producer = producer(&config).await;
    let total = 30_000;
    let buffer = 256 * 1024;
    let (handle, mut queues) = consumer(&config, &topic, 2, buffer);
    wait_until("the assignment", || handle.assigned().len() == 4).await;
    for first in (0..total).step_by(500) {
        let ack = producer
            .publish(numbered(&topic, first, 500))
            .expect("enqueued");
        ack.await.expect("acknowledged");
    }
    // Neither queue is read: both fill, then their partitions pause.
    wait_until("both queues pause", || handle.pauses() >= 2).await;
    assert!(
        handle.buffered_bytes() <= buffer,
        "{} bytes",
        handle.buffered_bytes()
    );
    assert_eq!(
        handle.assigned().len(),
        4,
        "a stall must not cost the partitions"
    );
    let waiting = move |handle: &Handle| handle.lag().iter().filter_map(|p| p.lag).sum::<i64>();
    wait_until("the lag shows all records", || {
        waiting(&handle) == total as i64
    })
    .await;

    // One queue goes on alone, while the other still stalls.
    let mut seen = Seen::default();
    let second = queues.pop().expect("two queues");
    let mut first = queues.pop().expect("two queues");
    let mut expected = 0;
    for (_, partition) in handle.assigned() {
        let (_, end) = handle
            .watermarks(&topic, partition)
            .await
            .expect("watermarks");
        if handle.worker(&topic, partition) == Some(first.index()) {
            expected += end as usize;
        }
    }
    while seen.len() < expected {
        let chunk = next(&mut first).await;
        done(&handle, &chunk);
        seen.add(chunk.into_parts().0);
    }
    assert_eq!(seen.by_partition.len(), 2);
    assert!(first.try_recv().is_none());

    // And the other one is still complete.
    let mut chunks = collect(&handle, vec![first, second]);
    while seen.len() < total {
        let (_, records) = received(&mut chunks).await;
        seen.add(records);
    }
    seen.assert_complete(total);
    wait_until("no lag is left", || waiting(&handle) == 0).await;
    assert_eq!(handle.buffered_bytes(), 0);
    handle.shutdown(LIMIT).await;
}

#[tokio::test]
async fn a_record_larger_than_the_buffer_gets_through() {
    let config = KafkaConfig {
        partitions: 1,
        ..config().await
    };
    let topic = topic(&config, "large").await;
    let producer = producer(&config).await;
    let size = 3 << 20;
    for n in 0..4_u8 {
        let record = outgoing(&topic, "a", vec![n; size]);
        producer
            .publish([record])
            .expect("enqueued")
            .await
            .expect("acknowledged");
    }
    let (handle, mut queues) = consumer(&config, &topic, 1, 64 * 1024);
    let mut got = Vec::new();
    while got.len() < 4 {
        let (records, _permit) = next(&mut queues[0]).await.into_parts();
        got.extend(
            records
                .into_iter()
                .map(|r| (r.offset, r.payload.map(|p| (p[0], p.len())))),
        );
    }
    let expected: Vec<_> = (0..4).map(|n| (n, Some((n as u8, size)))).collect();
    assert_eq!(got, expected);
    handle.shutdown(LIMIT).await;
}

#[tokio::test]
async fn shutdown_drains_the_queues_and_commits_what_was_done() {
    let config = KafkaConfig {
        partitions: 1,
        ..config().await
    };
    let topic = topic(&config, "resume").await;
    let producer = producer(&config).await;
    let ack = producer
        .publish(numbered(&topic, 0, 1_000))
        .expect("enqueued");
    ack.await.expect("acknowledged");

    let (handle, mut queues) = consumer(&config, &topic, 1, 8 << 20);
    let first = next(&mut queues[0]).await;
    done(&handle, &first);
    let next_offset = first.records.last().expect("records").offset + 1;
    drop(first);
    let mut queue = queues.pop().expect("one queue");
    let drained = tokio::spawn(async move {
        while let Some(chunk) = queue.recv().await {
            drop(chunk);
        }
    });
    handle.shutdown(LIMIT).await;
    tokio::time::timeout(LIMIT, drained)
        .await
        .expect("the queue ends")
        .expect("no panic");
    assert!(matches!(
        handle.watermarks(&topic, 0).await,
        Err(eventlog::kafka::ConsumerError::Closed)
    ));

    let (handle, mut queues) = consumer(&config, &topic, 1, 8 << 20);
    let again = next(&mut queues[0]).await;
    assert_eq!(
        again.records[0].offset, next_offset,
        "goes on where it was marked done"
    );
    drop(again);
    drop(queues);
    handle.shutdown(LIMIT).await;
}

#[tokio::test]
async fn a_consumer_without_marks_starts_over() {
    let config = KafkaConfig {
        partitions: 1,
        ..config().await
    };
    let topic = topic(&config, "unmarked").await;
    let producer = producer(&config).await;
    producer
        .publish(numbered(&topic, 0, 10))
        .expect("enqueued")
        .await
        .expect("acknowledged");
    for _ in 0..2 {
        let (handle, mut queues) = consumer(&config, &topic, 1, 8 << 20);
        assert_eq!(next(&mut queues[0]).await.records[0].offset, 0);
        handle.shutdown(LIMIT).await;
    }
}

#[tokio::test]
async fn two_consumers_share_and_take_over() {
    let config = config().await;
    let topic = topic(&config, "share").await;
    let producer = producer(&config).await;
    let stop = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicUsize::new(0));
    let sending = tokio::spawn({
        let (topic, stop, sent) = (Arc::clone(&topic), Arc::clone(&stop), Arc::clone(&sent));
        async move {
            while !stop.load(Ordering::Relaxed) {
                let first = sent.load(Ordering::Relaxed);
                let ack = producer
                    .publish(numbered(&topic, first, 50))
                    .expect("enqueued");
                ack.await.expect("acknowledged");
                sent.store(first + 50, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    });

    let (one, queues_one) = consumer(&config, &topic, 2, 8 << 20);
    wait_until("one has all", || one.assigned().len() == 4).await;
    let mut from_one = collect(&one, queues_one);
    let (two, queues_two) = consumer(&config, &topic, 2, 8 << 20);
    wait_until("they share", || {
        one.assigned().len() == 2 && two.assigned().len() == 2
    })
    .await;
    let mut from_two = collect(&two, queues_two);
    let before = sent.load(Ordering::Relaxed);
    wait_until("some more", || sent.load(Ordering::Relaxed) > before + 500).await;
    one.shutdown(LIMIT).await;
    wait_until("two has all", || two.assigned().len() == 4).await;
    let before = sent.load(Ordering::Relaxed);
    wait_until("some more", || sent.load(Ordering::Relaxed) > before + 500).await;
    stop.store(true, Ordering::Relaxed);
    sending.await.expect("sender");

    let total = sent.load(Ordering::Relaxed);
    let mut last = std::collections::HashMap::new();
    let mut numbers = std::collections::BTreeSet::new();
    let mut take = |who: u8, records: Vec<Record>| {
        for record in records {
            let before = last.insert((who, record.partition), record.offset);
            assert!(
                before.is_none_or(|before| before < record.offset),
                "order within a partition"
            );
            numbers.insert(number(&record));
        }
        numbers.len()
    };
    while let Some((_, records)) = from_one.recv().await {
        take(1, records);
    }
    let mut seen = 0;
    while seen < total {
        let (_, records) = received(&mut from_two).await;
        seen = take(2, records);
    }
    assert_eq!(seen, total, "at least once, none lost");
    two.shutdown(LIMIT).await;
}

#[tokio::test]
async fn a_topic_that_appears_later_is_consumed() {
    let config = config().await;
    let name = config.topic("later");
    let (handle, mut queues) = consumer(&config, &name, 1, 1 << 20);
    wait_until("the broker is found", || handle.connected()).await;
    assert!(handle.assigned().is_empty());
    let made = topic(&config, "later").await;
    assert_eq!(made, name);
    let producer = producer(&config).await;
    producer
        .publish(numbered(&made, 0, 1))
        .expect("enqueued")
        .await
        .expect("acknowledged");
    assert_eq!(next(&mut queues[0]).await.records.len(), 1);
    assert!(handle.healthy(), "{:?}", handle.problem());
    handle.shutdown(LIMIT).await;
}

#[tokio::test]
async fn without_kafka_a_consumer_waits_and_still_shuts_down() {
    let config = KafkaConfig {
        brokers: "127.0.0.1:1".to_owned(),
        ..config().await
    };
    let (handle, mut queues) = consumer(&config, &config.topic("x"), 1, 1 << 20);
    assert!(!handle.connected());
    assert!(queues[0].try_recv().is_none());
    tokio::time::timeout(LIMIT, handle.shutdown(Duration::ZERO))
        .await
        .expect("closes");
    assert!(queues[0].recv().await.is_none());
}

#[tokio::test]
async fn a_queue_without_a_worker_is_a_problem_that_shows() {
    let config = config().await;
    let topic = topic(&config, "orphan").await;
    let producer = producer(&config).await;
    let (handle, queues) = consumer(&config, &topic, 1, 1 << 20);
    drop(queues);
    producer
        .publish(numbered(&topic, 0, 1))
        .expect("enqueued")
        .await
        .expect("acknowledged");
    wait_until("the problem shows", || !handle.healthy()).await;
    handle.shutdown(LIMIT).await;
}

#[tokio::test]
async fn a_consumer_fenced_by_its_double_says_so_and_comes_back() {
    let config = KafkaConfig {
        group_instance_id: Some("one".to_owned()),
        ..config().await
    };
    let topic = topic(&config, "double").await;
    let (first, mut queues) = consumer(&config, &topic, 1, 1 << 20);
    wait_until("the first has all", || first.assigned().len() == 4).await;
    // A fatal error for the first: librdkafka's client can only be thrown away.
    let (second, _queues) = consumer(&config, &topic, 1, 1 << 20);
    wait_until("the first is fenced", || !first.healthy()).await;
    wait_until("and has nothing", || first.assigned().is_empty()).await;
    tokio::time::timeout(LIMIT, second.shutdown(Duration::ZERO))
        .await
        .expect("closes");

    wait_until("the first is back", || {
        first.healthy() && first.assigned().len() == 4
    })
    .await;
    let producer = producer(&config).await;
    let ack = producer.publish(numbered(&topic, 0, 1)).expect("enqueued");
    ack.await.expect("acknowledged");
    assert_eq!(next(&mut queues[0]).await.records.len(), 1);
    tokio::time::timeout(LIMIT, first.shutdown(Duration::ZERO))
        .await
        .expect("closes");
}

/// What comes while a partition is placed is read from its place on, however long Kafka takes to answer.
#[tokio::test]
async fn a_placed_partition_is_read_from_its_place_whatever_comes_meanwhile() {
    let config = config().await;
    let topic = topic(&config, "placed").await;
    let producer = producer(&config).await;
    let placed = KafkaConfig {
        brokers: far(&config.brokers, Duration::from_millis(400)).await,
        placed: true,
        ..config
    };
    let (handle, queues) = consumer(&placed, &topic, 2, 8 << 20);
    let mut chunks = collect(&handle, queues);
    wait_until("the partitions are assigned", || {
        handle.assigned().len() == 4
    })
    .await;
    for partition in 0..4 {
        handle.place(&topic, partition, 0);
    }
    let total = 400;
    for n in 0..total {
        let ack = producer.publish(numbered(&topic, n, 1)).expect("enqueued");
        ack.await.expect("acknowledged");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut seen = Seen::default();
    while seen.len() < total {
        seen.add(received(&mut chunks).await.1);
    }
    seen.assert_complete(total);
    handle.shutdown(LIMIT).await;
}
