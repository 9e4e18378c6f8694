//! Every purpose of the specification's index table (S4-80 to S4-97) is served by an index, on
//! 200,000 rows over six months, shown by EXPLAIN of the statements the store really sends. And
//! every index serves a purpose.

use std::collections::BTreeSet;

use domain::{EventCategory, EventSource, EventStatus, TenantId};
use store::Database;
use store::dead_letter_reads;
use store::event_reads::{
    Filter, Position, StatusFilter, Step, Window, count_sql, find_sql, list_sql, time_sql,
};
use store::sql::Sql;
use store::statistics::{Scope, StatisticsSql, open_sql, user_sql};
use time::OffsetDateTime;
use time::macros::{date, datetime};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::database::with_database;
use crate::plan::{explain, parents};

const ROWS: i64 = 200_000;
const FIRST: OffsetDateTime = datetime!(2026-01-01 00:00 UTC);

/// One event every 75 seconds, stored two seconds after it happened. Users, sessions and the like
/// have realistic numbers of events; types, sources and categories are skewed, `alert` and
/// `scheduled` are rare; one event in 200 is not processed.
const GENERATE: &str = "
insert into events (event_id, event_type, event_source, event_category, user_id, session_id,
    organization_id, device_id, correlation_id, aggregate_type, aggregate_id, data, metadata,
    status, timestamp, received_at, created_at)
select md5(n::text)::uuid,
    'type.' || floor(40 * power(r[1], 2)),
    case when r[2] < 0.5 then 'frontend' when r[2] < 0.9 then 'backend' when r[2] < 0.95 then 'system'
         when r[2] < 0.97 then 'iot_device' when r[2] < 0.995 then 'external_api' else 'scheduled' end,
    case when r[3] < 0.6 then 'user_interaction' when r[3] < 0.9 then 'user_action'
         when r[3] < 0.98 then 'payment' when r[3] < 0.995 then 'order' else 'alert' end,
    case when r[4] < 0.9 then 'user-' || floor(5000 * r[5]) end,
    case when r[4] < 0.9 then 'session-' || floor(40000 * r[6]) end,
    case when r[4] < 0.8 then 'org-' || floor(200 * r[7]) end,
    case when r[8] < 0.3 then 'device-' || floor(2000 * r[9]) end,
    case when r[10] < 0.5 then 'correlation-' || floor(60000 * r[11]) end,
    case when r[12] < 0.4 then 'order' end,
    case when r[12] < 0.4 then 'order-' || floor(20000 * r[13]) end,
    jsonb_build_object('order_id', n % 50000, 'amount', floor(r[14] * 1000), 'currency', 'EUR'),
    jsonb_build_object('campaign', 'c-' || (n % 3000), 'ip_address', '10.0.0.' || (n % 250)),
    case when r[15] < 0.004 then 'pending' when r[15] < 0.005 then 'failed' else 'processed' end,
    at, at, at + interval '2 seconds'
from generate_series(1, $1::int8) n
cross join lateral (select $2::timestamptz + n * interval '75 seconds' as at) times
cross join lateral (
    select array_agg(((hashtextextended(n::text, k) & 1048575)::float8 / 1048576)) as r
    from generate_series(1, 15) k
) random";

const FILL: &str = "
insert into event_ids select event_id, tenant_id, timestamp from events;
insert into aggregated_events (event_type, date, count)
    select event_type, (timestamp at time zone 'utc')::date, count(*) from events group by 1, 2;
insert into aggregated_events_hourly (hour, event_type, event_source, event_category, count)
    select date_trunc('hour', timestamp), event_type, event_source, event_category, count(*)
    from events group by 1, 2, 3, 4;
insert into dead_letters (topic, partition, \"offset\", payload, reason, detail)
    select 'events.backend.service', n % 6, n, 'x', 'invalid_json', 'no JSON' from generate_series(1, 20000) n;
analyze events, event_ids, aggregated_events, aggregated_events_hourly, dead_letters;";

/// Partitions for the first half of 2026, instead of those of today.
async fn months(client: &Client) {
    client
        .batch_execute(
            "drop table events_past; create table events_past partition of events \
                 for values from (minvalue) to ('2026-01-01'); \
             do $$ begin for n in 1..6 loop execute format('create table %I partition of events \
                 for values from (%L) to (%L)', 'events_2026_0' || n, make_date(2026, n, 1), \
                 make_date(2026, n + 1, 1)); end loop; end $$",
        )
        .await
        .unwrap();
}

async fn fill(db: &Database) -> tokio_postgres::Client {
    let client = db.connect().await.unwrap();
    months(&client).await;
    client.execute(GENERATE, &[&ROWS, &FIRST]).await.unwrap();
    client.batch_execute(FILL).await.unwrap();
    client
}

struct Purpose {
    row: &'static str,
    sql: Sql,
    /// The index it must use, and others that may stand in for it where a partition holds little.
    by: &'static [&'static str],
}

const PAGE: Window = Window {
    limit: 101,
    offset: 0,
    after: None,
};

fn list(row: &'static str, by: &'static [&'static str], filter: Filter) -> Purpose {
    Purpose {
        row,
        sql: list_sql(&filter, &PAGE, Step::default()),
        by,
    }
}

fn counted(row: &'static str, by: &'static [&'static str], filter: Filter) -> Purpose {
    Purpose {
        row,
        sql: count_sql(&filter, Step::default()),
        by,
    }
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn purposes() -> Vec<Purpose> {
    let all = Filter::default;
    let user = || Filter {
        user_id: some("user-77"),
        ..all()
    };
    let after = Position {
        timestamp: datetime!(2026-03-05 06:07:08 UTC),
        event_id: Uuid::from_u128(7),
    };
    let failed = StatusFilter::Is(EventStatus::Failed);
    let scope = Scope {
        tenant_id: TenantId::default(),
        user_id: None,
        today: date!(2026 - 06 - 20),
        start: datetime!(2026-06-10 00:00 UTC),
        end: None,
    };
    let mut purposes = vec![
        Purpose {
            row: "S4-80 fast lookup by id",
            sql: time_sql(&TenantId::default(), Uuid::from_u128(9)),
            by: &["event_ids_pkey"],
        },
        Purpose {
            row: "S4-80 fast lookup by id, the row",
            sql: find_sql(&TenantId::default(), Uuid::from_u128(9), after.timestamp),
            by: &["events_time_idx"],
        },
        list("S4-81 user queries", &["events_user_idx"], user()),
        counted("S4-81 user queries, counted", &["events_user_idx"], user()),
        list(
            "S4-82 device filter",
            &["events_device_idx"],
            Filter {
                device_id: some("device-77"),
                ..all()
            },
        ),
        list(
            "S4-83 organisation filter",
            &["events_organization_idx", "events_time_idx"],
            Filter {
                organization_id: some("org-77"),
                ..all()
            },
        ),
        counted(
            "S4-83 organisation filter, counted",
            &["events_organization_idx"],
            Filter {
                organization_id: some("org-77"),
                ..all()
            },
        ),
        list(
            "S4-84 session tracking",
            &["events_session_idx"],
            Filter {
                session_id: some("session-77"),
                ..all()
            },
        ),
        list(
            "S4-85 correlation",
            &["events_correlation_idx"],
            Filter {
                correlation_id: some("correlation-77"),
                ..all()
            },
        ),
        list(
            "S4-86 type filter",
            &["events_type_idx", "events_time_idx"],
            Filter {
                event_type: some("type.39"),
                ..all()
            },
        ),
        counted(
            "S4-86 type filter, counted",
            &["events_type_idx"],
            Filter {
                event_type: some("type.39"),
                ..all()
            },
        ),
        list(
            "S4-86 type filter, a common type",
            &["events_time_idx", "events_type_idx"],
            Filter {
                event_type: some("type.0"),
                ..all()
            },
        ),
        list(
            "S4-87 source filter",
            &["events_source_category_idx"],
            Filter {
                event_source: Some(EventSource::Scheduled),
                ..all()
            },
        ),
        list(
            "S4-87 source filter, a common source",
            &["events_time_idx", "events_source_category_idx"],
            Filter {
                event_source: Some(EventSource::Frontend),
                ..all()
            },
        ),
        list(
            "S4-88 category filter",
            &["events_source_category_idx"],
            Filter {
                event_category: Some(EventCategory::Alert),
                ..all()
            },
        ),
        counted(
            "S4-88 category filter, counted",
            &["events_source_category_idx"],
            Filter {
                event_category: Some(EventCategory::Alert),
                ..all()
            },
        ),
        list(
            "S4-88 category filter, a category without events",
            &["events_source_category_idx"],
            Filter {
                event_category: Some(EventCategory::Command),
                ..all()
            },
        ),
        list(
            "S4-89 status filter",
            &["events_unprocessed_idx"],
            Filter {
                status: failed,
                ..all()
            },
        ),
        list(
            "S4-89 status filter, processed",
            &["events_time_idx"],
            Filter {
                status: StatusFilter::Is(EventStatus::Processed),
                ..all()
            },
        ),
        list(
            "S3-48 unprocessed",
            &["events_unprocessed_idx"],
            Filter {
                status: StatusFilter::Unprocessed,
                ..all()
            },
        ),
        counted(
            "S3-48 unprocessed, counted",
            &["events_unprocessed_idx"],
            Filter {
                status: StatusFilter::Unprocessed,
                ..all()
            },
        ),
        list(
            "S4-90 time queries",
            &["events_time_idx"],
            Filter {
                start: Some(datetime!(2026-03-05 00:00 UTC)),
                end: Some(datetime!(2026-03-06 00:00 UTC)),
                ..all()
            },
        ),
        list("S4-90 latest first", &["events_time_idx"], all()),
        Purpose {
            row: "S4-90 the page after a cursor",
            sql: list_sql(
                &all(),
                &Window {
                    after: Some(after),
                    ..PAGE
                },
                Step::default(),
            ),
            by: &["events_time_idx"],
        },
        list(
            "S4-91 creation time",
            &["events_created_idx"],
            Filter {
                created_start: Some(datetime!(2026-03-05 00:00 UTC)),
                created_end: Some(datetime!(2026-03-05 06:00 UTC)),
                ..all()
            },
        ),
        list(
            "S4-92 JSONB data queries",
            &["events_json_idx"],
            Filter {
                data: some(r#"{"order_id": 77}"#),
                ..all()
            },
        ),
        list(
            "S4-93 JSONB metadata queries",
            &["events_json_idx"],
            Filter {
                metadata: some(r#"{"campaign": "c-77"}"#),
                ..all()
            },
        ),
        list(
            "S4-94 user and type",
            &["events_user_idx"],
            Filter {
                event_type: some("type.1"),
                ..user()
            },
        ),
        list(
            "S4-95 activity timeline",
            &["events_user_idx"],
            Filter {
                start: Some(datetime!(2026-03-01 00:00 UTC)),
                end: Some(datetime!(2026-04-15 00:00 UTC)),
                ..user()
            },
        ),
        Purpose {
            row: "S4-95 activity timeline, after a cursor",
            sql: list_sql(
                &user(),
                &Window {
                    after: Some(after),
                    ..PAGE
                },
                Step::default(),
            ),
            by: &["events_user_idx"],
        },
        list(
            "S4-96 type and status",
            &["events_unprocessed_idx"],
            Filter {
                event_type: some("type.1"),
                status: failed,
                ..all()
            },
        ),
        list(
            "S4-96 type and status, processed",
            &["events_type_idx", "events_time_idx"],
            Filter {
                event_type: some("type.39"),
                status: StatusFilter::Is(EventStatus::Processed),
                ..all()
            },
        ),
        list(
            "S4-97 source and category",
            &["events_source_category_idx"],
            Filter {
                event_source: Some(EventSource::IotDevice),
                event_category: Some(EventCategory::Order),
                ..all()
            },
        ),
        counted(
            "S4-97 source and category, counted",
            &["events_source_category_idx"],
            Filter {
                event_source: Some(EventSource::IotDevice),
                event_category: Some(EventCategory::Order),
                ..all()
            },
        ),
        list(
            "S3-28 history of an aggregate",
            &["events_aggregate_idx"],
            Filter {
                aggregate_id: some("order-77"),
                ..all()
            },
        ),
        list(
            "aggregates of a common type",
            &["events_time_idx", "events_aggregate_type_idx"],
            Filter {
                aggregate_type: some("order"),
                ..all()
            },
        ),
        list(
            "aggregates of a type that there are none of",
            &["events_aggregate_type_idx"],
            Filter {
                aggregate_type: some("none"),
                ..all()
            },
        ),
        Purpose {
            row: "dead letters",
            sql: dead_letter_reads::list_sql(
                &dead_letter_reads::Filter::default(),
                &dead_letter_reads::Window {
                    limit: 101,
                    offset: 0,
                    before: Some(9_000),
                },
            ),
            by: &["dead_letters_pkey", "dead_letters_tenant_idx"],
        },
    ];
    let all = StatisticsSql::new(&scope);
    let hourly: &[&str] = &["aggregated_events_hourly_tenant_id_hour_event_type_event_so_key"];
    for (row, by, sql) in [
        (
            "statistics: open events",
            &["events_unprocessed_idx"] as &[_],
            open_sql(&scope, Step::default()),
        ),
        ("statistics: by type", hourly, all.by_type),
        ("statistics: by source", hourly, all.by_source),
        ("statistics: by category", hourly, all.by_category),
        (
            "statistics: daily",
            &["aggregated_events_date_idx"],
            all.daily,
        ),
        (
            "statistics of a user",
            &["events_user_idx"],
            user_sql(&scope, "user-77", Step::default()),
        ),
    ] {
        purposes.push(Purpose { row, sql, by });
    }
    purposes
}

/// Tables with so few rows that reading them whole is right: here only the empty default partition.
async fn small_tables(client: &Client) -> BTreeSet<String> {
    let rows = client
        .query(
            "select relname::text from pg_class where relkind = 'r' and reltuples <= 100 \
             and relnamespace = current_schema()::regnamespace",
            &[],
        )
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn every_purpose_has_an_index_and_every_index_a_purpose() {
    with_database(|db| async move {
        let client = fill(&db).await;
        let parents = parents(&client).await;
        let small = small_tables(&client).await;
        let mut used = BTreeSet::new();
        let mut failures = Vec::new();
        for Purpose { row, sql, by } in purposes() {
            let plan = explain(&client, &parents, &sql).await;
            let seq: Vec<_> = plan.seq_scans.difference(&small).collect();
            let other: Vec<_> = plan
                .indexes
                .iter()
                // The stream version of each row returned is looked up by its id.
                .filter(|index| !by.contains(&index.as_str()) && *index != "event_ids_pkey")
                .collect();
            let served = plan.indexes.contains(by[0]);
            if !seq.is_empty() || !other.is_empty() || !served {
                failures.push(format!(
                    "{row}: reads {seq:?} from end to end, uses {:?} instead of {by:?}\n{}",
                    plan.indexes, plan.text
                ));
            }
            used.extend(plan.indexes);
        }
        assert!(failures.is_empty(), "{}", failures.join("\n\n"));

        let rows = client
            .query(
                "select c.relname::text from pg_index i join pg_class c on c.oid = i.indexrelid \
                 where i.indrelid = 'events'::regclass",
                &[],
            )
            .await
            .unwrap();
        let all: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
        let useless: Vec<_> = all.difference(&used).collect();
        assert!(useless.is_empty(), "no purpose for {useless:?}");
    })
    .await;
}

#[tokio::test]
async fn a_time_range_and_a_cursor_leave_the_other_partitions_alone() {
    with_database(|db| async move {
        let client = db.connect().await.unwrap();
        months(&client).await;
        let parents = parents(&client).await;
        let range = Filter {
            start: Some(datetime!(2026-03-05 00:00 UTC)),
            end: Some(datetime!(2026-03-06 00:00 UTC)),
            ..Filter::default()
        };
        let plan = explain(&client, &parents, &list_sql(&range, &PAGE, Step::default())).await;
        assert!(plan.text.contains("events_2026_03"), "{}", plan.text);
        for other in ["events_2026_02", "events_2026_04"] {
            assert!(!plan.text.contains(other), "{}", plan.text);
        }
        let after = Position {
            timestamp: datetime!(2026-02-10 00:00 UTC),
            event_id: Uuid::nil(),
        };
        let window = Window {
            after: Some(after),
            ..PAGE
        };
        let plan = explain(
            &client,
            &parents,
            &list_sql(&Filter::default(), &window, Step::default()),
        )
        .await;
        assert!(plan.text.contains("events_2026_02"), "{}", plan.text);
        assert!(!plan.text.contains("events_2026_03"), "{}", plan.text);
    })
    .await;
}
