//! `tidegate tail` against a running instance.

use std::collections::HashSet;

use serde_json::{Value, json};
use testkit::{LIMIT, eventually};

use crate::command::{Directory, OtherServer, Running, get, post, run, total, write};

fn id(line: &str) -> String {
    let event: Value = serde_json::from_str(line).unwrap();
    event["event_id"].as_str().unwrap().to_owned()
}

/// Waits for the listener: a new one gets no message from before.
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
        "tail", "--url", &url, "--user", "u-1", "--type", "order.*", "--type", "reset", "--json",
    ]);
    listened(&dev).await;
    let event = |kind: &str| json!({"event_type": kind, "user_id": "u-1", "data": {"n": 1}});
    post(&dev, &event("cart.filled")).await.unwrap();
    let first = post(&dev, &event("order.created")).await.unwrap();
    let line = tail.line().await;
    assert_eq!(id(&line), first);
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["payload"]["n"], 1, "{line}");
    // An event of that type is no notice of the stream's own.
    let reset = post(&dev, &event("reset")).await.unwrap();
    assert_eq!(id(&tail.line().await), reset);

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

/// Lines of `send`, numbered.
fn numbered(from: usize, count: usize) -> impl Iterator<Item = String> {
    (from..from + count).map(|n| {
        let kind = if n == 7 { "rare.one" } else { "frequent" };
        json!({"event_type": kind, "user_id": format!("u-{n}")}).to_string()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_skipped_however_many_there_are() {
    let directory = Directory::new();
    let dev = directory.dev().start().await;
    let url = dev.url("");
    let send = async |from: usize, count: usize| {
        let file = directory.path(&format!("{from}.jsonl"));
        write(&file, numbered(from, count));
        let file = file.display().to_string();
        let sent = run(&["send", "--url", &url, "--concurrency", "4", &file]).await;
        assert_eq!(sent.code, Some(0), "{sent:?}");
        total(&dev, i64::try_from(from + count).unwrap()).await;
    };
    send(0, 3_000).await;
    let many = ["-n", "2500", "--type", "freq*"];
    for (lines, arguments) in [(500, &["-n", "500"][..]), (2_500, &many)] {
        let arguments = [&["tail", "--url", &url, "--json"][..], arguments].concat();
        let mut tail = Running::start(&arguments);
        let mut shown = HashSet::new();
        for _ in 0..lines {
            shown.insert(id(&tail.line().await));
        }
        assert_eq!(shown.len(), lines);
    }
    // Far behind the others.
    let mut rare = Running::start(&["tail", "--url", &url, "--type", "rare.*"]);
    assert!(rare.line().await.contains("rare.one  u-7"));
    let mut exact = Running::start(&["tail", "--url", &url, "--type", "rare.one"]);
    assert!(exact.line().await.contains("rare.one  u-7"));

    // More between two looks than any page holds, and one that happened long before the others.
    let mut tail = Running::start(&["tail", "--url", &url, "-n", "1", "--json"]);
    let last = id(&tail.line().await);
    send(3_000, 5_000).await;
    let late = json!({"event_type": "late", "timestamp": "2020-01-01T00:00:00Z"});
    let late = post(&dev, &late).await.unwrap();
    let mut shown = HashSet::from([last]);
    for n in 0..5_001 {
        let id = id(&tail.line().await);
        assert!(shown.insert(id), "the {n}th came twice");
    }
    assert!(shown.contains(&late));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_program_is_reported_as_such() {
    let other = OtherServer::start().await;
    let url = other.url();
    for arguments in [&["tail"][..], &["tail", "--user", "u-1"], &["status"]] {
        let told = run(&[arguments, &["--url", &url]].concat()).await;
        assert_eq!(told.code, Some(1), "{told:?}");
        assert_eq!(told.err.lines().count(), 1, "{told:?}");
        assert!(told.err.contains("is not Tidegate"), "{told:?}");
    }
    let told = run(&["status", "--json", "--url", &url]).await;
    assert_eq!(told.code, Some(1), "{told:?}");
    let error: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(error["error"], "what answers there is not Tidegate");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_arguments_are_reported() {
    let wrong = run(&["tail", "--type", " "]).await;
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert!(wrong.err.contains("must not be empty"), "{wrong:?}");
    let wrong = run(&["tail", "--url", "::"]).await;
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    assert!(wrong.err.contains("--url"), "{wrong:?}");
}
