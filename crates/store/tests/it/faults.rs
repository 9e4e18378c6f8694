//! Others that do not do their part.

use std::time::Duration;

use store::migrate;
use store::outbox::{Message, Outcome, Page, Sent, Sink, send};

use crate::database::with_database;

#[tokio::test]
async fn a_migration_that_hangs_is_named_to_those_who_wait_for_it() {
    with_database(|db| async move {
        let other = db.connect().await.unwrap();
        let mine = "select pg_backend_pid() from pg_advisory_lock(x'7469646567617465'::bigint)";
        let pid: i32 = other.query_one(mine, &[]).await.unwrap().get(0);
        let refused = migrate::run_within(&db, Duration::from_millis(100)).await;
        let error = refused.unwrap_err().to_string();
        let holder = format!("(store tests, server process {pid})");
        assert!(error.contains(&holder), "{error}");
        let remedy = format!("pg_terminate_backend({pid})");
        assert!(error.contains(&remedy), "{error}");
        drop(other);
        // The server notices the end of a connection in its own time.
        let migrated = migrate::run(&db).await;
        assert_eq!(migrated.unwrap(), Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn a_wait_that_ends_in_time_is_no_error() {
    with_database(|db| async move {
        let other = db.connect().await.unwrap();
        let lock = "select pg_advisory_lock(x'7469646567617465'::bigint)";
        other.batch_execute(lock).await.unwrap();
        let waiting = tokio::spawn({
            let db = db.clone();
            async move { migrate::run(&db).await }
        });
        testkit::eventually("somebody waits", testkit::LIMIT, || async {
            let sql = "select from pg_locks where locktype = 'advisory' and not granted \
                 and database = (select oid from pg_database where datname = current_database())";
            let waiting = other.query(sql, &[]).await.unwrap();
            (!waiting.is_empty()).then_some(()).ok_or("nobody")
        })
        .await;
        drop(other);
        waiting.await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test]
async fn the_outbox_is_sent_in_pages_and_keeps_what_could_not_be_sent() {
    with_database(|db| async move {
        let client = db.connect().await.unwrap();
        client
            .batch_execute(
                "insert into outbox (tenant_id, subject, key, payload) \
                 select 'one', 'event.stored', 'k', convert_to(repeat(n::text, 100), 'utf8') \
                 from generate_series(1, 5) n",
            )
            .await
            .unwrap();
        let page = |messages, bytes| Page { messages, bytes };
        let later = send(
            &db,
            Sink::Kafka,
            page(10, 1_000),
            async |_: Vec<Message>| vec![],
        )
        .await;
        assert_eq!(later.unwrap(), Sent::Later);
        let mut pages = Vec::new();
        // By number, by bytes, and one that is larger than a page.
        for page in [page(2, 1_000), page(10, 250), page(10, 1)] {
            let sent = send(&db, Sink::Kafka, page, async |messages: Vec<Message>| {
                let first = |m: &Message| char::from(m.payload[0]);
                pages.push(messages.iter().map(first).collect::<String>());
                vec![Outcome::Sent; messages.len()]
            });
            assert_eq!(sent.await.unwrap(), Sent::Page);
        }
        assert_eq!(pages, ["12", "34", "5"]);
        let nothing = send(
            &db,
            Sink::Kafka,
            page(1, 1),
            async |_: Vec<Message>| unreachable!(),
        )
        .await;
        assert_eq!(nothing.unwrap(), Sent::Nothing);
    })
    .await;
}

#[tokio::test]
async fn each_sink_has_its_own_of_the_outbox() {
    with_database(|db| async move {
        let client = db.connect().await.unwrap();
        client
            .batch_execute(
                "insert into outbox (sink, tenant_id, subject, key, payload) \
                 select n % 2 + 1, 'one', 'event.stored', 'k', convert_to(n::text, 'utf8') \
                 from generate_series(1, 6) n",
            )
            .await
            .unwrap();
        let page = Page {
            messages: 10,
            bytes: 1_000,
        };
        // One that sends nothing holds up no other, also while it is at it.
        let (inside, outside) = (db.clone(), db);
        let later = send(
            &outside,
            Sink::Kafka,
            page,
            async |waiting: Vec<Message>| {
                assert_eq!(waiting.len(), 3);
                let sent = send(&inside, Sink::Nats, page, async |messages: Vec<Message>| {
                    let numbers: Vec<u8> = messages.iter().map(|one| one.payload[0]).collect();
                    assert_eq!(numbers, *b"135");
                    vec![Outcome::Sent; messages.len()]
                });
                assert_eq!(sent.await.unwrap(), Sent::Page);
                vec![]
            },
        );
        assert_eq!(later.await.unwrap(), Sent::Later);
        let left = "select count(*) from outbox where sink = 1";
        assert_eq!(
            client.query_one(left, &[]).await.unwrap().get::<_, i64>(0),
            3
        );
        let nothing = send(
            &outside,
            Sink::Nats,
            page,
            async |_: Vec<Message>| unreachable!(),
        );
        assert_eq!(nothing.await.unwrap(), Sent::Nothing);
    })
    .await;
}
