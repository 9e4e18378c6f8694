//! The event log: order, the fence, ownership, vacuum.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use store::Database;
use store::log::{
    self, Acquired, Appender, Cursor, LOG, Lease, LogPosition, NewRow, PARTITIONS, Reader, Row,
    partition_of,
};
use store::write::{Advance, Batch, Writer};
use testkit::{LIMIT, eventually};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::database::with_database;

fn row<'a>(key: &'a str, payload: &'a [u8]) -> NewRow<'a> {
    NewRow {
        partition: partition_of(key.as_bytes()),
        topic: "t",
        key: Some(key.as_bytes()),
        headers: b"",
        payload: Some(payload),
    }
}

fn everything(bytes: i64) -> Vec<Cursor> {
    (0..PARTITIONS)
        .map(|partition| Cursor {
            from: LogPosition {
                partition,
                offset: 0,
            },
            bytes,
        })
        .collect()
}

async fn read_all(db: &Database) -> Vec<Row> {
    let reader = Reader::connect(db).await.unwrap();
    reader.read(&everything(i64::MAX), 100_000).await.unwrap()
}

/// A step over so many rows of the partition of key `k`.
fn step(from: i64, to: i64, records: usize) -> Advance {
    Advance {
        topic: LOG.to_owned(),
        partition: i32::from(partition_of(b"k")),
        from,
        to,
        records: i64::try_from(records).unwrap(),
        live: None,
    }
}

async fn advance(
    writer: &mut Writer,
    owner: Option<Uuid>,
    step: Advance,
) -> Result<(), store::Error> {
    let batch = Batch {
        matched: None,
        events: &[],
        dead_letters: &[],
        advances: &[step],
        owner,
        announce: store::outbox::Announce::nowhere(),
        refuse: &|_, reason, detail| panic!("{reason}: {detail}"),
    };
    writer.write(&batch).await.map(drop)
}

#[tokio::test]
async fn rows_come_back_as_they_were_and_in_order() {
    with_database(|db| async move {
        let appender = Appender::connect(&db).await.unwrap();
        let headers = log::pack_headers([("a", &b"\0\xff"[..]), ("b", b"")].into_iter());
        let strange = NewRow {
            partition: 7,
            topic: "events.x",
            key: None,
            headers: &headers,
            payload: Some(b"\0\xff\\x"),
        };
        let empty = NewRow {
            payload: Some(b""),
            key: Some(b"k"),
            ..strange
        };
        let null = NewRow {
            payload: None,
            ..strange
        };
        appender.append(&[strange, empty, null]).await.unwrap();
        let rows = read_all(&db).await;
        assert_eq!(rows.len(), 3);
        assert!(rows.is_sorted_by_key(|row| row.position));
        assert_eq!(rows[0].topic, "events.x");
        assert_eq!(rows[0].key, None);
        assert_eq!(rows[0].payload.as_deref(), Some(&b"\0\xff\\x"[..]));
        assert_eq!(
            rows[0].headers,
            [("a".to_owned(), vec![0, 0xff]), ("b".to_owned(), vec![])]
        );
        assert_eq!(
            (rows[1].key.as_deref(), rows[1].payload.as_deref()),
            (Some(&b"k"[..]), Some(&b""[..]))
        );
        assert_eq!(rows[2].payload, None);
        let counter = log::Counter::connect(&db).await.unwrap();
        let (backlog, partitions) = counter.count().await.unwrap();
        assert_eq!((backlog.records, partitions.values().sum()), (3, 3));
        assert!(backlog.oldest.is_some_and(|age| age < LIMIT));
    })
    .await;
}

#[tokio::test]
async fn a_read_is_bounded_but_never_stuck() {
    with_database(|db| async move {
        let appender = Appender::connect(&db).await.unwrap();
        let large = vec![b'x'; 100_000];
        let rows: Vec<_> = (0..10).map(|_| row("k", &large)).collect();
        appender.append(&rows).await.unwrap();
        let reader = Reader::connect(&db).await.unwrap();
        let cursor = |id, bytes| Cursor {
            from: LogPosition {
                partition: partition_of(b"k"),
                offset: id,
            },
            bytes,
        };
        let first = reader.read(&[cursor(0, 1)], 100).await.unwrap();
        assert_eq!(first.len(), 1, "a row larger than the room comes alone");
        let cursors = [cursor(first[0].position.offset + 1, 250_000)];
        let next = reader.read(&cursors, 100).await.unwrap();
        assert_eq!(next.len(), 2);
        let cursors = [cursor(next[1].position.offset + 1, i64::MAX)];
        assert_eq!(reader.read(&cursors, 4).await.unwrap().len(), 4);
    })
    .await;
}

/// Many appenders, some slow in the middle of what follows the append: a reader that goes on from
/// the last row it saw misses nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cursor_misses_nothing_while_many_append() {
    with_database(|db| async move {
        const WRITERS: usize = 8;
        const APPENDS: usize = 60;
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let db = db.clone();
            writers.spawn(async move {
                if writer % 4 == 3 {
                    // In a transaction that stays open for a while after it drew its ids.
                    let mut client = db.connect().await.unwrap();
                    for n in 0..APPENDS {
                        let tx = client.transaction().await.unwrap();
                        let payload = format!("{writer}:{n}").into_bytes();
                        tx.execute(
                            "select log_append(array[$1::int2], array['t'], array[null::bytea], array[''::bytea], array[$2::bytea])",
                            &[&i16::try_from(n % 16).unwrap(), &payload],
                        )
                        .await
                        .unwrap();
                        tokio::time::sleep(Duration::from_millis(3)).await;
                        tx.commit().await.unwrap();
                    }
                    return;
                }
                let appender = Appender::connect(&db).await.unwrap();
                for n in 0..APPENDS {
                    let payload = format!("{writer}:{n}");
                    let new = NewRow {
                        partition: i16::try_from(n % 16).unwrap(),
                        topic: "t",
                        key: None,
                        headers: b"",
                        payload: Some(payload.as_bytes()),
                    };
                    appender.append(&[new]).await.unwrap();
                }
            });
        }
        let reader = Reader::connect(&db).await.unwrap();
        let mut cursors = everything(i64::MAX);
        let mut seen: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut count = 0;
        let reading = async {
            while count < WRITERS * APPENDS {
                for row in reader.read(&cursors, 7).await.unwrap() {
                    let cursor = &mut cursors[usize::try_from(row.position.partition).unwrap()];
                    assert!(row.position.offset >= cursor.from.offset);
                    cursor.from.offset = row.position.offset + 1;
                    let text = String::from_utf8(row.payload.unwrap()).unwrap();
                    let (writer, n) = text.split_once(':').unwrap();
                    let partition = row.position.partition;
                    let mine = seen.entry(format!("{writer}/{partition}")).or_default();
                    mine.push(n.parse().unwrap());
                    count += 1;
                }
            }
        };
        tokio::time::timeout(LIMIT, reading)
            .await
            .expect("rows were passed over");
        while let Some(writer) = writers.join_next().await {
            writer.unwrap();
        }
        for (who, numbers) in seen {
            assert!(numbers.is_sorted(), "{who}: {numbers:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn rows_are_deleted_by_one_writer_only_and_none_is_passed_over() {
    with_database(|db| async move {
        let appender = Appender::connect(&db).await.unwrap();
        let rows: Vec<_> = (0..10).map(|_| row("k", b"x")).collect();
        appender.append(&rows).await.unwrap();
        let offsets = async || -> Vec<i64> {
            let rows = read_all(&db).await;
            rows.iter().map(|row| row.position.offset).collect()
        };
        let at = offsets().await;
        let mut writer = Writer::connect(&db).await.unwrap();
        advance(&mut writer, None, step(0, at[4], 4)).await.unwrap();
        assert_eq!(offsets().await, at[4..]);

        // Too late; or another number of rows than was read, in either direction.
        for wrong in [
            step(0, at[6], 6),
            step(at[4], at[9] + 1, 5),
            step(at[4], at[9], 6),
        ] {
            let error = advance(&mut writer, None, wrong).await.unwrap_err();
            assert_eq!(error.kind(), store::Kind::Conflict, "{error}");
            assert_eq!(offsets().await, at[4..]);
        }
        let rest = step(at[4], at[9] + 1, 6);
        advance(&mut writer, None, rest).await.unwrap();
        assert_eq!(read_all(&db).await, []);

        // At the same moment: one of them waits for the other and then conflicts.
        appender.append(&rows).await.unwrap();
        let last = offsets().await[9];
        let mut other = Writer::connect(&db).await.unwrap();
        let same = || step(at[9] + 1, last + 1, 10);
        let (one, two) = tokio::join!(
            advance(&mut writer, None, same()),
            advance(&mut other, None, same())
        );
        assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    })
    .await;
}

#[tokio::test]
async fn partitions_have_one_owner_and_are_free_when_it_is_gone() {
    with_database(|db| async move {
        let [first, second, third] = [1, 2, 3].map(Uuid::from_u128);
        let one = Lease::connect(&db, first, Arc::default()).await.unwrap();
        assert_eq!(one.fair_share().await.unwrap(), 16);
        // One that is frozen says nothing, and the server ends its session.
        let sql = "show idle_session_timeout";
        let idle = one.client().query_one(sql, &[]).await.unwrap();
        assert_eq!(idle.get::<_, &str>(0), "20s");
        let appended = Arc::new(Notify::new());
        let two = Lease::connect(&db, second, Arc::clone(&appended));
        let two = two.await.unwrap();
        let shares = async || {
            let share = one.fair_share().await.unwrap();
            (share, two.fair_share().await.unwrap())
        };
        assert_eq!(shares().await, (8, 8));
        assert!(one.acquire(3).await.unwrap().is_some());
        assert!(two.acquire(3).await.unwrap().is_none());
        one.release(3).await.unwrap();
        assert!(two.acquire(3).await.unwrap().is_some());
        assert!(one.acquire(4).await.unwrap().is_some());
        drop(one);
        eventually("the partition of one that is gone", LIMIT, || async {
            let all = two.fair_share().await.unwrap() == 16;
            if all && two.acquire(4).await.unwrap().is_some() {
                Ok(())
            } else {
                Err("not yet")
            }
        })
        .await;
        // One that is frozen; here after less time.
        let frozen = Lease::connect(&db, third, Arc::default()).await.unwrap();
        assert!(frozen.acquire(5).await.unwrap().is_some());
        let sooner = "set idle_session_timeout = '300ms'";
        frozen.client().batch_execute(sooner).await.unwrap();
        eventually("the partition of one that is frozen", LIMIT, || async {
            let partition = two.acquire(5).await.unwrap();
            partition.map(drop).ok_or("not yet")
        })
        .await;
        assert_eq!(two.fair_share().await.unwrap(), 16);

        let appender = Appender::connect(&db).await.unwrap();
        appender.append(&[row("k", b"x")]).await.unwrap();
        tokio::time::timeout(LIMIT, appended.notified())
            .await
            .expect("notified of the append");
    })
    .await;
}

/// Whoever acquires a partition learns how far it is stored, and whether its last owner delivered all
/// that it stored; the last owner stores nothing more.
#[tokio::test]
async fn a_partition_that_changes_hands_tells_what_was_not_delivered() {
    with_database(|db| async move {
        let [first, second] = [1, 2].map(Uuid::from_u128);
        let partition = partition_of(b"k");
        let number = i32::from(partition);
        let appender = Appender::connect(&db).await.unwrap();
        let rows: Vec<_> = (0..4).map(|_| row("k", b"x")).collect();
        appender.append(&rows).await.unwrap();
        let rows = read_all(&db).await;
        let at: Vec<i64> = rows.iter().map(|row| row.position.offset).collect();
        let mut writer = Writer::connect(&db).await.unwrap();
        let acquired = |stored, behind, returned| {
            Some(Acquired {
                stored,
                behind,
                returned,
            })
        };

        let one = Lease::connect(&db, first, Arc::default()).await.unwrap();
        let got = one.acquire(partition).await.unwrap();
        assert_eq!(got, acquired(0, false, false));
        // Nobody keeps track: nothing is behind.
        let untracked = step(0, at[0] + 1, 1);
        advance(&mut writer, Some(first), untracked).await.unwrap();
        one.release(partition).await.unwrap();
        let two = Lease::connect(&db, second, Arc::default()).await.unwrap();
        let got = two.acquire(partition).await.unwrap();
        assert_eq!(got, acquired(at[0] + 1, false, false));
        // The last owner is too late, although the position is still where it left it.
        let late = step(at[0] + 1, at[1] + 1, 1);
        let error = advance(&mut writer, Some(first), late.clone()).await;
        assert_eq!(error.unwrap_err().kind(), store::Kind::Conflict);

        let tracked = Advance {
            live: Some(at[0] + 1),
            ..late
        };
        advance(&mut writer, Some(second), tracked).await.unwrap();
        two.release(partition).await.unwrap();
        // Its own return alarms nobody, that of another does.
        let got = two.acquire(partition).await.unwrap();
        assert_eq!(got, acquired(at[1] + 1, false, true));
        two.release(partition).await.unwrap();
        let got = one.acquire(partition).await.unwrap();
        assert_eq!(got, acquired(at[1] + 1, true, false));
        // It is another's now.
        two.write_live(&[(number, at[1] + 1)]).await.unwrap();
        one.release(partition).await.unwrap();
        let got = two.acquire(partition).await.unwrap();
        assert_eq!(got, acquired(at[1] + 1, true, false));
        two.write_live(&[(number, at[1] + 1)]).await.unwrap();
        two.release(partition).await.unwrap();
        let got = one.acquire(partition).await.unwrap();
        assert_eq!(got, acquired(at[1] + 1, false, false));
    })
    .await;
}

#[tokio::test]
async fn a_vacuum_gives_the_space_back() {
    with_database(|db| async move {
        let appender = Appender::connect(&db).await.unwrap();
        let payload = vec![b'x'; 500];
        let rows: Vec<_> = (0..2_000).map(|_| row("k", &payload)).collect();
        for _ in 0..5 {
            appender.append(&rows).await.unwrap();
        }
        let client = db.client().await.unwrap();
        let size = async || -> i64 {
            let sql = "select pg_table_size('event_log')";
            client.query_one(sql, &[]).await.unwrap().get(0)
        };
        let full = size().await;
        assert!(full > 5_000_000, "{full}");
        let last = read_all(&db).await.last().unwrap().position.offset;
        let mut writer = Writer::connect(&db).await.unwrap();
        let all = step(0, last + 1, 10_000);
        advance(&mut writer, None, all).await.unwrap();
        // Another session's snapshot of this very moment may still need the rows.
        eventually("a small table", LIMIT, || async {
            log::vacuum(&db).await.unwrap();
            let now = size().await;
            if now < 200_000 { Ok(()) } else { Err(now) }
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_writer_frozen_in_a_copy_loses_its_locks() {
    with_database(|db| async move {
        let mut frozen = db.connect().await.unwrap();
        let tx = frozen.transaction().await.unwrap();
        // It has begun to send, and says no more.
        let sql = "copy event_ids (event_id, tenant_id, timestamp) from stdin (format binary)";
        let sink = tx.copy_in::<_, bytes::Bytes>(sql).await.unwrap();
        let writer = Writer::connect(&db).await.unwrap();
        let patient = store::write::end_frozen(writer.client(), LIMIT).await;
        assert_eq!(patient.unwrap(), 0, "it may still be sending");
        eventually("the end of the frozen one", LIMIT, || async {
            match store::write::end_frozen(writer.client(), Duration::ZERO).await {
                Ok(1) => Ok(()),
                other => Err(other),
            }
        })
        .await;
        drop((sink, tx));
        eventually("its connection to be closed", LIMIT, || async {
            frozen.is_closed().then_some(()).ok_or("open")
        })
        .await;
        assert!(writer.is_open());
    })
    .await;
}

/// Rows that are stored and cannot be vacuumed, because of somebody's old snapshot, cost the reader
/// nothing: it begins behind them.
#[tokio::test]
async fn a_reader_begins_behind_what_is_stored() {
    with_database(|db| async move {
        let snapshot = db.connect().await.unwrap();
        let hold = "begin isolation level repeatable read; select count(*) from event_log";
        snapshot.batch_execute(hold).await.unwrap();
        let appender = Appender::connect(&db).await.unwrap();
        let payload = vec![b'x'; 200];
        let rows: Vec<_> = (0..2_000).map(|_| row("k", &payload)).collect();
        for _ in 0..10 {
            appender.append(&rows).await.unwrap();
        }
        let stored = read_all(&db).await.last().unwrap().position.offset + 1;
        let mut writer = Writer::connect(&db).await.unwrap();
        let all = step(0, stored, 20_000);
        advance(&mut writer, None, all).await.unwrap();
        appender.append(&rows[..3]).await.unwrap();
        log::vacuum(&db).await.unwrap();

        let reading = db.connect().await.unwrap();
        let pages = async |from: i64| {
            let settings = "set enable_seqscan = off; set enable_bitmapscan = off";
            reading.batch_execute(settings).await.unwrap();
            let explain = format!("explain (analyze, buffers, format json) {}", log::READ);
            let partition = vec![partition_of(b"k")];
            let (from, bytes) = (vec![from], vec![i64::MAX]);
            let row = reading
                .query_one(&explain, &[&partition, &from, &bytes, &500_i64, &512_i32])
                .await
                .unwrap();
            let plan: serde_json::Value = row.get(0);
            let blocks = |name: &str| plan[0]["Plan"][name].as_i64().unwrap();
            blocks("Shared Hit Blocks") + blocks("Shared Read Blocks")
        };
        // 20,000 rows of 300 bytes lie before them.
        let (behind, all) = (pages(stored).await, pages(0).await);
        assert!(behind < 30, "{behind} pages for three rows");
        assert!(
            all > 300,
            "{all} pages if it began at 0: the snapshot keeps nothing"
        );

        let counter = log::Counter::connect(&db).await.unwrap();
        let (backlog, partitions) = counter.count().await.unwrap();
        assert_eq!(backlog.records, 3);
        assert!(backlog.oldest.is_some());
        assert_eq!(partitions, [(partition_of(b"k"), 3)].into());
        drop(snapshot);
    })
    .await;
}
