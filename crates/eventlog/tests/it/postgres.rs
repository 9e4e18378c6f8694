//! What only the Postgres log has to show: order although transactions end in another order than
//! they began, a table that stays small, and a schema that comes late.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use eventlog::postgres::{PostgresLog, PostgresLogConfig, PostgresSource};
use eventlog::{PublishError, Publisher as _, Record, Source};
use prometheus::Registry;
use store::{log, migrate};
use testkit::{Parts, eventually};

use crate::conformance::{assert_each_once, collect, publish, stored, survives};
use crate::logs::{Bounds, Log, Postgres, database};
use crate::support::{LIMIT, number, numbered, outgoing, wait_until};

/// Several gateways, others that append in transactions they keep open, and processors that come and
/// go: everything is stored once, each partition in the order of its ids, each key in the order sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_writers_and_processors_lose_double_and_reorder_nothing() {
    const GATEWAYS: usize = 3;
    const SLOW: usize = 3;
    const EACH: usize = 2_000;
    let log = Arc::new(Postgres::new(&Parts::shared().await).await);
    let mut writers = tokio::task::JoinSet::new();
    for gateway in 0..GATEWAYS {
        let publisher = log.publisher(Bounds::default()).await;
        let topic = log.topic();
        writers.spawn(async move {
            for n in (0..EACH).step_by(10) {
                let records: Vec<_> = (n..n + 10)
                    .map(|n| {
                        let key = format!("g{gateway}:{}", n % 7);
                        outgoing(&topic, &key, (n * 10 + gateway).to_string())
                    })
                    .collect();
                publish(&publisher, &records).await;
            }
        });
    }
    for slow in GATEWAYS..GATEWAYS + SLOW {
        let log = Arc::clone(&log);
        writers.spawn(async move {
            let mut client = log.fresh.connect().await.expect("connects");
            for n in (0..EACH).step_by(100) {
                let tx = client.transaction().await.expect("begins");
                for n in (n..n + 100).step_by(20) {
                    let key = format!("s{slow}:{}", n / 20 % 7);
                    let payloads: Vec<Vec<u8>> = (n..n + 20)
                        .map(|n| (n * 10 + slow).to_string().into_bytes())
                        .collect();
                    let partitions = vec![log::partition_of(key.as_bytes()); payloads.len()];
                    let keys = vec![key.as_bytes(); payloads.len()];
                    let none = vec![&b""[..]; payloads.len()];
                    let topics = vec!["events.conformance"; payloads.len()];
                    tx.execute(
                        "select log_append($1, $2, $3, $4, $5)",
                        &[&partitions, &topics, &keys, &none, &payloads],
                    )
                    .await
                    .expect("appended");
                    // Its ids are drawn and not yet to be seen.
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                tx.commit().await.expect("committed");
            }
        });
    }

    let total = (GATEWAYS + SLOW) * EACH;
    let seen: Arc<tokio::sync::Mutex<Vec<Record>>> = Arc::default();
    let count = Arc::new(AtomicUsize::new(0));
    let processor = || {
        let (source, queues) = log.consume(2, 256 * 1024);
        let mut out = collect(&log, &source, queues);
        let (seen, count) = (Arc::clone(&seen), Arc::clone(&count));
        tokio::spawn(async move {
            while let Some((_, records)) = out.recv().await {
                count.fetch_add(records.len(), Ordering::Relaxed);
                seen.lock().await.extend(records);
            }
        });
        source
    };
    let steady = processor();
    // Others come, and go without a word.
    while count.load(Ordering::Relaxed) < total / 2 {
        let guests = (processor(), processor());
        let before = count.load(Ordering::Relaxed);
        wait_until("some more", || {
            let now = count.load(Ordering::Relaxed);
            now > before + 700 || now == total
        })
        .await;
        drop(guests);
    }
    while let Some(writer) = writers.join_next().await {
        writer.expect("no panic");
    }
    wait_until("everything", || count.load(Ordering::Relaxed) >= total).await;
    assert!(steady.healthy(), "{:?}", steady.problem());
    steady.shutdown(LIMIT).await;

    let seen = seen.lock().await;
    let mut numbers: Vec<usize> = seen.iter().map(number).collect();
    numbers.sort_unstable();
    let mut expected: Vec<usize> = (0..GATEWAYS + SLOW)
        .flat_map(|who| (0..EACH).map(move |n| n * 10 + who))
        .collect();
    expected.sort_unstable();
    assert_eq!(numbers, expected);
    // The order of storing, which is not that of `seen`.
    let places: HashMap<_, &Record> = seen.iter().map(|r| ((r.partition, r.offset), r)).collect();
    let journal = log.journal.lock().expect("no panic");
    let (mut last_id, mut last_of_key) = (HashMap::new(), HashMap::new());
    for position in journal.iter() {
        let before = last_id.insert(position.partition, position.offset);
        assert!(
            before.is_none_or(|before| before < position.offset),
            "{position:?}"
        );
        let record = places[&(i32::from(position.partition), position.offset)];
        let before = last_of_key.insert(record.key.clone(), number(record));
        assert!(before.is_none_or(|before| before < number(record)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_stays_small_under_sustained_load_and_is_empty_afterwards() {
    const TOTAL: usize = 500_000;
    const WAITING: usize = 10_000;
    const PAYLOAD: usize = 400;
    /// Records between two vacuums, which is how far apart they ought to be.
    const VACUUM: usize = 50_000;
    let log = Arc::new(Postgres::new(&Parts::shared().await).await);
    let client = log.fresh.connect().await.expect("connects");
    let size = async |of: &str| -> i64 {
        let sql = format!("select {of}('event_log')");
        client.query_one(&sql, &[]).await.expect("size").get(0)
    };
    let vacuums = async || -> i64 {
        let sql = "select vacuum_count from pg_stat_user_tables where relname = 'event_log'";
        client.query_one(sql, &[]).await.expect("count").get(0)
    };
    let (source, queues) = log.consume(2, 8 << 20);
    let mut out = collect(&log, &source, queues);
    let publisher = log.publisher(Bounds::default()).await;
    let stored = Arc::new(AtomicUsize::new(0));
    let mut vacuumed = 0;
    let storing = tokio::spawn({
        let stored = Arc::clone(&stored);
        async move {
            while stored.load(Ordering::Relaxed) < TOTAL {
                let (_, records) = out.recv().await.expect("open queues");
                stored.fetch_add(records.len(), Ordering::Relaxed);
            }
        }
    });
    let peak = AtomicI64::new(0);
    let topic = log.topic();
    for first in (0..TOTAL).step_by(1_000) {
        let records: Vec<_> = (first..first + 1_000)
            .map(|n| outgoing(&topic, &format!("k{}", n % 500), format!("{n:0PAYLOAD$}")))
            .collect();
        publish(&publisher, &records).await;
        // A load that the processor keeps up with: what grows then is waste.
        wait_until("the processor keeps up", || {
            first < stored.load(Ordering::Relaxed) + WAITING
        })
        .await;
        // On a slow disk a vacuum takes its time; the load waits for it, and for nothing else.
        if first % VACUUM == 0 && first > 0 {
            vacuumed = eventually("a vacuum", LIMIT, || async {
                match vacuums().await {
                    count if count > vacuumed => Ok(count),
                    count => Err(count),
                }
            })
            .await;
        }
        if first % 5_000 == 0 {
            let now = size("pg_total_relation_size").await;
            peak.fetch_max(now, Ordering::Relaxed);
        }
    }
    tokio::time::timeout(LIMIT * 3, storing)
        .await
        .expect("all stored")
        .expect("no panic");
    let written = i64::try_from(TOTAL * PAYLOAD).expect("fits");
    let peak = peak.into_inner();
    assert!(
        peak < written / 2,
        "{peak} bytes at the peak, {written} bytes of payload in all"
    );
    // The table goes back to nothing. Pages of its index are used again rather than given back.
    eventually("an empty, small table", LIMIT, || async {
        let rows: i64 = log.fresh.count("event_log").await.expect("counts");
        match (rows, size("pg_relation_size").await) {
            (0, ..1_000_000) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    source.shutdown(LIMIT).await;
}

#[tokio::test]
async fn an_immediate_stop_of_postgres_loses_and_doubles_nothing() {
    survives::<Postgres>(async |parts| parts.stop_postgres_immediately().await).await;
}

#[tokio::test]
async fn both_ends_wait_for_a_schema_that_comes_late() {
    let fresh = Parts::shared().await.fresh_database().await;
    let db = database(&fresh.url);
    let config = PostgresLogConfig::default();
    let publisher = PostgresLog::new(&db, config, &Registry::new()).expect("publisher");
    let (source, mut queues) = PostgresSource::start(&db, 1, 1 << 20, false);
    let record = outgoing(&"t".into(), "a", "0");
    let refused = publisher.publish(std::slice::from_ref(&record));
    assert_eq!(refused.err(), Some(PublishError::Unavailable));
    assert!(!source.connected() && source.healthy());
    migrate::run(&db).await.expect("migrated");
    wait_until("the publisher connects", || publisher.connected()).await;
    publisher
        .publish(&[record])
        .expect("enqueued")
        .await
        .expect("acknowledged");
    let chunk = tokio::time::timeout(LIMIT, queues[0].recv()).await;
    let chunk = chunk.expect("in time").expect("an open queue");
    assert_eq!(chunk.records.len(), 1);
    wait_until("the backlog shows", || {
        source
            .backlog()
            .is_some_and(|backlog| backlog.records == 1 && backlog.oldest.is_some())
    })
    .await;
    drop(chunk);
    source.shutdown(LIMIT).await;
}

/// The lock of the append is somebody's who does not let go.
#[tokio::test]
async fn a_log_that_is_blocked_says_so_and_goes_on_afterwards() {
    let log = Arc::new(Postgres::new(&Parts::shared().await).await);
    let publisher = log.publisher(Bounds::default()).await;
    let mut client = log.fresh.connect().await.expect("connects");
    let tx = client.transaction().await.expect("begins");
    tx.execute(
        "select log_append(array[0::int2], array['t'], array[null::bytea], array[''::bytea], array['x'::bytea])",
        &[],
    )
    .await
    .expect("appended");
    let ack = publisher
        .publish(&numbered(&log.topic(), 0, 10))
        .expect("enqueued");
    assert_eq!(ack.await, Err(PublishError::Unavailable));
    tx.rollback().await.expect("rolled back");
    eventually("publishing again", LIMIT, || async {
        publisher.publish(&numbered(&log.topic(), 0, 10))?.await
    })
    .await;
    // The refusal was the server's: nothing of the first attempt is there.
    let (source, queues) = log.consume(1, 1 << 20);
    let records = stored(&mut collect(&log, &source, queues), 10).await;
    assert_each_once(records.iter().map(|(_, record)| record), 10);
    assert_eq!(log.fresh.count("event_log").await.expect("counts"), 0);
    source.shutdown(LIMIT).await;
}
