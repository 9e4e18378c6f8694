//! Without Kafka, and with more than it can hold, the gateway says so, stays small, and ends well.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use testkit::{LIMIT, Part, Parts, TestService, eventually};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::gateway::{BACKEND, Gateway};

const MIB: u64 = 1 << 20;

/// A batch of nearly 4 MiB.
fn large_batch() -> Bytes {
    let event = format!(
        r#"{{"event_type":"a","data":{{"x":"{}"}}}}"#,
        "x".repeat(200_000)
    );
    format!("[{}]", vec![event; 20].join(",")).into()
}

/// Waits until it listens; without Kafka it does not become ready.
async fn listening(service: &TestService) {
    eventually("HTTP", LIMIT, || reqwest::get(service.url("/health"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_kafka_every_route_says_so_and_memory_stays_bounded() {
    // Nobody listens on port 9 of loopback.
    let service = TestService::builder("ingest")
        .env("KAFKA_BROKERS", "127.0.0.1:9")
        .spawn();
    listening(&service).await;
    let client = reqwest::Client::new();
    assert_eq!(
        reqwest::get(service.url("/ready")).await.unwrap().status(),
        503
    );
    let health = reqwest::get(service.url("/api/frontend/health"))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        health.contains(r#""kafka_connected":false,"nats_connected":false"#),
        "{health}"
    );
    for path in [
        "/api/events",
        "/api/events/create",
        "/api/v1/events/batch",
        "/api/frontend/events",
        "/api/v1/events/frontend/batch",
    ] {
        let answer = client
            .post(service.url(path))
            .body("{}")
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 503, "{path}");
        let seconds: u32 = answer.headers()["retry-after"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!((1..=5).contains(&seconds));
        let body: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert_eq!(body["detail"], "Event stream not available");
    }
    let body = large_batch();
    let clients: Vec<_> = (0..64)
        .map(|_| {
            let (body, url) = (body.clone(), service.url("/api/events/batch"));
            tokio::spawn(async move {
                let client = reqwest::Client::new();
                let mut refused = 0;
                // The answer may come while the body is still being sent, and break the sending.
                for _ in 0..200 {
                    if let Ok(answer) = client.post(&url).body(body.clone()).send().await {
                        // On a machine that stands still the head itself may come too late.
                        let status = answer.status().as_u16();
                        assert!([503, 408].contains(&status), "{status}");
                        refused += i32::from(status == 503);
                    }
                    if refused == 8 {
                        return;
                    }
                }
                panic!("{refused} of 200 were answered");
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let peak = service.memory().peak_rss;
    assert!(peak < 128 * MIB, "{} MiB", peak / MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_half_sent_bodies_meet_the_budget() {
    let gateway = Gateway::with(|builder| {
        builder
            .env("MAX_INFLIGHT_BYTES", 16 * MIB)
            .env("BODY_TIMEOUT_SECONDS", 60)
    })
    .await;
    let body = large_batch();
    let head = format!(
        "POST /api/events/batch HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut held = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(("127.0.0.1", gateway.service.port()))
            .await
            .unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        // A refused one is closed under us.
        let _ = stream.write_all(&body[..body.len() - 1]).await;
        held.push(stream);
    }
    eventually("the budget is used up", LIMIT, || async {
        let answer = gateway.post("/api/events/batch", body.clone()).await;
        (answer.status == 503 && !answer.header("retry-after").is_empty())
            .then_some(())
            .ok_or(answer)
    })
    .await;
    // Without a budget the bodies alone would be 256 MiB.
    let peak = gateway.service.memory().peak_rss;
    assert!(peak < 224 * MIB, "{} MiB", peak / MIB);
    drop(held);
    eventually("the budget is free again", LIMIT, || async {
        let answer = gateway.post("/api/events/batch", body.clone()).await;
        (answer.status == 201).then_some(()).ok_or(answer.status)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_before_the_end_is_on_the_log() {
    let mut gateway = Gateway::start().await;
    let (url, stop) = (
        gateway.service.url("/api/events"),
        Arc::new(AtomicBool::new(false)),
    );
    let accepted = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (url, stop, accepted) = (url.clone(), stop.clone(), accepted.clone());
            tokio::spawn(async move {
                let client = reqwest::Client::new();
                let mut unanswered = 0;
                while !stop.load(Ordering::Relaxed) {
                    match client.post(&url).body(r#"{"event_type":"a"}"#).send().await {
                        Ok(answer) if answer.status() == 202 => {
                            accepted.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(_) => unanswered += 1,
                        Err(_) => {
                            unanswered += 1;
                            break;
                        }
                    }
                }
                unanswered
            })
        })
        .collect();
    eventually("they are in the middle of it", LIMIT, || async {
        let so_far = accepted.load(Ordering::Relaxed);
        (so_far >= 100).then_some(()).ok_or(so_far)
    })
    .await;
    let status = gateway.service.terminate().await;
    stop.store(true, Ordering::Relaxed);
    assert!(status.success(), "{status}");
    let mut unanswered = 0;
    for client in clients {
        unanswered += client.await.unwrap();
    }
    let accepted = accepted.load(Ordering::Relaxed);
    // An answer may be lost on its way, a record may not.
    let stored = gateway.count(BACKEND).await;
    assert!(
        (accepted..=accepted + unanswered).contains(&stored),
        "{accepted} answered, {stored} stored"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_dies_and_returns() {
    let parts = Parts::private_of(&[Part::Kafka]).await;
    let gateway = Gateway::on(&parts, |builder| {
        builder.env("KAFKA_MESSAGE_TIMEOUT_MS", 10_000)
    })
    .await;
    let body = r#"{"event_type":"a"}"#;
    gateway.accepted(body).await;
    parts.kill(Part::Kafka).await;
    // In flight or not, nothing is answered as taken that is not on the log.
    let answer = gateway.post("/api/events", body).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.json()["detail"], "Event stream not available");
    assert_eq!(gateway.get("/health").await.status, 200);
    eventually("not ready", LIMIT, || async {
        let answer = gateway.get("/ready").await;
        (answer.status == 503).then_some(()).ok_or(answer.status)
    })
    .await;
    parts.start(Part::Kafka).await;
    gateway.accepted(body).await;
}
