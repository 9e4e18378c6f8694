//! Numbers of streams: contiguous, and given only to those who expect what is there.

use domain::{Context, Event, EventSource, Limits, TenantId, envelope::Origin};
use serde_json::json;
use store::stream_reads::{self, Kind, Window};
use store::write::{Batch, DeadLetter, Pending, RecordPlace, VERSION_CONFLICT, Writer};
use time::macros::datetime;
use uuid::Uuid;

use crate::database::with_database;

/// An event of a stream: its number as an id, the version it expects, the event it follows.
type Append = (u128, &'static str, Option<i64>, Option<u128>);

fn event(&(n, stream, expected, _): &Append) -> Event {
    let (kind, id) = stream.split_once(':').unwrap();
    let body = json!({"event_id": Uuid::from_u128(n), "event_type": "a", "data": {},
        "aggregate_type": kind, "aggregate_id": id, "expected_version": expected});
    let cx = Context {
        origin: Origin::Log,
        tenant: &TenantId::default(),
        received_at: datetime!(2026-03-05 10:00 UTC),
        now: datetime!(2026-03-05 10:00 UTC),
        fresh_id: Uuid::nil(),
        default_source: EventSource::Backend,
        default_category: domain::EventCategory::UserAction,
        content_type: None,
        limits: Limits::default(),
    };
    domain::decode(body.to_string().as_bytes(), &cx).unwrap()
}

/// Writes a batch; returns the numbers of the events stored and the details of those refused.
async fn append(
    writer: &mut Writer,
    batch: &[Append],
) -> Result<(Vec<Option<i64>>, Vec<String>), store::Error> {
    let events: Vec<Event> = batch.iter().map(event).collect();
    let pending: Vec<_> = (events.iter().zip(batch).enumerate())
        .map(|(n, (event, (.., follows)))| Pending {
            item: n,
            event,
            hash: event.content_hash(),
            processed_at: Some(event.received_at),
            follows: follows.map(Uuid::from_u128),
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
    let refuse = |pending: &Pending<'_>, reason: &'static str, detail: String| {
        assert_eq!(reason, VERSION_CONFLICT);
        DeadLetter {
            tenant_id: TenantId::default(),
            topic: "t".to_owned(),
            partition: 0,
            offset: 0,
            key: None,
            headers: vec![],
            payload: None,
            reason: reason.to_owned(),
            detail,
            event_id: Some(pending.event.event_id),
            timestamp_ms: None,
            from_postgres: false,
            was: None,
        }
    };
    let written = writer
        .write(&Batch {
            matched: None,
            events: &pending,
            dead_letters: &[],
            advances: &[],
            owner: None,
            announce: store::outbox::Announce::nowhere(),
            refuse: &refuse,
        })
        .await?;
    let numbers = written.new.iter().map(|event| event.version).collect();
    let refused = written.refused.into_iter().map(|letter| letter.detail);
    Ok((numbers, refused.collect()))
}

fn some(numbers: impl IntoIterator<Item = i64>) -> Vec<Option<i64>> {
    numbers.into_iter().map(Some).collect()
}

#[tokio::test]
async fn numbers_have_no_gap_and_only_the_expected_version_is_stored() {
    with_database(|db| async move {
        let mut writer = Writer::connect(&db).await.unwrap();
        let (a, b) = ("order:7", "order:8");
        let stored = append(
            &mut writer,
            &[(1, a, None, None), (2, b, None, None), (3, a, None, None)],
        )
        .await;
        assert_eq!(stored.unwrap(), (some([1, 1, 2]), vec![]));
        // One that is refused leaves no hole, and one stored before takes no number.
        let stored = append(
            &mut writer,
            &[
                (3, a, None, None),
                (4, a, Some(1), None),
                (5, a, Some(2), None),
                (6, a, None, None),
                (7, b, Some(0), None),
            ],
        )
        .await;
        let (numbers, refused) = stored.unwrap();
        assert_eq!(numbers, some([3, 4]));
        assert_eq!(
            refused,
            [
                "the stream order:7 is at version 2, the event expects 1",
                "the stream order:8 is at version 1, the event expects 0"
            ]
        );
        // A refused id is not taken: the same event may come again.
        let stored = append(&mut writer, &[(4, a, Some(4), None)]).await;
        assert_eq!(stored.unwrap(), (some([5]), vec![]));
        let client = db.client().await.unwrap();
        let sql = "select reason, event_id::text from dead_letters order by id";
        let letters = client.query(sql, &[]).await.unwrap();
        let letters: Vec<(String, String)> = letters.iter().map(|l| (l.get(0), l.get(1))).collect();
        let of = |n| (VERSION_CONFLICT.to_owned(), Uuid::from_u128(n).to_string());
        assert_eq!(letters, [of(4), of(7)]);
        // Retention and erasure take the events, never the number.
        client
            .batch_execute("delete from event_ids; delete from events")
            .await
            .unwrap();
        let stored = append(&mut writer, &[(9, a, Some(5), None)]).await;
        assert_eq!(stored.unwrap(), (some([6]), vec![]));
    })
    .await;
}

#[tokio::test]
async fn an_append_of_many_is_stored_whole_or_not_at_all() {
    with_database(|db| async move {
        let mut writer = Writer::connect(&db).await.unwrap();
        let a = "order:7";
        // Somebody else's event stands between: the append goes on right after its first.
        let stored = append(
            &mut writer,
            &[
                (1, a, Some(0), None),
                (2, a, None, None),
                (3, a, Some(0), Some(1)),
                (4, a, Some(0), Some(1)),
            ],
        )
        .await;
        assert_eq!(stored.unwrap().0, some([1, 4, 2, 3]));
        // Its last one comes in another transaction.
        let stored = append(&mut writer, &[(5, a, Some(0), Some(1))]).await;
        assert_eq!(stored.unwrap(), (some([5]), vec![]));
        // The first is refused, and so are those after it, here and later, whatever fits by chance.
        let stored = append(
            &mut writer,
            &[(6, a, Some(4), None), (7, a, Some(5), Some(6))],
        )
        .await;
        assert_eq!(stored.unwrap().1.len(), 2);
        let stored = append(&mut writer, &[(8, a, Some(5), Some(6))]).await;
        assert_eq!(stored.unwrap().1.len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_writers_with_one_expected_version_one_is_stored() {
    with_database(|db| async move {
        let mut writers = tokio::task::JoinSet::new();
        for n in 1..=8_u128 {
            let db = db.clone();
            writers.spawn(async move {
                let mut writer = Writer::connect(&db).await.unwrap();
                append(&mut writer, &[(n, "cart:1", Some(0), None)])
                    .await
                    .unwrap()
            });
        }
        let outcomes = writers.join_all().await;
        let stored = outcomes.iter().filter(|(numbers, _)| *numbers == some([1]));
        assert_eq!(stored.count(), 1, "{outcomes:?}");
        let refused: Vec<_> = outcomes.iter().flat_map(|(_, refused)| refused).collect();
        assert_eq!(refused.len(), 7, "{outcomes:?}");
    })
    .await;
}

#[tokio::test]
async fn a_stream_is_read_in_both_directions() {
    with_database(|db| async move {
        let mut writer = Writer::connect(&db).await.unwrap();
        let batch: Vec<Append> = (1..=5).map(|n| (n, "a:b:c", None, None)).collect();
        append(&mut writer, &batch).await.unwrap();
        let client = db.client().await.unwrap();
        let tenant = TenantId::default();
        let head = stream_reads::head(&client, &tenant, "a:b:c").await.unwrap();
        assert_eq!((head.kind, head.version), (Kind::Explicit, Some(5)));
        for (from, limit, backward, want) in [
            (None, 10, false, vec![1, 2, 3, 4, 5]),
            (Some(2), 2, false, vec![2, 3]),
            (None, 2, true, vec![5, 4]),
            (Some(3), 10, true, vec![3, 2, 1]),
            (Some(6), 10, false, vec![]),
        ] {
            let window = Window {
                from,
                limit,
                backward,
            };
            let read = stream_reads::read(&client, &tenant, "a:b:c", head, window, 1 << 20);
            let read = read.await.unwrap();
            let numbers: Vec<_> = read.rows.iter().map(|e| e.stream_version).collect();
            assert_eq!(numbers, some(want), "{window:?}");
        }
        let other = TenantId::parse("other").unwrap();
        let head = stream_reads::head(&client, &other, "a:b:c").await.unwrap();
        assert_eq!(head.version, Some(0));
    })
    .await;
}
