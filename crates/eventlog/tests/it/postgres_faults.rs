//! A database that does some things and not others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use eventlog::postgres::{PostgresLog, PostgresLogConfig};
use eventlog::{PublishError, Publisher as _};
use prometheus::Registry;
use testkit::Parts;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::conformance::{assert_each_once, collect, publish, stored};
use crate::logs::{Bounds, Log, Postgres, database};
use crate::support::{LIMIT, numbered, outgoing, wait_until};

/// After an outage of hours counting what waits takes longer than a statement may.
#[tokio::test]
async fn what_cannot_be_counted_is_drained_all_the_same() {
    let log = Arc::new(Postgres::new(&Parts::shared().await).await);
    let publisher = log.publisher(Bounds::default()).await;
    publish(&publisher, &numbered(&log.topic(), 0, 1_000)).await;
    let client = log.fresh.connect().await.expect("connects");
    client
        .batch_execute(
            "create function countable() returns bool language plpgsql as $$ begin
                 if current_query() like '%count(*)%' then
                     raise exception 'it takes too long' using errcode = '57014';
                 end if;
                 return true;
             end $$;
             alter table event_log rename to event_log_rows;
             create view event_log as select * from event_log_rows where countable()",
        )
        .await
        .expect("a view");
    let (source, queues) = log.consume(2, 1 << 20);
    let records = stored(&mut collect(&log, &source, queues), 1_000).await;
    assert_each_once(records.iter().map(|(_, record)| record), 1_000);
    assert!(source.connected());
    source.shutdown(LIMIT).await;
}

/// Requests that were written together are written one by one when the database refuses them, and
/// then the first gets no answer: the others get theirs, and all of them their room back.
#[tokio::test]
async fn a_timeout_among_requests_that_are_tried_again_leaves_nobody_behind() {
    let log = Postgres::new(&Parts::shared().await).await;
    let client = log.fresh.connect().await.expect("connects");
    client
        .batch_execute(
            "create function picky() returns trigger language plpgsql as $$ begin
                 if exists (select from fresh where payload = 'bad') then
                     raise exception 'not this one' using errcode = '22000';
                 end if;
                 if exists (select from fresh where payload = 'slow') then
                     perform pg_sleep(5);
                 end if;
                 return null;
             end $$;
             create trigger picky after insert on event_log referencing new table as fresh
                 for each statement execute function picky()",
        )
        .await
        .expect("a trigger");
    let config = PostgresLogConfig {
        message_timeout: Duration::from_secs(1),
        ..PostgresLogConfig::default()
    };
    let registry = Registry::new();
    let publisher = PostgresLog::new(&log.db, config, &registry).expect("publisher");
    wait_until("the publisher connects", || publisher.connected()).await;
    // In one thread nothing is written before the first is awaited.
    let acks: Vec<_> = ["slow", "bad", "good", "good"]
        .into_iter()
        .map(|payload| {
            let record = outgoing(&log.topic(), "a", payload);
            publisher.publish(&[record]).expect("enqueued")
        })
        .collect();
    publisher.flush(LIMIT).await.expect("all room is free");
    for ack in acks {
        assert_eq!(ack.await, Err(PublishError::Unavailable));
    }
    let in_flight = registry
        .gather()
        .into_iter()
        .find(|family| family.name() == "eventlog_postgres_publish_in_flight_bytes")
        .expect("the gauge");
    assert_eq!(in_flight.get_metric()[0].get_gauge().get_value(), 0.0);
}

/// A server that takes connections and then says nothing more: each is given up for the next.
#[tokio::test]
async fn a_server_that_falls_silent_is_tried_again() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let connections = Arc::new(AtomicUsize::new(0));
    let server = tokio::spawn({
        let connections = Arc::clone(&connections);
        async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let connections = Arc::clone(&connections);
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    // No encryption; then welcome, and ready for a query that is never answered.
                    for answer in [&b"N"[..], b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I"] {
                        let _ = stream.read(&mut request).await;
                        let _ = stream.write_all(answer).await;
                    }
                    connections.fetch_add(1, Ordering::Relaxed);
                    while stream.read(&mut request).await.is_ok_and(|read| read > 0) {}
                });
            }
        }
    });
    let db = database(&format!("postgresql://nobody@127.0.0.1:{port}/nothing"));
    let config = PostgresLogConfig::default();
    let publisher = PostgresLog::new(&db, config, &Registry::new()).expect("publisher");
    wait_until("a second connection", || {
        connections.load(Ordering::Relaxed) > 1
    })
    .await;
    assert!(!publisher.connected());
    server.abort();
}
