//! HTTP clients that send until they are answered, as a careful application does.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::load::{Expected, Post};
use crate::world::PATIENCE;

/// Sends all of them through `clients` clients at once, each until it has an answer other than
/// 503; returns the ids that the service made, with the numbers of the events that got them.
pub(crate) async fn send(base: &str, posts: Vec<Post>, clients: usize) -> Vec<(Uuid, u64)> {
    send_counting(base, posts, clients).await.0
}

/// The same, and how often one had to be sent again.
pub(crate) async fn send_counting(
    base: &str,
    posts: Vec<Post>,
    clients: usize,
) -> (Vec<(Uuid, u64)>, usize) {
    let posts = Arc::new(Mutex::new(posts.into_iter()));
    let http = client();
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let (posts, http, base) = (Arc::clone(&posts), http.clone(), base.to_owned());
        tasks.spawn(async move {
            let (mut made, mut again) = (Vec::new(), 0);
            loop {
                let next = posts.lock().await.next();
                let Some(post) = next else {
                    return (made, again);
                };
                made.extend(send_one(&http, &base, &post, &mut again).await);
            }
        });
    }
    let mut all = (Vec::new(), 0);
    for (made, again) in tasks.join_all().await {
        all.0.extend(made);
        all.1 += again;
    }
    all
}

/// A client with patience for one answer, as the gateway's own limits are far below it.
pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap()
}

async fn send_one(
    http: &reqwest::Client,
    base: &str,
    post: &Post,
    again: &mut usize,
) -> Vec<(Uuid, u64)> {
    let started = std::time::Instant::now();
    loop {
        let mut request = http
            .post(format!("{base}{}", post.path))
            .header("content-type", "application/json")
            .body(post.body.clone());
        if let Some(key) = &post.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let last = match request.send().await {
            Ok(answer) if answer.status() == 503 => {
                assert!(
                    answer.headers().contains_key(RETRY_AFTER),
                    "a 503 without Retry-After"
                );
                format!("503 {:?}", answer.text().await)
            }
            Ok(answer) => {
                let status = answer.status().as_u16();
                match answer.text().await {
                    Ok(body) => return answered(post, status, &body),
                    Err(error) => error.to_string(),
                }
            }
            Err(error) => error.to_string(),
        };
        assert!(started.elapsed() < PATIENCE, "{}: {last}", post.path);
        *again += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn answered(post: &Post, status: u16, body: &str) -> Vec<(Uuid, u64)> {
    let Expected::Accepted(events) = &post.expected else {
        assert!(
            matches!(status, 400 | 422),
            "{} took {}: {status} {body}",
            post.path,
            post.body
        );
        return vec![];
    };
    assert!(
        (200..300).contains(&status),
        "{} refused {}: {status} {body}",
        post.path,
        post.body
    );
    let ids = ids(&serde_json::from_str(body).unwrap());
    assert_eq!(ids.len(), events.len(), "{}: {body}", post.path);
    let mut made = Vec::new();
    for (id, (n, sent)) in ids.into_iter().zip(events) {
        match sent {
            Some(sent) => assert_eq!(id, *sent, "{}: ids in the order of the request", post.path),
            None => made.push((id, *n)),
        }
    }
    made
}

/// The ids of an answer: an object's `event_id` or `event_ids`, or those of an array of objects.
fn ids(answer: &Value) -> Vec<Uuid> {
    let id = |value: &Value| -> Uuid { value.as_str().unwrap().parse().unwrap() };
    match (answer, answer.get("event_ids")) {
        (Value::Array(events), _) => events.iter().map(|event| id(&event["event_id"])).collect(),
        (_, Some(Value::Array(ids))) => ids.iter().map(id).collect(),
        _ => vec![id(&answer["event_id"])],
    }
}
