use std::time::Duration;

use testkit::{LIMIT, SseRefused, SseStream, eventually};

use super::publisher::{Live, next, wait};

async fn refused(live: &Live, user: &str) -> SseRefused {
    let error = SseStream::open(&live.url(user), None).await.unwrap_err();
    error.downcast().unwrap()
}

async fn until_admitted(live: &Live, user: &str) -> SseStream {
    let url = live.url(user);
    eventually("there is room", LIMIT, || SseStream::open(&url, None)).await
}

#[tokio::test]
async fn a_user_and_a_process_have_limits_and_places_are_given_back() {
    let live = Live::start_with(&[
        ("SSE_MAX_CONNECTIONS", "4"),
        ("SSE_MAX_CONNECTIONS_PER_USER", "2"),
    ])
    .await;
    let first = live.listen("a").await;
    let second = live.open("a", Some("x")).await;
    for _ in 0..3 {
        let answer = refused(&live, "a").await;
        assert_eq!(answer.status, 429, "{answer}");
        assert!(answer.headers["retry-after"].parse::<u32>().unwrap() > 0);
        assert_eq!(answer.headers["content-type"], "application/problem+json");
    }
    let others = (live.listen("b").await, live.listen("c").await);
    assert_eq!(refused(&live, "d").await.status, 429);
    for (reason, count) in [("user_limit", 3.0), ("process_limit", 1.0)] {
        let name = format!("tidegate_sse_refused_total{{reason=\"{reason}\"}}");
        assert_eq!(live.metric(&name).await, count);
    }
    // A client that disconnects gives its permit back.
    drop(first);
    let third = until_admitted(&live, "a").await;
    drop((second, third, others));
    live.wait_metric("tidegate_sse_connections", 0.0).await;
    live.wait_metric("tidegate_sse_users", 0.0).await;
    let closed = r#"tidegate_sse_closed_total{reason="client"}"#;
    live.wait_metric(closed, 5.0).await;
    // A request that is refused for another reason takes no permit.
    for _ in 0..5 {
        live.get("a?named=x").await.problem(422);
    }
    drop((live.listen("a").await, live.listen("a").await));
}

#[tokio::test]
async fn a_client_that_does_not_keep_up_is_closed_and_the_others_go_on() {
    let live = Live::start_with(&[
        ("SSE_QUEUE_BYTES", "65536"),
        ("SSE_CHANNEL_MAXLEN", "100000"),
    ])
    .await;
    let mut good = live.listen("u").await;
    let mut slow = SseStream::open_slow(&live.url("u")).await.unwrap();
    wait("it begins", slow.wait_cursor()).await.unwrap();
    // It reads nothing now. Its kernel and ours take something, its queue a little.
    let data = "x".repeat(16 * 1024);
    let closed = r#"tidegate_sse_closed_total{reason="slow"}"#;
    let mut sent = 0;
    let sending = async {
        while live.metric(closed).await == 0.0 {
            sent += 1;
            let id = live.publish("u", "a", &format!("{sent} {data}")).await;
            assert_eq!(next(&mut good).await.id, id);
        }
    };
    tokio::time::timeout(2 * LIMIT, sending)
        .await
        .expect("the slow one is closed");
    live.wait_metric("tidegate_sse_connections", 1.0).await;

    // What it has got is in order, and it can resume after it.
    let mut got = 0;
    while let Ok(Ok(Some(event))) = tokio::time::timeout(LIMIT, slow.next()).await {
        got += 1;
        assert!(event.data.starts_with(&format!("{got} ")));
    }
    assert!(got < sent, "{got} of {sent}");
    let last = slow.last_event_id().unwrap().to_owned();
    let mut resumed = live.open("u", Some(&last)).await;
    while got < sent {
        got += 1;
        assert!(
            next(&mut resumed)
                .await
                .data
                .starts_with(&format!("{got} "))
        );
    }
    live.publish("u", "a", "end").await;
    assert_eq!(next(&mut good).await.data, "end");
    assert_eq!(next(&mut resumed).await.data, "end");
}

#[tokio::test]
async fn many_messages_at_once_arrive_whole_and_in_order() {
    let live = Live::start().await;
    let mut stream = live.listen("u").await;
    let mut filtered = live.listen("u?types=a").await;
    for round in 0..20 {
        let messages: Vec<_> = (0..100)
            .map(|n| {
                let event = if n % 2 == 0 { "a" } else { "b" };
                (event, format!("{} {}", round * 100 + n, "é".repeat(n * 10)))
            })
            .collect();
        live.publish_all("u", &messages).await;
    }
    for n in 0..2_000 {
        let data = next(&mut stream).await.data;
        assert_eq!(data, format!("{n} {}", "é".repeat(n % 100 * 10)));
        if n % 2 == 0 {
            assert_eq!(next(&mut filtered).await.data, data);
        }
    }
    let nothing_more = tokio::time::timeout(Duration::from_millis(100), stream.next()).await;
    assert!(nothing_more.is_err(), "{nothing_more:?}");
}
