//! What is written reads back, and reads are bounded.

use std::time::{Duration, Instant};

use domain::{Context, Event, EventSource, EventStatus, Limits, TenantId, envelope::Origin};
use store::event_reads::{self, Filter, StatusFilter, Window};
use store::reader::{ReadError, Reader};
use store::statistics::{self, DailyCount, Scope};
use store::write::{Batch, Pending, RecordPlace, Writer};
use testkit::LIMIT;
use time::macros::{date, datetime};
use uuid::Uuid;

use crate::database::with_database;

const WINDOW: Window = Window {
    limit: 100,
    offset: 0,
    after: None,
};

fn event(n: u128, json: &str) -> Event {
    let cx = Context {
        origin: Origin::Log,
        tenant: &TenantId::default(),
        received_at: datetime!(2026-03-05 10:00:00.000001 UTC),
        now: datetime!(2026-03-05 10:00:00.000001 UTC),
        fresh_id: Uuid::from_u128(n),
        default_source: EventSource::Backend,
        default_category: domain::EventCategory::UserAction,
        content_type: None,
        limits: Limits::default(),
    };
    domain::decode(json.as_bytes(), &cx).unwrap()
}

fn events() -> Vec<Event> {
    vec![
        event(
            1,
            r#"{"event_type":"a","user_id":"u","data":{"n":1.50},"timestamp":"2026-03-05T09:30:00Z"}"#,
        ),
        event(
            2,
            r#"{"event_type":"b","event_source":"frontend","event_category":"payment",
            "session_id":"s","organization_id":"o","device_id":"d","correlation_id":"c",
            "aggregate_type":"order","aggregate_id":"7","expected_version":0,"event_id":"evt_1",
            "data":{"x":[1,2]},"metadata":{"k":"v"},"context":{"c":{}},"properties":{"p":null},
            "timestamp":"2026-03-04T23:59:59.999999Z","version":"2.0","schema_version":"3.0"}"#,
        ),
    ]
}

async fn store_all(db: &store::Database, events: &[Event]) {
    let mut writer = Writer::connect(db).await.unwrap();
    write_all(&mut writer, events).await;
}

async fn write_all(writer: &mut Writer, events: &[Event]) {
    let pending: Vec<_> = events
        .iter()
        .enumerate()
        .map(|(item, event)| Pending {
            item,
            event,
            hash: event.content_hash(),
            processed_at: Some(event.received_at),
            follows: None,
            place: RecordPlace {
                topic: "t",
                partition: 0,
                offset: 0,
                timestamp_ms: None,
            },
            by_gateway: true,
            dead_letter: None,
            version: None,
        })
        .collect();
    let batch = Batch {
        matched: None,
        events: &pending,
        dead_letters: &[],
        advances: &[],
        owner: None,
        announce: store::outbox::Announce::nowhere(),
        refuse: &|_, reason, detail| panic!("{reason}: {detail}"),
    };
    writer.write(&batch).await.unwrap();
}

#[tokio::test]
async fn what_is_written_reads_back() {
    with_database(|db| async move {
        let events = events();
        store_all(&db, &events).await;
        let client = db.client().await.unwrap();
        for event in &events {
            let found = event_reads::find(&client, &event.tenant_id, event.event_id);
            let found = found.await.unwrap().unwrap();
            // `jsonb` prints the objects in its own way.
            for (found, written) in [
                (&found.event.data, &event.data),
                (&found.event.metadata, &event.metadata),
                (&found.event.context, &event.context),
                (&found.event.properties, &event.properties),
            ] {
                assert_eq!(found.to_value(), written.to_value());
            }
            let same_text = Event {
                data: event.data.clone(),
                metadata: event.metadata.clone(),
                context: event.context.clone(),
                properties: event.properties.clone(),
                ..found.event.clone()
            };
            assert_eq!(same_text, *event);
            assert_eq!(found.processed_at, Some(event.received_at));
            assert_eq!((found.status.as_str(), found.retry_count), ("processed", 0));
        }
        let other = TenantId::parse("other").unwrap();
        let found = event_reads::find(&client, &other, events[0].event_id).await;
        assert!(found.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn statistics_are_those_of_what_was_written_once() {
    with_database(|db| async move {
        let events = events();
        store_all(&db, &events).await;
        store_all(&db, &events).await;
        let client = db.client().await.unwrap();
        client
            .execute(
                "update events set status = 'failed' where event_type = 'a'",
                &[],
            )
            .await
            .unwrap();
        let scope = |user_id: Option<&str>| Scope {
            tenant_id: TenantId::default(),
            user_id: user_id.map(str::to_owned),
            today: date!(2026 - 03 - 05),
            start: datetime!(2026-03-04 23:10 UTC),
            end: Some(datetime!(2026-03-05 09:40 UTC)),
        };
        let all = statistics::read(&client, &[], &scope(None)).await.unwrap();
        let one = |name: &str| vec![(name.to_owned(), 1)];
        assert_eq!((all.total, all.today, all.week, all.month), (2, 1, 2, 2));
        assert_eq!(all.open, one("failed"));
        assert_eq!(all.by_type, [one("a"), one("b")].concat());
        assert_eq!(all.by_source, [one("backend"), one("frontend")].concat());
        assert_eq!(
            all.by_category,
            [one("payment"), one("user_action")].concat()
        );
        let day = |date, event_type: &str| DailyCount {
            date,
            event_type: event_type.to_owned(),
            count: 1,
        };
        let (first, second) = (date!(2026 - 03 - 04), date!(2026 - 03 - 05));
        assert_eq!(all.daily, [day(second, "a"), day(first, "b")]);

        let user = statistics::read(&client, &[], &scope(Some("u")))
            .await
            .unwrap();
        assert_eq!(
            (user.total, user.today, user.week, user.month),
            (1, 1, 1, 1)
        );
        assert_eq!((user.open, user.by_type), (one("failed"), one("a")));
        assert_eq!(user.daily, [day(second, "a")]);
        let nobody = statistics::read(&client, &[], &scope(Some("nobody")))
            .await
            .unwrap();
        assert_eq!(nobody, statistics::Statistics::default());

        let failed = Filter {
            status: StatusFilter::Is(EventStatus::Failed),
            ..Filter::default()
        };
        let total = async |filter| {
            let deadline = Instant::now() + LIMIT;
            let total = event_reads::total(&client, &[], filter, deadline);
            total.await.unwrap().count
        };
        assert_eq!(total(&failed).await, Some(1));
        assert_eq!(total(&Filter::default()).await, Some(2));
    })
    .await;
}

/// Unique types of a stranger, by two writers at once: the sums stay exact, the rows few.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn types_beyond_the_bound_are_counted_together() {
    const MOST: usize = 5;
    with_database(|db| async move {
        let batch = |writer: u128, round: u128| -> Vec<Event> {
            let event = |n: u128| {
                let id = (writer * 1_000 + round) * 1_000 + n;
                // Of two days, one of which is long ago.
                let day = ["2026-03-05", "1999-12-31"][usize::try_from(n % 2).unwrap()];
                let name = if n < 4 {
                    "known".to_owned()
                } else {
                    format!("unique.{id}")
                };
                event(
                    id,
                    &format!(r#"{{"event_type":"{name}","timestamp":"{day}T09:30:00Z"}}"#),
                )
            };
            (0..20).map(event).collect()
        };
        let write = async |number: u128| {
            let writer = Writer::connect(&db).await.unwrap();
            let mut writer = writer.with_types_a_day(MOST);
            for round in 0..10 {
                write_all(&mut writer, &batch(number, round)).await;
            }
            writer.take_others()
        };
        write_all(&mut Writer::connect(&db).await.unwrap(), &batch(9, 0)[..4]).await;
        let (first, second) = tokio::join!(write(1), write(2));
        let client = db.connect().await.unwrap();
        for table in ["aggregated_events", "aggregated_events_hourly"] {
            let sql = format!(
                "select sum(count)::int8, count(distinct event_type), \
                 sum(count) filter (where event_type = 'known')::int8, \
                 coalesce(sum(count) filter (where event_type = 'other'), 0)::int8 from {table}"
            );
            let row = client.query_one(&sql, &[]).await.unwrap();
            let (all, types, known, other): (i64, i64, i64, i64) =
                (row.get(0), row.get(1), row.get(2), row.get(3));
            assert_eq!((all, known), (404, 84), "{table}");
            // Two days, each with its own, and the one that stands for the rest.
            assert!(types <= 2 * MOST as i64, "{types} in {table}");
            assert_eq!(u64::try_from(other).unwrap(), first + second, "{table}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_page_ends_where_the_bytes_end() {
    with_database(|db| async move {
        store_all(&db, &events()).await;
        let client = db.client().await.unwrap();
        let list = async |max| {
            let page = event_reads::list(&client, &[], &Filter::default(), &WINDOW, max)
                .await
                .unwrap();
            (page.rows.len(), page.cut)
        };
        assert_eq!(list(1 << 20).await, (2, false));
        assert_eq!(list(1_000).await, (1, true));
        assert_eq!(list(10).await, (0, true));
        let short = event_reads::list_tracked(&client, &[], &Filter::default(), &WINDOW, 100).await;
        assert_eq!(
            short.map(|page| (page.rows.len(), page.cut)).unwrap(),
            (1, true)
        );
    })
    .await;
}

#[tokio::test]
async fn a_statement_ends_with_its_time_and_a_lost_connection_is_replaced() {
    with_database(|db| async move {
        let hurried = Reader::new(db.clone(), Duration::from_secs(1));
        let slow = hurried.read(async |client| {
            client.execute("select pg_sleep(30)", &[]).await?;
            Ok(())
        });
        assert!(matches!(slow.await, Err(ReadError::TooSlow(_))));

        let reader = Reader::new(db.clone(), LIMIT);
        let pid = async |client: &store::pool::Client| {
            let row = client.query_one("select pg_backend_pid()", &[]).await?;
            Ok(row.get::<_, i32>(0))
        };
        let first = reader.read(pid).await.unwrap();
        assert_eq!(reader.read(pid).await.unwrap(), first);
        let admin = db.connect().await.unwrap();
        admin
            .execute("select pg_terminate_backend($1)", &[&first])
            .await
            .unwrap();
        assert_ne!(reader.read(pid).await.unwrap(), first);

        // Whoever gives up leaves no busy connection to the next.
        let second = reader.read(pid).await.unwrap();
        let abandoned = reader.read(async |client| {
            client.execute("select pg_sleep(30)", &[]).await?;
            Ok(())
        });
        let gave_up = tokio::time::timeout(Duration::from_millis(100), abandoned).await;
        assert!(gave_up.is_err());
        assert_ne!(reader.read(pid).await.unwrap(), second);
    })
    .await;
}
