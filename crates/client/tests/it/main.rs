//! The client against the real service.

#![expect(clippy::unwrap_used, reason = "a failed expectation fails the test")]

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{
    Database, LIMIT, Parts, Receiver, Reply, Request, TestService, eventually, eventually_eq,
};
use tidegate_client::{Client, Event, NotTaken, SendError, Sender};

async fn service() -> (Database, TestService) {
    let database = Parts::shared().await.fresh_database().await;
    let service = TestService::builder("tidegate").arg("serve");
    let service = service.database(&database).start().await;
    (database, service)
}

fn event(n: u32) -> Event {
    Event {
        user_id: Some(format!("u-{n}")),
        data: Some(json!({"n": n})),
        ..Event::new("client.sent")
    }
}

async fn stored(database: &Database, count: i64) {
    eventually_eq("stored", count, || database.count("events")).await;
}

/// Hands a request on to the service; returns the whole answer.
fn forward(url: &str, request: &Request) -> Vec<u8> {
    let target = request.line.trim_start_matches("POST ").to_owned();
    let (url, body) = (format!("{url}{target}"), request.body.clone());
    let sending = async move {
        let request = reqwest::Client::new().post(url).body(body);
        let request = request.header("content-type", "application/json");
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
        let length = text.len();
        format!(
            "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{text}"
        )
    };
    let handle = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| handle.block_on(sending)).into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_is_stored_once_after_a_503_and_lost_answers() {
    const EVENTS: u32 = 505;
    let (database, service) = service().await;
    let url = service.url("");
    let gateway = Receiver::start(move |n, request| match n {
        0 => Reply::status(503),
        // Taken, but nobody hears of it.
        1 | 4 => {
            forward(&url, request);
            Reply::raw("")
        }
        2 => Reply::Status(429, vec!["retry-after: 0".to_owned()], Duration::ZERO),
        _ => Reply::raw(forward(&url, request)),
    });
    let gateway = gateway.await.unwrap();
    let client = Client::builder(&format!("http://127.0.0.1:{}", gateway.port()))
        .interval(Duration::from_millis(500))
        .start()
        .unwrap();
    for n in 0..EVENTS {
        client.track(event(n)).unwrap();
    }
    client.flush().await;
    let counts = client.counts();
    assert_eq!(
        (counts.accepted, counts.refused, counts.waiting),
        (EVENTS.into(), 0, 0)
    );
    stored(&database, EVENTS.into()).await;

    let bodies = gateway.received().into_iter().map(|request| request.json());
    let bodies: Vec<Vec<Value>> = bodies
        .map(|body| body.as_array().unwrap().clone())
        .collect();
    assert!(bodies.iter().all(|body| (1..=50).contains(&body.len())));
    let ids: HashSet<&str> = bodies
        .iter()
        .flatten()
        .map(|event| event["event_id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), EVENTS as usize);
    // The first batch, whatever became of its attempts.
    assert!(bodies[0] == bodies[1] && bodies[1] == bodies[2] && bodies[2] == bodies[3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_last_clone_sends_the_rest_and_refusals_are_told() {
    let (database, service) = service().await;
    let told = Arc::<Mutex<Vec<(String, String)>>>::default();
    let hears = Arc::clone(&told);
    let client = Client::builder(&service.url(""))
        .interval(LIMIT)
        .close_within(LIMIT)
        .on_refused(move |event, reason| {
            hears
                .lock()
                .unwrap()
                .push((event.to_owned(), reason.to_owned()));
        })
        .start()
        .unwrap();
    let clone = client.clone();
    for n in 0..12 {
        clone.track(event(n)).unwrap();
    }
    let wrong = Event::new("bell\u{7}");
    client.track(wrong.clone()).unwrap();
    drop(clone);
    assert_eq!(client.counts().waiting, 13);
    tokio::task::spawn_blocking(move || drop(client))
        .await
        .unwrap();
    stored(&database, 12).await;
    let told = told.lock().unwrap().clone();
    let [(event, reason)] = &told[..] else {
        panic!("{told:?}");
    };
    assert!(event.contains(&wrong.event_id.to_string()), "{event}");
    assert!(reason.starts_with("event_type: "), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_down_blocks_nobody() {
    let client = Client::builder("http://127.0.0.1:9")
        .batch(3)
        .queue(20)
        .close_within(Duration::ZERO)
        .start()
        .unwrap();
    // What is in the queue, and what the thread has in its hands.
    let taken = 20 + 10;
    eventually("the queue is full", LIMIT, || async {
        while client.track(event(0)).is_ok() {}
        match client.counts().waiting {
            waiting if waiting == taken => Ok(()),
            waiting => Err(waiting),
        }
    })
    .await;
    assert_eq!(client.track(event(0)), Err(NotTaken::Full));
    let other = client.clone();
    let counts = client.close().await;
    assert_eq!((counts.accepted, counts.refused), (0, 0));
    assert_eq!(counts.waiting, taken);
    assert_eq!(other.track(event(0)), Err(NotTaken::Closed));
    other.flush().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_be_sent_is_told_at_once() {
    for url in ["ftp://x", "", "x"] {
        let refused = Client::builder(url).start();
        assert!(matches!(refused, Err(SendError::Hopeless(_))), "{url}");
    }
    let stranger = Receiver::start(|_, _| Reply::status(200)).await.unwrap();
    let url = format!("http://127.0.0.1:{}", stranger.port());
    let sender = Sender::new(&url, Some("key"), LIMIT).unwrap();
    let sent = sender.send(&[r#"{"event_type":"a"}"#], |_| {}).await;
    assert_eq!(
        sent,
        Err(SendError::Hopeless(
            "what answers there is not Tidegate".to_owned()
        ))
    );
    assert_eq!(stranger.received()[0].header("authorization"), "Bearer key");
}

/// The example, as the documentation shows it.
#[tokio::test(flavor = "multi_thread")]
async fn the_example_sends() {
    let (database, service) = service().await;
    let own = std::env::current_exe().unwrap();
    let example = own.ancestors().nth(2).unwrap().join("examples/track");
    let run = move |url: String| {
        std::process::Command::new(&example)
            .env("TIDEGATE_URL", url)
            .env_remove("TIDEGATE_KEY")
            .output()
    };
    let url = service.url("");
    let done = tokio::task::spawn_blocking(move || run(url)).await.unwrap();
    let done = done.expect("`cargo test --no-run` builds it");
    let said = String::from_utf8_lossy(&done.stdout);
    assert_eq!(said.trim(), "100 accepted, 0 refused", "{done:?}");
    stored(&database, 100).await;
}
