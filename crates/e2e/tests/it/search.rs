//! Events are found by what they say: the same with every engine, whatever happens to it.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testkit::{LIMIT, OpenSearch, eventually, eventually_eq};

use crate::SHAPE;
use crate::sender::client;
use crate::system::System;
use crate::world::{PATIENCE, Shape, World, beside_others, soak};

/// The n-th event; everything in it follows from n.
fn event(n: u64) -> Value {
    let at = |all: &[&str], n: u64| all[usize::try_from(n).unwrap() % all.len()].to_owned();
    let color = at(&["red", "green", "blue", "dark blue"], n);
    let thing = at(&["shoes", "hat", "coat"], n);
    let mut data = json!({
        "n": n,
        "title": format!("{color} {thing}, number {n}"),
        "amount": amount(n),
        "due": format!("2026-01-{:02}", n % 28 + 1),
        "items": [{"sku": format!("SKU-{}-A", n % 50)}, {"sku": "gift-box"}],
        "flag": n.is_multiple_of(2),
        "deep": {"path": {"x": n % 10}},
    });
    if n.is_multiple_of(7) {
        data["note"] = json!(r#"It's "wrapped" \ for Zoë & <b>co</b>, 東京"#);
    }
    let minute = time::Duration::minutes(i64::try_from(n).unwrap());
    let time = time::macros::datetime!(2025-01-01 00:00 UTC) + minute;
    json!({
        "event_id": uuid::Uuid::from_u128(0x0199_a4c0_0000_7000_8000_0000_0000_0000 + u128::from(n)),
        "event_type": at(&["order.placed", "order.paid", "page.view", "user.signup", "Refund Issued"], n),
        "event_source": at(&["backend", "system", "iot_device"], n),
        "user_id": format!("u-{}", n % 100),
        "timestamp": domain::timestamp::format(time),
        "data": data,
        "metadata": {"ip": format!("10.0.{}.1", n % 256), "tags": [format!("t{}", n % 11), "common"]},
    })
}

fn amount(n: u64) -> f64 {
    f64::from(u32::try_from(n % 200).unwrap()) + 0.5
}

type Holds = fn(u64) -> bool;
type BoxedHolds = Box<dyn Fn(u64) -> bool + Send>;

/// Questions, and which events are meant.
const QUESTIONS: [(&str, Holds); 30] = [
    ("green hat data.deep.path.x:3", |n| {
        n % 4 == 1 && n % 3 == 1 && n % 10 == 3
    }),
    ("\"dark blue\" user:u-3", |n| n % 4 == 3 && n % 100 == 3),
    ("\"blue dark\"", |_| false),
    ("blue -dark data.amount:<20", |n| {
        n % 4 == 2 && amount(n) < 20.0
    }),
    ("number-17", |n| n == 17),
    ("\"number 170\"", |n| n == 170),
    ("data.n:17", |n| n == 17),
    ("data.n:[17 TO 19]", |n| (17..=19).contains(&n)),
    ("data.n:{17 TO 19}", |n| n == 18),
    ("data.n:>=2490 data.n:<2600", |n| {
        (2_490..2_600).contains(&n)
    }),
    ("data.n:<3", |n| n < 3),
    ("data.n:[* TO 2] -data.n:1", |n| n <= 2 && n != 1),
    ("zoë wrapped data.amount:>190", |n| {
        n % 7 == 0 && amount(n) > 190.0
    }),
    (
        "data.note:\"it's \\\"wrapped\\\"\" data.deep.path.x:7 coat",
        |n| n % 7 == 0 && n % 10 == 7 && n % 3 == 2,
    ),
    ("東京 data.n:<100", |n| n % 7 == 0 && n < 100),
    ("京東", |_| false),
    ("type:Order.Paid data.n:[100 TO 200]", |n| {
        n % 5 == 1 && (100..=200).contains(&n)
    }),
    ("event_type:order.* data.n:[100 TO 130]", |n| {
        n % 5 < 2 && (100..=130).contains(&n)
    }),
    ("event_type:\"Refund Issued\" data.n:<50", |n| {
        n % 5 == 4 && n < 50
    }),
    ("refund -source:system data.n:<90", |n| {
        n % 5 == 4 && n % 3 != 1 && n < 90
    }),
    ("user_id:u-1 data.flag:false data.n:<2000", |n| {
        n % 100 == 1 && n < 2_000
    }),
    ("sku-7", |n| n % 50 == 7),
    ("data.items.sku:gift* data.n:<5", |n| n < 5),
    ("\"a gift\"", |_| false),
    ("metadata.tags:t3 metadata.tags:common data.n:<300", |n| {
        n % 11 == 3 && n < 300
    }),
    ("10.0.255.1", |n| n % 256 == 255),
    ("data.due:[2026-01-03 TO 2026-01-04] data.n:<100", |n| {
        (2..=3).contains(&(n % 28)) && n < 100
    }),
    (
        "timestamp:>=2025-01-01T01:00:00Z timestamp:<2025-01-01T01:30:00Z",
        |n| (60..90).contains(&n),
    ),
    ("-common data.n:<20", |_| false),
    ("shoe* -data.amount:>=1 data.n:<2000", |n| {
        n % 3 == 0 && amount(n) < 1.0 && n < 2_000
    }),
];

/// More of them: the first twenty within a range, which an index has to bring together.
fn questions() -> Vec<(String, BoxedHolds)> {
    let plain = QUESTIONS.map(|(text, holds)| (text.to_owned(), Box::new(holds) as BoxedHolds));
    let within = QUESTIONS.into_iter().take(20).map(|(text, holds)| {
        let text = format!("data.amount:[50 TO 90.5] {text}");
        let both = move |n| (50.0..=90.5).contains(&amount(n)) && holds(n);
        (text, Box::new(both) as BoxedHolds)
    });
    plain.into_iter().chain(within).collect()
}

async fn get(system: &System, path: &str, parameters: &[(&str, &str)]) -> anyhow::Result<Value> {
    let request = client().get(system.query_url(path)).query(parameters);
    let answer = request.send().await?;
    let status = answer.status();
    let body: Value = answer.json().await?;
    anyhow::ensure!(status.is_success(), "{status}: {body}");
    Ok(body)
}

/// The numbers of all events that are found, page by page, the newest first.
async fn find(system: &System, q: &str) -> anyhow::Result<Vec<u64>> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let mut parameters = vec![("q", q), ("limit", "100")];
        if !cursor.is_empty() {
            parameters.push(("cursor", &cursor));
        }
        let page = get(system, "/api/v1/events/search", &parameters).await?;
        let events = page["events"].as_array().unwrap();
        found.extend(
            events
                .iter()
                .map(|event| event["data"]["n"].as_u64().unwrap()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => return Ok(found),
        }
    }
}

pub(crate) async fn send(system: &System, numbers: std::ops::Range<u64>) {
    let all: Vec<u64> = numbers.collect();
    let url = system.ingest_url("/api/v1/events/batch");
    for part in all.chunks(500) {
        let events: Vec<Value> = part.iter().map(|n| event(*n)).collect();
        eventually("a batch is taken", LIMIT, || async {
            let answer = client().post(&url).json(&events).send();
            answer.await.and_then(reqwest::Response::error_for_status)
        })
        .await;
    }
}

/// Waits until every question has its answer.
pub(crate) async fn ask_all(system: &System, events: u64) {
    // Of many events the last are in the index minutes later.
    eventually("all are in the index", PATIENCE, || async {
        let count = indexed(system).await.unwrap_or(0);
        (count >= events).then_some(()).ok_or(count)
    })
    .await;
    for (text, holds) in questions() {
        let want: Vec<u64> = (0..events).rev().filter(|n| holds(*n)).collect();
        eventually_eq(&text, want, || find(system, &text)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_questions_have_the_answers_that_follow_from_the_events() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let system = world.system().start().await;
    let events = soak(2_500, 200_000);
    send(&system, 0..events).await;
    ask_all(&system, events).await;
    if SHAPE == Shape::AllInOne {
        return;
    }

    // What the answer shows, and the conditions beside the question.
    let parameters = [
        ("q", "zoë"),
        ("user_id", "u-7"),
        ("event_type", "page.view"),
    ];
    let page = get(&system, "/api/v1/events/search", &parameters)
        .await
        .unwrap();
    let numbers: BTreeSet<u64> = page["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["data"]["n"].as_u64().unwrap())
        .collect();
    let want = (0..events)
        .rev()
        .filter(|n| n % 7 == 0 && n % 100 == 7 && n % 5 == 2);
    assert_eq!(
        numbers,
        want.take(20).collect(),
        "the newest, a page of them"
    );
    let id = page["events"][0]["event_id"].as_str().unwrap();
    let shown = &page["highlights"][id][0];
    assert_eq!(shown["field"], "data.note");
    assert_eq!(
        shown["fragment"],
        "It&#39;s &quot;wrapped&quot; \\ for <em>Zoë</em> &amp; &lt;b&gt;co&lt;/b&gt;, 東京"
    );
    let wrong = get(&system, "/api/v1/events/search", &[("q", "red data.n:>x")]).await;
    let wrong = wrong.unwrap_err().to_string();
    assert!(
        wrong.contains("422") && wrong.contains("at character 12"),
        "{wrong}"
    );

    // An index that lost something is made anew, beside what is stored.
    let client = world.database.connect().await.unwrap();
    client
        .batch_execute("delete from event_search")
        .await
        .unwrap();
    let url = system.query_url("/api/v1/events/search/reindex");
    let answer = crate::sender::client().post(url).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    send(&system, events..events + 100).await;
    eventually("all are in the index again", PATIENCE, || async {
        let found = world.database.count("event_search").await.unwrap_or(0);
        (found.unsigned_abs() == events + 100)
            .then_some(())
            .ok_or(found)
    })
    .await;
    eventually("the reindexing ends", PATIENCE, || async {
        let status = get(&system, "/api/v1/events/search/indexes", &[]).await;
        let status = status.map_err(|error| error.to_string())?;
        let reindexed = &status["indexes"][0]["reindexed"];
        (*reindexed == Value::Null)
            .then_some(())
            .ok_or(reindexed.to_string())
    })
    .await;
    assert_eq!(find(&system, "data.n:<3").await.unwrap(), [2, 1, 0]);
}

/// How many events the index has so far.
async fn indexed(system: &System) -> anyhow::Result<u64> {
    let status = get(system, "/api/v1/events/search/indexes", &[]).await?;
    Ok(status["indexes"][0]["indexed"].as_u64().unwrap_or(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn opensearch_gives_the_same_answers_and_misses_nothing_that_came_while_it_was_dead() {
    if SHAPE == Shape::AllInOne {
        return;
    }
    let _turn = beside_others().await;
    let (world, mut server) = tokio::join!(World::shared(), OpenSearch::start());
    let system = world
        .system()
        .env("SEARCH", "opensearch")
        .env("OPENSEARCH_URL", server.url())
        .start()
        .await;
    let events = soak(2_500, 200_000);
    send(&system, 0..events / 2).await;
    eventually("some are in the index", LIMIT, || async {
        let count = indexed(&system).await.unwrap_or(0);
        (count > 0).then_some(()).ok_or(count)
    })
    .await;
    server.kill().await;
    let asked = get(&system, "/api/v1/events/search", &[("q", "red")]).await;
    let asked = asked.unwrap_err().to_string();
    assert!(asked.contains("503"), "{asked}");
    send(&system, events / 2..events).await;
    eventually_eq(
        "all are stored without it",
        i64::try_from(events).unwrap(),
        || world.database.count("event_ids"),
    )
    .await;
    server.restart().await;
    ask_all(&system, events).await;

    // Who is erased is not found again, nor left in the index.
    let erasures = system.query_url("/api/v1/admin/erasures");
    let answer = client()
        .post(erasures)
        .json(&json!({"user_id": "u-3"}))
        .send();
    assert!(answer.await.unwrap().status().is_success());
    eventually_eq("they are removed", Vec::new(), || find(&system, "user:u-3")).await;
    eventually_eq("and gone from the index", 0, || {
        world.database.count("search_removals")
    })
    .await;
    let count = format!("{}/tidegate-events/_count", server.url());
    let query = json!({"query": {"term": {"user_id": "u-3"}}});
    let answer = client().post(count).json(&query).send().await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["count"], 0, "{answer}");
    assert!(!find(&system, "user:u-4").await.unwrap().is_empty());
}

/// OpenSearch takes so many numbers of an event and no more. What it refuses is told, and keeps nothing else out.
#[tokio::test(flavor = "multi_thread")]
async fn what_opensearch_refuses_is_a_dead_letter_and_stays_stored() {
    if SHAPE == Shape::AllInOne {
        return;
    }
    let _turn = beside_others().await;
    let (world, server) = tokio::join!(World::shared(), OpenSearch::start());
    let system = world
        .system()
        .env("SEARCH", "opensearch")
        .env("OPENSEARCH_URL", server.url())
        .start()
        .await;
    send(&system, 0..10).await;
    eventually_eq("they are found", 10, || async {
        Ok(find(&system, "data.n:>=0").await?.len())
    })
    .await;
    // Its default is 10,000; each number is an object of its own.
    let settings = json!({"index": {"mapping.nested_objects.limit": 20}});
    let url = format!("{}/tidegate-events/_settings", server.url());
    let answer = client().put(url).json(&settings).send().await.unwrap();
    assert!(answer.status().is_success(), "{:?}", answer.text().await);
    let many: Vec<Value> = (0..4)
        .map(|n| {
            let numbers = (0..30).map(|m| (format!("m{m}"), json!(m)));
            json!({"event_type": "sensor.read", "data": {"of": n, "all": serde_json::Map::from_iter(numbers)}})
        })
        .collect();
    let url = system.ingest_url("/api/v1/events/batch");
    let answer = client().post(url).json(&many).send().await.unwrap();
    assert!(answer.status().is_success(), "{:?}", answer.text().await);
    send(&system, 10..30).await;
    let want: Vec<u64> = (0..30).rev().collect();
    eventually_eq("the others are found", want, || find(&system, "data.n:>=0")).await;
    let letters = eventually("the refused are told", LIMIT, || async {
        let path = "/api/v1/events/dead-letters";
        let found = get(&system, path, &[("reason", "search_refused")]).await?;
        let letters = found["dead_letters"].as_array().unwrap().clone();
        anyhow::ensure!(letters.len() == 4, "{found}");
        Ok(letters)
    })
    .await;
    for letter in letters {
        let why = letter["detail"].as_str().unwrap();
        assert!(why.contains("nested"), "{why}");
        assert_eq!(letter["topic"], "search:opensearch");
        let path = format!("/api/v1/events/{}", letter["event_id"].as_str().unwrap());
        let event = get(&system, &path, &[]).await.unwrap();
        assert_eq!(event["event_type"], "sensor.read");
    }
    let status = get(&system, "/api/v1/events/search/indexes", &[])
        .await
        .unwrap();
    assert_eq!(status["indexes"][0]["refused"], 4);
}
