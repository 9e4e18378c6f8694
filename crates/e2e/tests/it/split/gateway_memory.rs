//! The gateway's memory stays bounded in a flood of large bodies without Kafka.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use testkit::{Part, TestService, eventually};
use tokio::task::JoinSet;

use crate::world::{PATIENCE, World, alone, probe, soak};

const BOUND: u64 = 256 << 20;
const CLIENTS: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_stays_small_while_kafka_is_down_and_large_bodies_keep_coming() {
    let _turn = alone().await;
    let world = World::with_own(&[Part::Kafka]).await;
    // A batch that is on its way when Kafka dies is refused in time for its client.
    let mut ingest = world
        .service("ingest")
        .env("SPILL", "off")
        .env("KAFKA_MESSAGE_TIMEOUT_MS", 10_000)
        .start()
        .await;
    let body = large_batch();
    let http = client();
    wait_accepted(&http, &ingest, &body).await;

    world.parts.kill(Part::Kafka).await;
    let answers = keep_posting(&ingest, &body, Duration::from_secs(soak(6, 60))).await;
    println!("without Kafka: {answers:?}");
    let peak = ingest.memory().peak_rss;
    println!("the gateway's peak: {} MiB", peak >> 20);
    assert_eq!(ingest.exited(), None);
    let (refused, other): (BTreeMap<_, _>, BTreeMap<_, _>) =
        answers.into_iter().partition(|(answer, _)| answer == "503");
    assert!(
        refused.values().sum::<usize>() >= CLIENTS,
        "{refused:?}, {other:?}"
    );
    // A refusal may come before the body is read, and then close the connection; nothing else.
    let odd: Vec<_> = other.keys().filter(|answer| *answer != "closed").collect();
    assert!(odd.is_empty(), "{odd:?}");
    assert!(peak < BOUND, "{} MiB", peak >> 20);

    world.parts.start(Part::Kafka).await;
    ingest.wait_ready().await;
    let mut all = JoinSet::new();
    let ingest = Arc::new(ingest);
    for _ in 0..CLIENTS {
        let (http, ingest, body) = (http.clone(), Arc::clone(&ingest), body.clone());
        all.spawn(async move {
            wait_accepted(&http, &ingest, &body).await;
        });
    }
    all.join_all().await;
    let peak = ingest.memory().peak_rss;
    println!("the gateway's peak after all: {} MiB", peak >> 20);
    // What is accepted is in memory several times until Kafka has it: body, records, librdkafka's
    // requests. Without a bound, sixty-four such bodies would take 256 MiB once over.
    assert!(peak < 2 * BOUND, "{} MiB", peak >> 20);
}

/// A batch just below the limit for bodies, of events just below theirs.
fn large_batch() -> Bytes {
    let filling = "x".repeat(200 * 1024);
    let event = |n: usize| json!({"event_type": "large", "data": {"n": n, "filling": filling}});
    let batch: Value = (0..20).map(event).collect();
    let body = batch.to_string();
    assert!(
        (4_000_000..4_194_304).contains(&body.len()),
        "{}",
        body.len()
    );
    body.into()
}

/// Sixty-four of them and a gateway share two processors.
fn client() -> reqwest::Client {
    let builder = reqwest::Client::builder().timeout(PATIENCE);
    builder.build().unwrap()
}

async fn wait_accepted(http: &reqwest::Client, ingest: &TestService, body: &Bytes) {
    eventually("accepted", PATIENCE, || async {
        match post(http, ingest, body).await {
            Ok(status) if (200..300).contains(&status) => Ok(()),
            other => Err(other),
        }
    })
    .await;
}

async fn post(
    http: &reqwest::Client,
    ingest: &TestService,
    body: &Bytes,
) -> Result<u16, reqwest::Error> {
    let request = http
        .post(ingest.url("/api/v1/events/batch"))
        .header("content-type", "application/json")
        .body(body.clone());
    Ok(request.send().await?.status().as_u16())
}

/// What 64 clients are answered, and how often. The last answers are waited for: none may hang.
async fn keep_posting(
    ingest: &TestService,
    body: &Bytes,
    how_long: Duration,
) -> BTreeMap<String, usize> {
    let over = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (over, body) = (Arc::clone(&over), body.clone());
        let url = ingest.url("/api/v1/events/batch");
        clients.spawn(async move {
            let http = client();
            let mut answers = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let request = http
                    .post(&url)
                    .header("content-type", "application/json")
                    .body(body.clone());
                answers.push(match request.send().await {
                    Ok(answer) => answer.status().as_u16().to_string(),
                    Err(error) if error.is_timeout() => "no answer".to_owned(),
                    Err(error) if error.is_connect() => "no connection".to_owned(),
                    Err(_) => "closed".to_owned(),
                });
            }
            answers
        });
    }
    tokio::time::sleep(how_long).await;
    // In the middle of it the process says that it lives, and what it lacks.
    eventually("it lives", PATIENCE, || async {
        match probe(ingest, "/health").await {
            Ok((200, _)) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    eventually("it is not ready", PATIENCE, || async {
        match probe(ingest, "/ready").await {
            Ok((503, ready)) if ready["checks"]["kafka"]["ok"] == false => Ok(()),
            other => Err(other),
        }
    })
    .await;
    over.store(true, Ordering::Relaxed);
    let mut answers = BTreeMap::new();
    for answer in clients.join_all().await.into_iter().flatten() {
        *answers.entry(answer).or_default() += 1;
    }
    answers
}
