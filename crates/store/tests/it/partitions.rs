//! Partitions are made and dropped beside everybody's work, and reads touch few of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use domain::{EventSource, TenantId};
use store::event_reads::{self, Filter, Step, Window, count_sql, list_sql, steps};
use store::partitions::{Ahead, Interval, Obstacle, Policy, edges, make_ahead, ranges, retention};
use store::sql::Sql;
use store::statistics::{Scope, open_sql, user_sql};
use store::{Database, DatabaseConfig, migrate};
use testkit::{LIMIT, Parts, eventually};
use time::{Duration, OffsetDateTime};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::database::with_database;

const POLICY: Policy = Policy {
    interval: None,
    target_rows: 5_000_000,
    ahead: Duration::days(3),
    horizon: Duration::DAY,
    keep: None,
};

const EMPTY: Window = Window {
    limit: 101,
    offset: 0,
    after: None,
};

/// Events of a minute each, from `$2` on, with ids and counts; every seventh has a user.
const INSERT: &str = "
with new as (
    insert into events (event_id, event_type, event_source, event_category, user_id, timestamp, received_at)
    select gen_random_uuid(), 'a.b', 'backend', 'user_action', case when n % 7 = 0 then 'u' end, at, at
    from generate_series(1, $1::int8) n cross join lateral (select $2::timestamptz + n * interval '1 minute' as at) t
    returning *
), ids as (insert into event_ids (event_id, tenant_id, timestamp) select event_id, tenant_id, timestamp from new),
hours as (
    insert into aggregated_events_hourly (hour, event_type, event_source, event_category, count)
    select date_trunc('hour', timestamp), event_type, event_source, event_category, count(*)
    from new group by 1, 2, 3, 4
    on conflict (tenant_id, hour, event_type, event_source, event_category)
    do update set count = aggregated_events_hourly.count + excluded.count
)
insert into aggregated_events (event_type, date, count)
select event_type, timestamp::date, count(*) from new group by 1, 2
on conflict (tenant_id, event_type, date) do update set count = aggregated_events.count + excluded.count";

async fn insert(client: &Client, events: i64, from: OffsetDateTime) {
    client.execute(INSERT, &[&events, &from]).await.unwrap();
}

async fn number(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

async fn ahead(db: &Database, policy: &Policy) -> Ahead {
    make_ahead(db, policy, OffsetDateTime::now_utc())
        .await
        .unwrap()
}

/// Waits until somebody else's lock is not in the way: other sessions end in their own time.
async fn made(db: &Database, policy: &Policy) -> Vec<String> {
    let mut made = Vec::new();
    loop {
        let ahead = ahead(db, policy).await;
        made.extend(ahead.made);
        match ahead.obstacle {
            None => return made,
            Some(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    }
}

/// Drops the partitions from tomorrow on, as if none could be made for long.
async fn forget_tomorrow(client: &Client) {
    let tomorrow = Interval::Day.end(OffsetDateTime::now_utc());
    for range in ranges(client).await.unwrap() {
        if range.from.is_some_and(|from| from >= tomorrow) {
            client
                .batch_execute(&format!("drop table {}", range.name))
                .await
                .unwrap();
        }
    }
}

/// Counts all events again and again until it is stopped, and says what it saw.
fn watch(db: &Database, stop: &Arc<AtomicBool>) -> tokio::task::JoinHandle<Vec<i64>> {
    let (db, stop) = (db.clone(), Arc::clone(stop));
    tokio::spawn(async move {
        let client = db.connect().await.unwrap();
        let mut seen = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            seen.push(number(&client, "select count(*) from events").await);
        }
        seen
    })
}

#[tokio::test]
async fn ranges_follow_each_other_from_the_first_migration_on() {
    with_database(|db| async move {
        let client = db.connect().await.unwrap();
        made(&db, &POLICY).await;
        assert_eq!(made(&db, &POLICY).await, Vec::<String>::new());
        let ranges = ranges(&client).await.unwrap();
        assert_eq!(
            (ranges[0].name.as_str(), ranges[0].from),
            ("events_past", None)
        );
        for pair in ranges.windows(2) {
            assert_eq!(pair[0].to, pair[1].from, "{ranges:?}");
        }
        let until = ranges.last().unwrap().to.unwrap();
        assert!(
            until >= OffsetDateTime::now_utc() + Duration::days(4),
            "{ranges:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn what_comes_in_decides_how_long_a_partition_is() {
    with_database(|db| async move {
        let client = db.connect().await.unwrap();
        // 600 in the last hours: 7,200 a day at that rate.
        insert(
            &client,
            600,
            OffsetDateTime::now_utc() - Duration::hours(10),
        )
        .await;
        let now = OffsetDateTime::now_utc();
        for (target_rows, interval) in [
            (100, Interval::Hour),
            (10_000, Interval::Day),
            (10_000_000, Interval::Month),
        ] {
            forget_tomorrow(&client).await;
            let policy = Policy {
                target_rows,
                ..POLICY
            };
            made(&db, &policy).await;
            let tomorrow = Interval::Day.end(now);
            let ranges = ranges(&client).await.unwrap();
            let first = ranges
                .iter()
                .find(|range| range.from == Some(tomorrow))
                .unwrap();
            assert_eq!(
                first.to,
                Some(interval.end(tomorrow)),
                "{target_rows}: {ranges:?}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn an_idle_transaction_stops_no_writer_only_the_partition() {
    with_database(|db| async move {
        let client = db.connect().await.unwrap();
        forget_tomorrow(&client).await;
        let idle = db.connect().await.unwrap();
        idle.batch_execute("begin; select 1 from events limit 1")
            .await
            .unwrap();
        assert_eq!(ahead(&db, &POLICY).await.obstacle, Some(Obstacle::Locked));
        // Their times spread over minutes, none of which is another day's.
        let today = OffsetDateTime::now_utc().date().midnight().assume_utc();
        // Old ones, those of today, and those that no range covers.
        client
            .batch_execute("set lock_timeout = '1s'")
            .await
            .unwrap();
        for from in [
            today - Duration::days(700),
            today,
            today + Duration::days(1),
        ] {
            insert(&client, 20, from).await;
        }
        assert_eq!(number(&client, "select count(*) from events").await, 60);
        assert_eq!(
            number(&client, "select count(*) from events_default").await,
            20
        );
        idle.batch_execute("rollback").await.unwrap();
        assert!(!made(&db, &POLICY).await.is_empty());
        assert_eq!(
            number(&client, "select count(*) from events_default").await,
            0
        );
        assert_eq!(number(&client, "select count(*) from events").await, 60);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_default_partition_that_has_grown_becomes_a_range_while_all_read() {
    with_database(|db| async move {
        let client = db.connect().await.unwrap();
        forget_tomorrow(&client).await;
        let tomorrow = Interval::Day.end(OffsetDateTime::now_utc());
        // About eight days.
        insert(&client, 12_000, tomorrow).await;
        assert_eq!(
            number(&client, "select count(*) from events_default").await,
            12_000
        );
        let default = number(&client, "select 'events_default'::regclass::oid::int8").await;
        let stop = Arc::new(AtomicBool::new(false));
        let watcher = watch(&db, &stop);
        let made = made(&db, &POLICY).await;
        stop.store(true, Ordering::Relaxed);
        let seen = watcher.await.unwrap();
        assert!(seen.iter().all(|count| *count == 12_000), "{seen:?}");
        assert_eq!(
            number(&client, "select count(*) from only events_default").await,
            0
        );
        // The very table, with its rows where they were, and no check left behind.
        let sealed = format!("select '{}'::regclass::oid::int8", made[0]);
        assert_eq!(number(&client, &sealed).await, default);
        let checks =
            "select count(*) from pg_constraint where contype = 'c' and conname = 'events_bounds'";
        assert_eq!(number(&client, checks).await, 0);
        let ranges = ranges(&client).await.unwrap();
        for pair in ranges.windows(2) {
            assert_eq!(pair[0].to, pair[1].from, "{ranges:?}");
        }
        let last = tomorrow + Duration::minutes(12_000);
        assert!(ranges.last().unwrap().to.unwrap() > last, "{ranges:?}");
        // What comes then has its place, and the indexes of all are those of the parent.
        insert(&client, 10, tomorrow).await;
        assert_eq!(number(&client, "select count(*) from events").await, 12_010);
        let alone = "select count(*) from pg_index i join pg_class t on t.oid = i.indrelid \
            join pg_class c on c.oid = i.indexrelid \
            where t.relname like 'events\\_%' and t.relispartition and not c.relispartition";
        assert_eq!(number(&client, alone).await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_role_that_may_not_create_tables_stores_all_the_same() {
    let parts = Parts::shared().await;
    let fresh = parts.fresh_database().await;
    let config = |url: String| DatabaseConfig {
        url,
        schema: "event".to_owned(),
        pool_size: 2,
        verify_tls: false,
        application_name: "store tests".to_owned(),
    };
    let owner = Database::new(&config(fresh.url.clone())).unwrap();
    migrate::run(&owner).await.unwrap();
    let client = owner.connect().await.unwrap();
    forget_tomorrow(&client).await;
    let role = format!("r{}", Uuid::new_v4().simple());
    client
        .batch_execute(&format!(
            "create role {role} login password 'x'; grant usage on schema event to {role}; \
             grant select, insert, update, delete on all tables in schema event to {role}; \
             grant usage on all sequences in schema event to {role}"
        ))
        .await
        .unwrap();
    let (_, rest) = fresh.url.split_once('@').unwrap();
    let limited = Database::new(&config(format!("postgresql://{role}:x@{rest}"))).unwrap();
    assert_eq!(
        ahead(&limited, &POLICY).await.obstacle,
        Some(Obstacle::NotAllowed)
    );
    let writer = limited.connect().await.unwrap();
    insert(&writer, 10, OffsetDateTime::now_utc() + Duration::days(2)).await;
    assert_eq!(
        number(&client, "select count(*) from events_default").await,
        10
    );
    let refused = retention::apply(&limited, OffsetDateTime::now_utc()).await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("does not own the table events")
    );
    drop(writer);
    let drop_role = format!("drop owned by {role}; drop role {role}");
    client.batch_execute(&drop_role).await.unwrap();
}

#[tokio::test]
async fn retention_drops_partitions_with_their_ids_and_keeps_the_counts() {
    with_database(|db| async move {
        let client = db.connect().await.unwrap();
        let now = OffsetDateTime::now_utc();
        // In the partition of everything old, and in one of their own each.
        let days = [400, 300, 4, 3, 2];
        let past = ranges(&client).await.unwrap()[0].to.unwrap();
        for days in days {
            insert(&client, 30, now - Duration::days(days)).await;
        }
        insert(&client, 30, now - Duration::hours(2)).await;
        let all = i64::try_from(days.len() + 1).unwrap() * 30;

        // A year: only rows.
        let year = retention::cut(now, Duration::days(365));
        let plan = retention::plan(&db, year).await.unwrap();
        assert_eq!(
            (plan.partitions.len(), plan.rows, plan.counted_events),
            (0, 30, 30)
        );
        let removed = retention::apply(&db, year).await.unwrap();
        assert_eq!(
            (removed.rows, removed.ids, removed.partitions.len()),
            (30, 30, 0)
        );
        assert_eq!(retention::kept_from(&client).await.unwrap(), Some(year));
        assert_eq!(
            number(&client, "select count(*) from events").await,
            all - 30
        );

        // Up to the first day after the oldest partition, which goes as a whole.
        client
            .batch_execute("begin; select 1 from events limit 1")
            .await
            .unwrap();
        let plan = retention::plan(&db, past).await.unwrap();
        let old: i64 = plan.partitions[0].1;
        assert_eq!(
            (plan.partitions.len(), plan.partitions[0].0.name.as_str()),
            (1, "events_past")
        );
        let blocked = retention::apply(&db, past).await.unwrap_err();
        assert!(blocked.is_lock_timeout(), "{blocked}");
        client.batch_execute("rollback").await.unwrap();
        let removed = retention::apply(&db, past).await.unwrap();
        assert_eq!(removed.partitions, ["events_past"]);
        assert_eq!(removed.ids, old.unsigned_abs());
        for table in ["events", "event_ids"] {
            let sql = format!("select count(*) from {table}");
            assert_eq!(number(&client, &sql).await, all - 30 - old, "{table}");
        }
        let counted = "select sum(count)::int8 from aggregated_events";
        assert_eq!(number(&client, counted).await, all);
        let left = "select count(*) from pg_class where relname like 'retired%' and relkind = 'r'";
        assert_eq!(number(&client, left).await, 0);
        // Older ones that still come have a place, until the next run.
        insert(&client, 5, now - Duration::days(500)).await;
        assert_eq!(
            number(&client, "select count(*) from events_default").await,
            0
        );
        assert_eq!(retention::apply(&db, past).await.unwrap().ids, 5);
    })
    .await;
}

#[tokio::test]
async fn stored_events_cannot_be_changed_by_their_owner_either() {
    with_database(|db| async move {
        let client = db.connect().await.unwrap();
        insert(&client, 3, OffsetDateTime::now_utc() - Duration::hours(1)).await;
        for column in [
            "event_id",
            "tenant_id",
            "event_type",
            "event_source",
            "event_category",
            "client_event_id",
            "user_id",
            "session_id",
            "organization_id",
            "device_id",
            "correlation_id",
            "aggregate_type",
            "aggregate_id",
            "expected_version",
            "data",
            "metadata",
            "context",
            "properties",
            "timestamp",
            "received_at",
            "created_at",
            "version",
            "schema_version",
        ] {
            let refused = client
                .batch_execute(&format!("update events set {column} = {column}"))
                .await
                .unwrap_err();
            let why = refused.as_db_error().unwrap().message();
            assert_eq!(why, "a stored event cannot be changed", "{column}");
        }
        let allowed = "update events set status = 'failed', processed_at = now(), \
            processors = '{a}', error_message = 'e', retry_count = 1, updated_at = now()";
        assert_eq!(client.execute(allowed, &[]).await.unwrap(), 3);
    })
    .await;
}

/// Locks that the statement takes, on tables and indexes.
async fn locks(client: &Client, sql: &Sql) -> i64 {
    client.batch_execute("begin").await.unwrap();
    let rows = client.query_typed(sql.text(), &sql.params()).await;
    rows.unwrap_or_else(|error| panic!("{}: {error:?}", sql.text()));
    let held =
        "select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'relation'";
    let held = number(client, held).await;
    client.batch_execute("rollback").await.unwrap();
    held
}

#[tokio::test]
async fn a_year_of_days_takes_few_locks_a_statement() {
    with_database(|db| async move {
        let client = db.connect().await.unwrap();
        client
            .batch_execute(
                "drop table events_past; create table events_past partition of events \
                     for values from (minvalue) to ('2025-01-01'); \
                 do $$ declare day date; begin for n in 0..364 loop day := date '2025-01-01' + n; \
                     execute format('create table %I partition of events for values from (%L) to (%L)', \
                         to_char(day, '\"events_\"YYYY_MM_DD'), day, day + 1); end loop; end $$",
            )
            .await
            .unwrap();
        let at = time::macros::datetime!(2025-03-05 10:00 UTC);
        insert(&client, 20, at).await;
        let edges = edges(&client).await.unwrap();
        assert!(edges.len() > 365);
        let everything = list_sql(&Filter::default(), &EMPTY, Step::default());
        assert!(locks(&client, &everything).await > 4_000, "what it would be at once");

        let id: Uuid = client.query_one("select event_id from event_ids limit 1", &[]).await.unwrap().get(0);
        let tenant = TenantId::default();
        let few = 40;
        let found = event_reads::find(&client, &tenant, id).await.unwrap().unwrap();
        assert!(locks(&client, &event_reads::time_sql(&tenant, id)).await < few);
        let row = event_reads::find_sql(&tenant, id, found.event.timestamp);
        assert!(locks(&client, &row).await < few);

        let user = Filter {
            user_id: Some("nobody".to_owned()),
            ..Filter::default()
        };
        let scope = Scope {
            tenant_id: tenant.clone(),
            user_id: None,
            today: at.date(),
            start: at,
            end: None,
        };
        // Sixteen partitions with their indexes.
        let some = 16 * 16;
        for step in steps(&edges, None, None) {
            for sql in [
                list_sql(&user, &EMPTY, step),
                count_sql(&user, step),
                open_sql(&scope, step),
                user_sql(&scope, "u", step),
            ] {
                let held = locks(&client, &sql).await;
                assert!(held <= some, "{held}: {}", sql.text());
            }
        }
        // And what is read through the steps is what is read at once.
        let all = Filter {
            event_source: Some(EventSource::Backend),
            ..Filter::default()
        };
        let by_steps = async |window: &Window| {
            let page = event_reads::list(&client, &edges, &all, window, 1 << 20).await.unwrap();
            page.rows.iter().map(|row| row.event.event_id).collect::<Vec<_>>()
        };
        let at_once = event_reads::list(&client, &[], &all, &EMPTY, 1 << 20).await.unwrap();
        let at_once: Vec<_> = at_once.rows.iter().map(|row| row.event.event_id).collect();
        assert_eq!(at_once.len(), 20);
        assert_eq!(by_steps(&EMPTY).await, at_once);
        let second = Window {
            limit: 5,
            offset: 12,
            after: None,
        };
        assert_eq!(by_steps(&second).await, at_once[12..17]);
        let deadline = std::time::Instant::now() + LIMIT;
        let total = event_reads::total(&client, &edges, &all, deadline).await.unwrap();
        assert_eq!((total.count, total.is_estimate), (Some(20), false));
    })
    .await;
}

#[tokio::test]
async fn a_server_of_another_encoding_is_refused_with_a_sentence() {
    let parts = Parts::shared().await;
    let fresh = parts.fresh_database().await;
    let (base, name) = fresh.url.rsplit_once('/').unwrap();
    let admin = fresh.connect().await.unwrap();
    let other = format!("{name}_latin1");
    let create = format!("create database {other} encoding 'LATIN1' locale 'C' template template0");
    admin.batch_execute(&create).await.unwrap();
    let db = Database::new(&DatabaseConfig {
        url: format!("{base}/{other}"),
        schema: "event".to_owned(),
        pool_size: 2,
        verify_tls: false,
        application_name: "store tests".to_owned(),
    })
    .unwrap();
    let migrated = migrate::run(&db).await.unwrap_err().to_string();
    let pooled = db.ping().await.unwrap_err().to_string();
    for refused in [migrated, pooled] {
        assert!(refused.contains("encoded in LATIN1"), "{refused}");
    }
    eventually("nobody uses it", LIMIT, || async {
        admin.batch_execute(&format!("drop database {other}")).await
    })
    .await;
}
