//! Bad records: each ends in the dead letters with its place and its bytes, and the events around
//! it are stored as if it were not there.

use std::collections::{BTreeMap, HashMap};

use serde_json::json;
use testkit::{LIMIT, TestService, eventually};
use uuid::Uuid;

use crate::SHAPE;
use crate::direct::{Record, produce};
use crate::ledger::{Place, announcements, assert_counts, wait_worked_off};
use crate::world::{BACKEND, Shape, World, beside_others};

fn event(id: Uuid, event_type: &str, n: usize) -> String {
    let user = format!("user-{}", n % 10);
    json!({"event_id": id, "event_type": event_type, "user_id": user, "data": {"n": n}}).to_string()
}

/// Sends records and returns the place of each.
async fn send(world: &World, records: &[Record]) -> Vec<Place> {
    let topic = world.topic(BACKEND);
    produce(world, BACKEND, records)
        .await
        .into_iter()
        .zip(records)
        .map(|(offset, record)| (topic.clone(), record.partition, offset))
        .collect()
}

/// A dead letter: reason, detail, payload, key.
type Letter = (String, String, Option<Vec<u8>>, Option<Vec<u8>>);

async fn dead_letters(world: &World) -> BTreeMap<Place, Letter> {
    let rows = world
        .database
        .rows(
            r#"select topic, partition, "offset", reason, detail, payload, key from dead_letters"#,
            &[],
        )
        .await
        .unwrap();
    let letters: BTreeMap<Place, Letter> = rows
        .iter()
        .map(|row| {
            let place = (row.get(0), row.get(1), row.get(2));
            (place, (row.get(3), row.get(4), row.get(5), row.get(6)))
        })
        .collect();
    assert_eq!(letters.len(), rows.len(), "a dead letter is there twice");
    letters
}

fn assert_no_panic(processor: &mut TestService) {
    assert_eq!(processor.exited(), None);
    assert!(
        !processor.log().contains("panicked"),
        "the processor panicked"
    );
}

/// The database itself refuses these: `23514` from a constraint, `P0001` from a trigger.
const REFUSALS: &str = "
    alter table events add constraint no_poison check (event_type <> 'poison.constraint');
    create function refuse() returns trigger language plpgsql as $$
        begin raise exception 'no % here', new.event_type; end $$;
    create trigger refuse before insert on events for each row
        when (new.event_type = 'poison.trigger') execute function refuse();";

#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_refuses_is_found_by_bisection() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    // Topics and schema; then a backlog builds up while no processor runs.
    world.start_processor().await.terminate().await;
    world
        .database
        .connect()
        .await
        .unwrap()
        .batch_execute(REFUSALS)
        .await
        .unwrap();

    // Partition 0 gets 5,000 records with poison at both ends, side by side and in between;
    // partition 1 one poison alone, partition 2 nothing but poison.
    let at = [0, 1, 777, 2_500, 2_501, 2_502, 4_998, 4_999];
    let poison = |n: usize| ["poison.constraint", "poison.trigger"][n % 2];
    let mut records: Vec<Record> = (0..5_000)
        .map(|n| {
            let event_type = if at.contains(&n) { poison(n) } else { "fine" };
            Record::new(
                0,
                &format!("user-{}", n % 10),
                event(Uuid::now_v7(), event_type, n),
            )
        })
        .collect();
    records.push(Record::new(
        1,
        "k",
        event(Uuid::now_v7(), "poison.trigger", 5_000),
    ));
    records
        .extend((0..5).map(|n| Record::new(2, "k", event(Uuid::now_v7(), poison(n), 5_001 + n))));
    let places = send(&world, &records).await;
    let mut processor = world.start_processor().await;
    let log: BTreeMap<Place, &Record> = places.iter().cloned().zip(&records).collect();
    wait_worked_off(&world, &log).await;

    let is_poison = |record: &Record| {
        let payload = record.payload.as_ref().unwrap();
        String::from_utf8_lossy(payload).contains("poison.")
    };
    let letters = dead_letters(&world).await;
    let expected: Vec<&Place> = log
        .iter()
        .filter(|(_, record)| is_poison(record))
        .map(|(place, _)| place)
        .collect();
    assert_eq!(expected.len(), at.len() + 6);
    assert_eq!(letters.keys().collect::<Vec<_>>(), expected);
    for (place, (reason, detail, payload, key)) in &letters {
        assert_eq!(reason, "database", "{place:?}");
        assert!(
            detail.contains("no_poison") || detail.contains("no poison.trigger here"),
            "{place:?}: {detail}"
        );
        assert_eq!(
            (payload, key),
            (&log[place].payload, &log[place].key),
            "{place:?}"
        );
    }
    assert_counts(&world, 5_000 - at.len()).await;

    // Order within the partition: the halves of a batch commit one after the other, from the front.
    let committed: Vec<i64> = world
        .database
        .rows(
            "select (data->>'n')::bigint from events order by created_at, (data->>'n')::bigint",
            &[],
        )
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    let in_order: Vec<i64> = (0..5_000)
        .filter(|n| !at.contains(&usize::try_from(*n).unwrap()))
        .collect();
    assert_eq!(committed, in_order);
    let transactions: i64 = world
        .database
        .scalar("select count(distinct created_at) from events", &[])
        .await
        .unwrap();
    assert!(
        transactions < 1_000,
        "{transactions} transactions: that is no bisection"
    );

    assert_no_panic(&mut processor);
    if SHAPE == Shape::Split {
        assert_announced_in_order(&world, in_order.len()).await;
    }

    // The partitions go on.
    let more = [0, 1, 2].map(|p| Record::new(p, "k", event(Uuid::now_v7(), "fine", 9_000)));
    let places = send(&world, &more).await;
    wait_worked_off(&world, &places.into_iter().zip(&more).collect()).await;
    assert_counts(&world, 5_000 - at.len() + more.len()).await;
}

/// What is committed in order is announced so, per key.
async fn assert_announced_in_order(world: &World, count: usize) {
    let announced = eventually("all are announced", LIMIT, || async {
        let announced = announcements(world).await;
        if announced.len() >= count {
            Ok(announced)
        } else {
            Err(announced.len())
        }
    })
    .await;
    let mut last: HashMap<String, i64> = HashMap::new();
    for value in &announced {
        let n = value["data"]["n"].as_i64().unwrap();
        let user = value["user_id"].as_str().unwrap().to_owned();
        let before = last.insert(user, n);
        assert!(
            before.is_none_or(|before| before < n),
            "{n} after {before:?}"
        );
    }
}

/// What comes past the gateway and is no event: a name, the bytes, the reason it is kept for.
fn bad_payloads() -> Vec<(&'static str, Option<Vec<u8>>, &'static str)> {
    let text = |text: &str| Some(text.as_bytes().to_vec());
    let with_data = |data: &str| {
        text(&format!(
            r#"{{"event_type":"bad","user_id":"u","data":{data}}}"#
        ))
    };
    let mut latin1 = br#"{"event_type":"bad","data":{"name":"J"#.to_vec();
    latin1.extend_from_slice(b"\xfcrgen\"}}");
    let deep = |open: &str, close: &str| {
        with_data(&format!(
            r#"{{"d":{}1{}}}"#,
            open.repeat(10_000),
            close.repeat(10_000)
        ))
    };
    vec![
        (
            "an escaped NUL",
            with_data(r#"{"t":"a\u0000b"}"#),
            "not_storable",
        ),
        (
            "an escaped NUL in a key",
            with_data(r#"{"a\u0000":1}"#),
            "not_storable",
        ),
        (
            "a raw NUL",
            text("{\"event_type\":\"bad\",\"data\":{\"t\":\"a\0b\"}}"),
            "invalid_json",
        ),
        (
            "a NUL in an id",
            text(r#"{"event_type":"bad","user_id":"a\u0000","data":{}}"#),
            "not_storable",
        ),
        (
            "a lone high surrogate",
            with_data(r#"{"t":"\ud800"}"#),
            "not_storable",
        ),
        (
            "a lone low surrogate",
            with_data(r#"{"t":"\udc00x"}"#),
            "not_storable",
        ),
        ("1e400", with_data(r#"{"x":1e400}"#), "not_storable"),
        (
            "-1e400, nested",
            with_data(r#"{"x":[{"y":-1e400}]}"#),
            "not_storable",
        ),
        ("objects 10,000 deep", deep(r#"{"a":"#, "}"), "too_deep"),
        ("arrays 10,000 deep", deep("[", "]"), "too_deep"),
        (
            "a 5 MiB string",
            with_data(&format!(r#"{{"t":"{}"}}"#, "x".repeat(5 << 20))),
            "too_large",
        ),
        ("bad UTF-8", Some(latin1), "invalid_json"),
        (
            "bytes at random",
            Some((0..=255).rev().collect()),
            "invalid_json",
        ),
        (
            "truncated JSON",
            text(r#"{"event_type":"bad","data":{"a":1"#),
            "invalid_json",
        ),
        (
            "an array",
            text(r#"[{"event_type":"bad","data":{}}]"#),
            "wrong_type",
        ),
        ("a number", text("42"), "wrong_type"),
        ("null", text("null"), "wrong_type"),
        ("an empty object", text("{}"), "missing"),
        (
            "no event_type",
            text(r#"{"user_id":"u","data":{}}"#),
            "missing",
        ),
        (
            "an empty event_type",
            text(r#"{"event_type":"","data":{}}"#),
            "illegal_value",
        ),
        (
            "a numeric event_type",
            text(r#"{"event_type":5,"data":{}}"#),
            "wrong_type",
        ),
        ("data as text", with_data(r#""text""#), "wrong_type"),
        (
            "a numeric user_id",
            text(r#"{"event_type":"bad","user_id":7,"data":{}}"#),
            "wrong_type",
        ),
        (
            "a long user_id",
            text(&format!(
                r#"{{"event_type":"bad","user_id":"{}","data":{{}}}}"#,
                "u".repeat(256)
            )),
            "out_of_range",
        ),
        (
            "a bad date",
            text(r#"{"event_type":"bad","timestamp":"2024-02-30T00:00:00Z","data":{}}"#),
            "bad_format",
        ),
        (
            "a numeric date",
            text(r#"{"event_type":"bad","timestamp":1700000000,"data":{}}"#),
            "wrong_type",
        ),
        (
            "a far future",
            text(r#"{"event_type":"bad","timestamp":"9999-12-31T23:59:59Z","data":{}}"#),
            "out_of_range",
        ),
        (
            "a time before 1970",
            text(r#"{"event_type":"bad","timestamp":"1969-12-31T23:59:59Z","data":{}}"#),
            "out_of_range",
        ),
        ("an empty payload", Some(vec![]), "no_payload"),
        ("a tombstone", None, "no_payload"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_past_the_gateway_is_kept_with_its_bytes() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let mut processor = world.start_processor().await;
    let bad = bad_payloads();
    let mut records = Vec::new();
    let mut ids = Vec::new();
    let mut good = |records: &mut Vec<Record>| {
        let id = Uuid::now_v7();
        records.push(Record::new(3, "user-1", event(id, "fine", ids.len())));
        ids.push(id);
    };
    good(&mut records);
    for (index, (_, payload, _)) in bad.iter().enumerate() {
        records.push(Record {
            partition: 3,
            // Keys and headers are bytes too.
            key: [None, Some(b"user-1".to_vec()), Some(vec![0, 0xff, b'k'])][index % 3].clone(),
            payload: payload.clone(),
            headers: vec![
                ("origin", b"a \xff\0 test".to_vec()),
                ("n", index.to_string().into()),
            ],
        });
        good(&mut records);
    }
    // A good event whose header names an impossible tenant.
    records.push(Record {
        headers: vec![("tenant", b"no tenant\n".to_vec())],
        ..Record::new(3, "user-1", event(Uuid::now_v7(), "fine", 0))
    });
    good(&mut records);

    let places = send(&world, &records).await;
    let log: BTreeMap<Place, &Record> = places.iter().cloned().zip(&records).collect();
    wait_worked_off(&world, &log).await;

    let letters = dead_letters(&world).await;
    assert_eq!(letters.len(), bad.len() + 1);
    for (index, (name, payload, reason)) in bad.iter().enumerate() {
        let place = &places[index * 2 + 1];
        let (found, detail, bytes, key) = letters
            .get(place)
            .unwrap_or_else(|| panic!("{name}: not among the dead letters"));
        assert_eq!(found, reason, "{name}: {detail}");
        assert!(
            !detail.is_empty() && detail.len() < 2_000,
            "{name}: {detail}"
        );
        // The client library tells an empty payload from a tombstone; the table keeps that.
        assert_eq!(bytes, payload, "{name}");
        assert_eq!(*key, records[index * 2 + 1].key, "{name}");
    }
    let (reason, ..) = &letters[&places[places.len() - 2]];
    assert_eq!(reason, "illegal_value", "the tenant header");
    let headers: i64 = world
        .database
        .scalar(
            "select count(*) from dead_letters where headers @? 'strict $[*] ? (@[0] == \"origin\" && @[1] starts with \"base64:\")' \
             and headers @? 'strict $[*] ? (@[0] == \"n\")'",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(usize::try_from(headers).unwrap(), bad.len());

    let stored: Vec<Uuid> = world
        .database
        .rows(
            "select event_id from events order by (data->>'n')::bigint",
            &[],
        )
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(stored, ids, "the events around them");
    assert_counts(&world, ids.len()).await;
    assert_no_panic(&mut processor);
}
