//! What holds of every event log: one suite, run for Kafka and for PostgreSQL.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use eventlog::{Headers, PublishError, Publisher, Record, Source, WorkerQueue};
use testkit::{Parts, eventually};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::logs::{Bounds, Kafka, Log, Postgres};
use crate::support::{LIMIT, next, number, numbered, outgoing, wait_until};

macro_rules! suite {
    ($name:ident, $log:ty: $($test:ident),+ $(,)?) => {
        mod $name {
            $(#[tokio::test]
            async fn $test() {
                super::$test::<$log>().await;
            })+
        }
    };
}

macro_rules! suites {
    ($($test:ident),+ $(,)?) => {
        suite!(kafka, super::Kafka: $($test),+);
        suite!(postgres, super::Postgres: $($test),+);
    };
}

suites!(
    a_record_comes_out_as_it_went_in,
    order_holds_per_key_and_partitions_keep_their_lane,
    a_large_batch_and_a_record_larger_than_the_buffer_get_through,
    records_without_a_key_spread,
    a_refused_batch_leaves_nothing_behind,
    a_log_that_is_not_there_answers_at_once,
    flush_waits_for_everything,
    backpressure_is_bounded_and_loses_nothing,
    a_consumer_that_is_gone_is_followed_by_another,
    shutdown_lets_the_lanes_run_empty,
    two_consumers_share_and_take_over,
    what_was_acknowledged_survives_a_kill,
);

async fn fresh<L: Log>() -> Arc<L> {
    Arc::new(L::new(&Parts::shared().await).await)
}

/// Publishes and waits for the acknowledgement.
pub(crate) async fn publish(publisher: &Arc<dyn Publisher>, records: &[eventlog::Outgoing]) {
    let ack = publisher.publish(records).expect("enqueued");
    ack.await.expect("acknowledged");
}

/// Stores everything that comes out of the queues, and tells by which worker.
pub(crate) fn collect<L: Log>(
    log: &Arc<L>,
    source: &Arc<dyn Source>,
    queues: Vec<WorkerQueue>,
) -> UnboundedReceiver<(usize, Vec<Record>)> {
    let (sender, receiver) = unbounded_channel();
    for mut queue in queues {
        let (log, source, sender) = (Arc::clone(log), Arc::clone(source), sender.clone());
        tokio::spawn(async move {
            while let Some(chunk) = queue.recv().await {
                let stored = log.store(&source, chunk).await;
                if sender.send((queue.index(), stored)).is_err() {
                    break;
                }
            }
        });
    }
    receiver
}

/// What was stored until there are `count` records of it.
pub(crate) async fn stored(
    from: &mut UnboundedReceiver<(usize, Vec<Record>)>,
    count: usize,
) -> Vec<(usize, Record)> {
    let mut all = Vec::new();
    let reading = async {
        while all.len() < count {
            let (worker, records) = from.recv().await.expect("open queues");
            all.extend(records.into_iter().map(|record| (worker, record)));
        }
    };
    if tokio::time::timeout(LIMIT, reading).await.is_err() {
        panic!("{} of {count} records came", all.len());
    }
    all
}

pub(crate) fn assert_each_once<'a>(records: impl Iterator<Item = &'a Record>, count: usize) {
    let mut numbers: Vec<_> = records.map(number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>());
}

async fn a_record_comes_out_as_it_went_in<L: Log>() {
    let log = fresh::<L>().await;
    let publisher = log.publisher(Bounds::default()).await;
    let mut sent = outgoing(&log.topic(), "stream:1", *b"\0\xff{\"a\":1}\\x");
    sent.headers = Headers::from_iter([
        ("subject", &b"events.x"[..]),
        ("twice", b"1"),
        ("twice", b"\0\xff"),
        ("empty", b""),
    ]);
    let empty = outgoing(&log.topic(), "stream:1", []);
    publish(&publisher, &[sent, empty]).await;
    publish(&publisher, &[]).await;

    let (source, queues) = log.consume(1, 1 << 20);
    let records = stored(&mut collect(&log, &source, queues), 2).await;
    let (first, second) = (&records[0].1, &records[1].1);
    assert_eq!(first.topic, log.topic());
    assert_eq!(first.key.as_deref(), Some(&b"stream:1"[..]));
    assert_eq!(first.payload.as_deref(), Some(&b"\0\xff{\"a\":1}\\x"[..]));
    let headers: Vec<(&str, &[u8])> = first
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_slice()))
        .collect();
    assert_eq!(
        headers,
        [
            ("subject", &b"events.x"[..]),
            ("twice", b"1"),
            ("twice", b"\0\xff"),
            ("empty", b""),
        ]
    );
    assert!(first.timestamp_ms.is_some_and(|ms| ms > 1_700_000_000_000));
    assert_eq!(second.payload.as_deref(), Some(&b""[..]));
    assert_eq!(second.headers, []);
    source.shutdown(LIMIT).await;
}

async fn order_holds_per_key_and_partitions_keep_their_lane<L: Log>() {
    let log = fresh::<L>().await;
    let publisher = log.publisher(Bounds::default()).await;
    let (source, queues) = log.consume(3, 8 << 20);
    let mut out = collect(&log, &source, queues);
    let total = 20_000;
    // Not awaited one by one: order is that of the calls.
    let acks: Vec<_> = (0..total)
        .step_by(100)
        .map(|first| publisher.publish(&numbered(&log.topic(), first, 100)))
        .collect();
    for ack in acks {
        ack.expect("enqueued").await.expect("acknowledged");
    }
    let records = stored(&mut out, total).await;
    assert_each_once(records.iter().map(|(_, record)| record), total);
    let mut partition_of = BTreeMap::new();
    let mut last: HashMap<_, (usize, i64)> = HashMap::new();
    for (worker, record) in &records {
        assert_eq!(
            *partition_of.entry(record.partition).or_insert(*worker),
            *worker
        );
        let this = (number(record), record.offset);
        let before = last.insert(record.key.clone(), this);
        assert!(
            before.is_none_or(|before| before.0 < this.0 && before.1 < this.1),
            "{:?}: {before:?} and then {this:?}",
            record.key
        );
    }
    let workers: BTreeSet<_> = partition_of.values().collect();
    assert_eq!(workers.len(), 3, "all workers have work: {partition_of:?}");
    wait_until("no lag is left", || {
        source.lag().iter().filter_map(|p| p.lag).sum::<i64>() == 0
    })
    .await;
    wait_until("nothing is buffered", || source.buffered_bytes() == 0).await;
    source.shutdown(LIMIT).await;
}

async fn a_large_batch_and_a_record_larger_than_the_buffer_get_through<L: Log>() {
    let log = fresh::<L>().await;
    let publisher = log.publisher(Bounds::default()).await;
    let batch = numbered(&log.topic(), 0, 30_000);
    publish(&publisher, &batch).await;
    let (source, queues) = log.consume(1, 64 * 1024);
    let mut out = collect(&log, &source, queues);
    let records = stored(&mut out, 30_000).await;
    assert_each_once(records.iter().map(|(_, record)| record), 30_000);
    for n in 0..3_u8 {
        let large = outgoing(&log.topic(), "large", vec![n; 3 << 20]);
        publish(&publisher, &[large]).await;
    }
    let records = stored(&mut out, 3).await;
    let seen: Vec<_> = records
        .iter()
        .map(|(_, r)| r.payload.as_ref().map(|p| (p[0], p.len())))
        .collect();
    let expected: Vec<_> = (0..3).map(|n| Some((n, 3 << 20))).collect();
    assert_eq!(seen, expected);
    source.shutdown(LIMIT).await;
}

async fn records_without_a_key_spread<L: Log>() {
    let log = fresh::<L>().await;
    let publisher = log.publisher(Bounds::default()).await;
    for first in (0..400).step_by(10) {
        let records: Vec<_> = (first..first + 10)
            .map(|n| outgoing(&log.topic(), "", n.to_string()))
            .collect();
        publish(&publisher, &records).await;
    }
    let (source, queues) = log.consume(2, 1 << 20);
    let records = stored(&mut collect(&log, &source, queues), 400).await;
    assert_each_once(records.iter().map(|(_, record)| record), 400);
    assert!(records.iter().all(|(_, record)| record.key.is_none()));
    let partitions: BTreeSet<_> = records.iter().map(|(_, r)| r.partition).collect();
    assert!(partitions.len() > 1, "{partitions:?}");
    source.shutdown(LIMIT).await;
}

async fn a_refused_batch_leaves_nothing_behind<L: Log>() {
    let log = fresh::<L>().await;
    let bounds = Bounds {
        record_bytes: 10_000,
        queue_records: 100,
        queue_bytes: 50_000,
        // The first batch waits while the second one is refused, however long that takes.
        linger_ms: 2_000.0,
    };
    let publisher = log.publisher(bounds).await;
    let topic = log.topic();
    let too_large = [
        outgoing(&topic, "a", "no"),
        outgoing(&topic, "a", vec![b'x'; 10_001]),
    ];
    let refused = |records: &[eventlog::Outgoing]| publisher.publish(records).err();
    assert_eq!(refused(&too_large), Some(PublishError::TooLarge));

    let first = publisher.publish(&numbered(&topic, 0, 80)).expect("room");
    assert_eq!(
        refused(&numbered(&topic, 900, 21)),
        Some(PublishError::Full)
    );
    let second = publisher.publish(&numbered(&topic, 80, 20)).expect("room");
    first.await.expect("acknowledged");
    second.await.expect("acknowledged");

    let large = |n: usize| outgoing(&topic, "a", format!("{n:09000}"));
    let records = [large(100), large(101), large(102)];
    let ack = publisher.publish(&records).expect("room for 27 KB");
    assert_eq!(
        refused(&[large(901), large(902), large(903)]),
        Some(PublishError::Full)
    );
    ack.await.expect("acknowledged");
    publish(&publisher, &numbered(&topic, 103, 7)).await;

    let (source, queues) = log.consume(1, 1 << 20);
    let records = stored(&mut collect(&log, &source, queues), 110).await;
    assert_each_once(records.iter().map(|(_, record)| record), 110);
    source.shutdown(LIMIT).await;
}

async fn a_log_that_is_not_there_answers_at_once<L: Log>() {
    let publisher = L::nowhere();
    assert!(!publisher.connected());
    let record = outgoing(&"t".into(), "a", "0");
    assert_eq!(
        publisher.publish(&[record]).err(),
        Some(PublishError::Unavailable)
    );
    publisher.flush(LIMIT).await.expect("nothing in flight");
}

async fn flush_waits_for_everything<L: Log>() {
    let log = fresh::<L>().await;
    let publisher = log.publisher(Bounds::default()).await;
    for first in (0..1_000).step_by(50) {
        // Nobody waits for the acknowledgement; the records are on their way all the same.
        drop(
            publisher
                .publish(&numbered(&log.topic(), first, 50))
                .expect("room"),
        );
    }
    publisher.flush(LIMIT).await.expect("flushed");
    drop(publisher);
    let (source, queues) = log.consume(1, 1 << 20);
    let records = stored(&mut collect(&log, &source, queues), 1_000).await;
    assert_each_once(records.iter().map(|(_, record)| record), 1_000);
    source.shutdown(LIMIT).await;
}

async fn backpressure_is_bounded_and_loses_nothing<L: Log>() {
    let log = fresh::<L>().await;
    let publisher = log.publisher(Bounds::default()).await;
    let total = 30_000;
    for first in (0..total).step_by(1_000) {
        publish(&publisher, &numbered(&log.topic(), first, 1_000)).await;
    }
    let buffer = 256 * 1024;
    let (source, queues) = log.consume(2, buffer);
    // Nobody reads: both queues fill.
    wait_until("both queues are full", || source.pauses() >= 2).await;
    assert!(
        source.buffered_bytes() <= buffer,
        "{}",
        source.buffered_bytes()
    );
    assert!(
        source.buffered_bytes() > buffer / 4,
        "{}",
        source.buffered_bytes()
    );
    wait_until("the lag shows all records", || {
        let lag = source.lag();
        lag.len() == L::PARTITIONS && lag.iter().filter_map(|p| p.lag).sum::<i64>() == total as i64
    })
    .await;
    assert!(source.healthy(), "{:?}", source.problem());
    let records = stored(&mut collect(&log, &source, queues), total).await;
    assert_each_once(records.iter().map(|(_, record)| record), total);
    source.shutdown(LIMIT).await;
}

async fn a_consumer_that_is_gone_is_followed_by_another<L: Log>() {
    let log = fresh::<L>().await;
    let publisher = log.publisher(Bounds::default()).await;
    let total = 5_000;
    publish(&publisher, &numbered(&log.topic(), 0, total)).await;
    let mut all = Vec::new();
    for _ in 0..3 {
        let (source, mut queues) = log.consume(1, 64 * 1024);
        let chunk = next(&mut queues[0]).await;
        let in_hand = next(&mut queues[0]).await;
        all.extend(log.store(&source, chunk).await);
        // Dropped without a word, with records in hand and in the queue.
        drop((source, queues, in_hand));
    }
    assert!(all.len() < total, "something is left for the last one");
    let (source, queues) = log.consume(2, 1 << 20);
    let mut out = collect(&log, &source, queues);
    let rest = stored(&mut out, total - all.len()).await;
    all.extend(rest.into_iter().map(|(_, record)| record));
    assert_each_once(all.iter(), total);
    source.shutdown(LIMIT).await;
}

async fn shutdown_lets_the_lanes_run_empty<L: Log>() {
    let log = fresh::<L>().await;
    let publisher = log.publisher(Bounds::default()).await;
    let total = 3_000;
    publish(&publisher, &numbered(&log.topic(), 0, total)).await;
    let (source, mut queues) = log.consume(1, 8 << 20);
    let first = next(&mut queues[0]).await;
    let mut seen = log.store(&source, first).await;
    let (log2, source2) = (Arc::clone(&log), Arc::clone(&source));
    let mut queue = queues.pop().expect("one queue");
    let rest = tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Some(chunk) = queue.recv().await {
            seen.extend(log2.store(&source2, chunk).await);
        }
        seen
    });
    source.shutdown(LIMIT).await;
    assert_eq!(source.buffered_bytes(), 0);
    assert!(source.assigned().is_empty(), "it left the log");
    seen.extend(rest.await.expect("the queue ends"));
    let (source, queues) = log.consume(1, 8 << 20);
    let mut out = collect(&log, &source, queues);
    let others = stored(&mut out, total - seen.len()).await;
    seen.extend(others.into_iter().map(|(_, record)| record));
    assert_each_once(seen.iter(), total);
    source.shutdown(LIMIT).await;
}

async fn two_consumers_share_and_take_over<L: Log>() {
    let log = fresh::<L>().await;
    let publisher = log.publisher(Bounds::default()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicUsize::new(0));
    let sending = tokio::spawn({
        let (topic, stop, sent) = (log.topic(), Arc::clone(&stop), Arc::clone(&sent));
        async move {
            while !stop.load(Ordering::Relaxed) {
                let first = sent.load(Ordering::Relaxed);
                publish(&publisher, &numbered(&topic, first, 50)).await;
                sent.store(first + 50, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    });
    let more = async || {
        let before = sent.load(Ordering::Relaxed);
        wait_until("some more", || sent.load(Ordering::Relaxed) > before + 500).await;
    };
    let (one, queues) = log.consume(2, 8 << 20);
    wait_until("one has all", || one.assigned().len() == L::PARTITIONS).await;
    let mut from_one = collect(&log, &one, queues);
    let (two, queues) = log.consume(2, 8 << 20);
    wait_until("they share", || {
        one.assigned().len() == L::PARTITIONS / 2 && two.assigned().len() == L::PARTITIONS / 2
    })
    .await;
    let mut from_two = collect(&log, &two, queues);
    more().await;
    one.shutdown(LIMIT).await;
    wait_until("two has all", || two.assigned().len() == L::PARTITIONS).await;
    more().await;
    let (three, queues) = log.consume(1, 8 << 20);
    wait_until("they share again", || {
        two.assigned().len() == L::PARTITIONS / 2 && three.assigned().len() == L::PARTITIONS / 2
    })
    .await;
    let mut from_three = collect(&log, &three, queues);
    more().await;
    // This one dies.
    drop(two);
    more().await;
    stop.store(true, Ordering::Relaxed);
    sending.await.expect("sender");

    let total = sent.load(Ordering::Relaxed);
    let mut all: Vec<Record> = Vec::new();
    let reading = async {
        while all.len() < total {
            let (_, records) = tokio::select! {
                Some(some) = from_one.recv() => some,
                Some(some) = from_two.recv() => some,
                Some(some) = from_three.recv() => some,
            };
            all.extend(records);
        }
    };
    if tokio::time::timeout(LIMIT, reading).await.is_err() {
        panic!("{} of {total} records came", all.len());
    }
    assert_each_once(all.iter(), total);
    three.shutdown(LIMIT).await;
}

async fn what_was_acknowledged_survives_a_kill<L: Log>() {
    survives::<L>(async |parts| parts.kill(L::PART).await).await;
}

/// The log's server goes away under load and comes back: what was acknowledged comes out, each once,
/// and nothing that was published once comes out twice.
pub(crate) async fn survives<L: Log>(stopping: impl AsyncFnOnce(&Parts)) {
    let parts = Parts::private_of(&[L::PART]).await;
    let log = Arc::new(L::new(&parts).await);
    let publisher = log.publisher(Bounds::default()).await;
    let (source, queues) = log.consume(2, 8 << 20);
    let mut out = collect(&log, &source, queues);
    let stop = Arc::new(AtomicBool::new(false));
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..8_usize {
        let (publisher, topic, stop) = (Arc::clone(&publisher), log.topic(), Arc::clone(&stop));
        senders.spawn(async move {
            let mut acknowledged = Vec::new();
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                // Numbers are never used twice, whatever became of them.
                let numbers: Vec<usize> = (0..5).map(|i| (n + i) * 8 + sender).collect();
                n += 5;
                let records: Vec<_> = numbers
                    .iter()
                    .map(|number| outgoing(&topic, &format!("k{sender}"), number.to_string()))
                    .collect();
                let published = match publisher.publish(&records) {
                    Ok(ack) => ack.await,
                    Err(error) => Err(error),
                };
                match published {
                    Ok(()) => acknowledged.extend(numbers),
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
            acknowledged
        });
    }
    let seen_some = stored(&mut out, 500).await;
    stopping(&parts).await;
    wait_until("the publisher notices", || !publisher.connected()).await;
    assert_eq!(
        publisher.publish(&numbered(&log.topic(), 0, 1)).err(),
        Some(PublishError::Unavailable),
        "refused at once"
    );
    wait_until("the consumer notices", || !source.connected()).await;
    assert!(
        source.healthy(),
        "an outage is no defect: {:?}",
        source.problem()
    );
    parts.start(L::PART).await;
    wait_until("the publisher is back", || publisher.connected()).await;
    wait_until("the consumer is back", || source.connected()).await;
    let seen_more = stored(&mut out, 500).await;
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = BTreeSet::new();
    while let Some(sent) = senders.join_next().await {
        acknowledged.extend(sent.expect("no panic"));
    }
    let mut numbers: Vec<usize> = seen_some
        .iter()
        .chain(&seen_more)
        .map(|(_, r)| number(r))
        .collect();
    let out = tokio::sync::Mutex::new(out);
    let numbers_now = tokio::sync::Mutex::new(&mut numbers);
    eventually("every acknowledged record", LIMIT, || async {
        let (mut out, mut numbers) = (out.lock().await, numbers_now.lock().await);
        while let Ok((_, records)) = out.try_recv() {
            numbers.extend(records.iter().map(number));
        }
        let seen: BTreeSet<_> = numbers.iter().copied().collect();
        match acknowledged.difference(&seen).count() {
            0 => Ok(()),
            missing => Err(missing),
        }
    })
    .await;
    let distinct: BTreeSet<_> = numbers.iter().collect();
    assert_eq!(distinct.len(), numbers.len(), "something came twice");
    source.shutdown(LIMIT).await;
}
