//! `tidegate tail` against a running instance.

use serde_json::{Value, json};
use testkit::{LIMIT, eventually};

use crate::command::{Directory, Running, get, post, run};

fn id(line: &str) -> String {
    let event: Value = serde_json::from_str(line).unwrap();
    event["event_id"].as_str().unwrap().to_owned()
}

/// Waits until somebody listens, for what came before is not sent to a new listener.
async fn listened(service: &testkit::TestService) {
    eventually("a listener", LIMIT, || async {
        let text = reqwest::get(service.url("/metrics")).await.unwrap();
        let text = text.text().await.unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with("tidegate_sse_connections"))
            .map(str::to_owned);
        line.as_deref()
            .is_some_and(|line| line.ends_with(" 1"))
            .then_some(())
            .ok_or(line)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_s_events_come_live_and_go_on_after_a_restart() {
    let directory = Directory::new();
    let mut dev = directory.dev().start().await;
    let url = dev.url("");
    let mut tail = Running::start(&[
        "tail", "--url", &url, "--user", "u-1", "--type", "order.*", "--json",
    ]);
    listened(&dev).await;
    let event = |kind: &str| json!({"event_type": kind, "user_id": "u-1", "data": {"n": 1}});
    post(&dev, &event("cart.filled")).await.unwrap();
    let first = post(&dev, &event("order.created")).await.unwrap();
    let line = tail.line().await;
    assert_eq!(id(&line), first);
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["payload"]["n"], 1, "{line}");

    dev.restart().await;
    listened(&dev).await;
    let second = post(&dev, &event("order.paid")).await.unwrap();
    assert_eq!(id(&tail.line().await), second);
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_s_events_are_followed() {
    let directory = Directory::new();
    let mut dev = directory.dev().start().await;
    let url = dev.url("");
    let mut ids = Vec::new();
    for n in 0..5 {
        let event = json!({"event_type": "old", "user_id": format!("u-{n}")});
        ids.push(post(&dev, &event).await.unwrap());
    }
    eventually("stored", LIMIT, || async {
        let page = get(&dev, "/api/v1/events/history").await.unwrap();
        let count = page["events"].as_array().unwrap().len();
        (count == 5).then_some(()).ok_or(count)
    })
    .await;
    let mut tail = Running::start(&["tail", "--url", &url, "-n", "2", "--json"]);
    let mut readable = Running::start(&["tail", "--url", &url, "-n", "1"]);
    assert_eq!(
        [tail.line().await, tail.line().await].map(|line| id(&line)),
        ids[3..]
    );
    assert!(readable.line().await.contains("old  u-4"));
    let third = post(&dev, &json!({"event_type": "new", "user_id": "x"}))
        .await
        .unwrap();
    assert_eq!(id(&tail.line().await), third);
    let line = readable.line().await;
    assert!(
        line.contains("new  x") && !line.contains('\u{1b}'),
        "{line}"
    );
    dev.restart().await;
    let fourth = post(&dev, &json!({"event_type": "new"})).await.unwrap();
    assert_eq!(id(&tail.line().await), fourth);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_questions_are_told() {
    let wrong = run(&["tail", "--type", " "]).await;
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert!(wrong.err.contains("must not be empty"), "{wrong:?}");
    let wrong = run(&["tail", "--url", "::"]).await;
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    assert!(wrong.err.contains("--url"), "{wrong:?}");
}
