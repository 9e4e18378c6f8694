//! The console's stream and files, as a page gets them.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testkit::{LIMIT, SseStream};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::world::{Answer, World, id};

/// Events `from..to`, stored now.
fn stored(from: usize, to: usize, kind: &str) -> Vec<Value> {
    let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap();
    let event = |n: usize| {
        json!({"event_id": id(n), "event_type": kind, "user_id": format!("u-{}", n % 3),
            "data": {"n": n, "note": format!("Parcel {n}.")}, "created_at": now, "received_at": now})
    };
    (from..to).map(event).collect()
}

/// The next message of that name, with those before it.
async fn next(stream: &mut SseStream, name: &str) -> Value {
    let reading = async {
        loop {
            let event = stream.next().await.unwrap().unwrap();
            if event.event == name {
                return serde_json::from_str(&event.data).unwrap();
            }
        }
    };
    let read = tokio::time::timeout(LIMIT, reading).await;
    read.unwrap_or_else(|_| panic!("no {name}"))
}

#[tokio::test]
async fn the_stream_tells_who_asks_and_the_figures_of_each_second() {
    let world = World::start().await;
    world.insert(&stored(0, 3, "order.placed")).await;
    let url = world.service.url("/api/v1/sse/console");
    let mut stream = SseStream::open(&url, None).await.unwrap();
    let hello = next(&mut stream, "hello").await;
    assert_eq!(hello["tenant"], "default");
    assert_eq!(hello["scopes"], json!(["write", "read", "replay", "admin"]));
    let history = next(&mut stream, "history").await;
    let sum: i64 = history
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one[1].as_i64().unwrap())
        .sum();
    assert_eq!(sum, 3);
    let before = loop {
        let moment = next(&mut stream, "moment").await;
        if !moment["figures"].is_null() {
            break moment;
        }
    };
    assert_eq!(before["figures"]["stored"], 3);
    assert_eq!(before["figures"]["dead"], 0);
    assert_eq!(before["checks"]["postgres"]["ok"], true);
    let client = world.database.connect().await.unwrap();
    let letter = "insert into dead_letters (topic, partition, \"offset\", reason, detail) values ('t', 0, 0, 'r', 'd')";
    client.batch_execute(letter).await.unwrap();
    world.insert(&stored(3, 10, "order.paid")).await;
    let after = loop {
        let moment = next(&mut stream, "moment").await;
        if moment["figures"]["stored"] == 10 {
            break moment;
        }
    };
    assert_eq!(after["figures"]["dead"], 1);
    assert!(after["figures"]["stored_per_second"].as_f64().unwrap() > 0.0);
    let changes = |moment: &Value| moment["figures"]["changes"]["dead_letters"].clone();
    assert_ne!(changes(&before), changes(&after));
}

#[tokio::test]
async fn the_tail_has_what_fits_and_says_when_it_is_a_sample() {
    let world = World::start().await;
    world.insert(&stored(0, 3, "order.placed")).await;
    world.insert(&stored(3, 6, "page.viewed")).await;
    let url = world
        .service
        .url("/api/v1/sse/console?tail=true&types=order.*&text=pARCEL&user_id=u-1&source=backend");
    let mut narrow = SseStream::open(&url, None).await.unwrap();
    assert_eq!(next(&mut narrow, "stored").await["event_id"], id(1));
    // What is not stored yet is no event of another's; what came before is not told twice.
    let mut all = SseStream::open(&world.service.url("/api/v1/sse/console?tail=true"), None)
        .await
        .unwrap();
    let mut seen = BTreeSet::new();
    for _ in 0..6 {
        seen.insert(
            next(&mut all, "stored").await["event_id"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    assert_eq!(seen, (0..6).map(id).collect());
    world.insert(&stored(6, 8, "order.placed")).await;
    assert_eq!(next(&mut narrow, "stored").await["event_id"], id(7));
    for n in [6, 7] {
        assert_eq!(next(&mut all, "stored").await["event_id"], id(n));
    }
    // More than anybody reads.
    world.insert(&stored(8, 400, "page.viewed")).await;
    let shown = next(&mut all, "sample").await;
    assert!(shown.as_u64().unwrap() <= 50, "{shown}");
    assert!(
        world
            .service
            .log()
            .lines()
            .all(|line| !line.contains("panicked"))
    );
}

#[tokio::test]
async fn a_wrong_question_is_refused_and_a_stopping_service_ends_the_stream() {
    let mut world = World::start().await;
    for (query, field) in [
        ("tail=perhaps", "tail"),
        ("source=nobody", "source"),
        ("text=x", "text"),
    ] {
        let answer = world.get(&format!("/api/v1/sse/console?{query}")).await;
        let status = answer.status.as_u16();
        assert!(
            answer.problem(status).starts_with(&format!("{field}:")),
            "{}",
            answer.body
        );
    }
    let head = world
        .request("HEAD", "/api/v1/sse/console")
        .send()
        .await
        .unwrap();
    assert_eq!(head.status(), 200);
    let url = world.service.url("/api/v1/sse/console");
    let mut stream = SseStream::open(&url, None).await.unwrap();
    next(&mut stream, "hello").await;
    let ended = async { while let Ok(Some(_)) = stream.next().await {} };
    let (stopped, ended) = tokio::join!(
        world.service.terminate(),
        tokio::time::timeout(LIMIT, ended)
    );
    assert!(stopped.success());
    assert!(ended.is_ok(), "the stream goes on");
}

#[tokio::test]
async fn the_files_are_there_and_are_asked_for_once() {
    let world = World::start().await;
    let page = world.get("/console/").await;
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(page.header("x-frame-options"), "DENY");
    for path in ["/", "/console"] {
        let answer = world.get(path).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("etag"), page.header("etag"), "{path}");
    }
    let script = world.get("/console/app.js").await;
    assert_eq!(
        script.header("content-type"),
        "text/javascript; charset=utf-8"
    );
    let again = world
        .request("GET", "/console/app.js")
        .header("if-none-match", script.header("etag"));
    assert_eq!(Answer::of(again.send().await.unwrap()).await.status, 304);
    world.get("/console/..%2fCargo.toml").await.problem(404);
    world.get("/console/nothing.js").await.problem(404);
}
