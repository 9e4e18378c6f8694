//! Others that do not do their part.

use std::time::Duration;

use domain::Event;
use store::announcements::{Announced, announce};
use store::{Error, migrate};

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

/// What another version, or a hand, has written: it is neither guessed at nor in the way.
#[tokio::test]
async fn an_event_that_cannot_be_read_is_not_announced_as_another() {
    with_database(|db| async move {
        let client = db.connect().await.unwrap();
        client
            .batch_execute(
                "insert into events (event_id, tenant_id, event_type, event_source, \
                     event_category, timestamp, received_at) \
                 select ('00000000-0000-0000-0000-00000000000' || n)::uuid, tenant, 'a.b', source, \
                     category, '2020-01-01', now() \
                 from (values (1, 'one', 'backend', 'user_action'), \
                     (2, 'no tenant', 'backend', 'user_action'), \
                     (3, 'one', 'nowhere', 'user_action'), \
                     (4, 'one', 'backend', 'nothing'), \
                     (5, 'one', 'backend', 'user_action')) e(n, tenant, source, category); \
                 insert into announcements_due (tenant_id, event_id, timestamp) \
                 select tenant_id, event_id, timestamp from events order by event_id",
            )
            .await
            .unwrap();
        let mut announced = Vec::new();
        let outcome = announce(&db, 10, async |events: Vec<Event>| {
            let of = |e: Event| (e.event_id.as_u128(), e.tenant_id.to_string());
            announced.extend(events.into_iter().map(of));
            true
        });
        assert_eq!(outcome.await.unwrap(), Announced::Some);
        assert_eq!(announced, [(1, "one".to_owned()), (5, "one".to_owned())]);
        let again = announce(&db, 10, async |_: Vec<Event>| unreachable!()).await;
        assert_eq!(
            again.map_err(|e: Error| e.to_string()),
            Ok(Announced::Nothing)
        );
    })
    .await;
}
