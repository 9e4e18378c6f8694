use testkit::{LIMIT, Part, Parts, SseStream, eventually};
use tokio::task::JoinSet;

use super::publisher::{Live, next, next_reset, silent_until, wait};

#[tokio::test]
async fn a_stream_opened_without_redis_begins_when_it_is_back() {
    let parts = Parts::private_of(&[Part::Redis]).await;
    let live = Live::start_on(&parts, &[("SSE_HEARTBEAT_SECONDS", "1")]).await;
    let mut before = live.listen("u").await;
    parts.kill(Part::Redis).await;
    live.wait_metric("tidegate_live_connected", 0.0).await;
    let ready = live.world.get("/ready").await;
    assert_eq!(ready.status, 200, "{}", ready.body);
    let detail = ready.body["checks"]["live"]["detail"].as_str().unwrap();
    assert!(detail.starts_with("down"), "{detail}");
    live.world.get("/api/v1/events/stats").await.ok();

    let mut during = live.open("u", None).await;
    assert_eq!(during.header("content-type"), Some("text/event-stream"));
    // Heartbeats all the while, and nothing else.
    let heartbeats = silent_until(&mut during, |stream| stream.comments() >= 2);
    wait("heartbeats", heartbeats).await;
    assert!(during.retry().is_some());

    parts.start(Part::Redis).await;
    // Redis may have lost something; what came while it could not be read is unknown.
    for stream in [&mut during, &mut before] {
        assert_eq!(next_reset(stream).await, "gap");
    }
    live.publish("u", "a", "back").await;
    for stream in [&mut during, &mut before] {
        assert_eq!(next(stream).await.data, "back");
    }
    let mut after = live.listen("u").await;
    live.publish("u", "a", "further").await;
    for stream in [&mut during, &mut before, &mut after] {
        assert_eq!(next(stream).await.data, "further");
    }
    live.wait_metric("tidegate_live_connected", 1.0).await;
    let ready = live.world.get("/ready").await;
    assert_eq!(ready.body["checks"]["live"]["detail"], "connected");
}

#[tokio::test]
async fn who_comes_and_goes_while_redis_is_down_leaves_no_memory_behind() {
    let rounds = if std::env::var_os("SOAK").is_some() {
        20
    } else {
        4
    };
    let parts = Parts::private_of(&[Part::Redis]).await;
    let live = Live::start_on(&parts, &[("REDIS_TIMEOUT_MS", "100")]).await;
    drop(live.listen("u").await);
    parts.kill(Part::Redis).await;
    live.wait_metric("tidegate_live_connected", 0.0).await;
    let mut before = None;
    for round in 0..=rounds {
        let mut opening = JoinSet::new();
        for n in 0..500 {
            let url = live.url(&format!("user-{round}-{n}"));
            opening.spawn(async move { SseStream::open(&url, None).await.is_ok() });
        }
        assert!(opening.join_all().await.into_iter().all(|opened| opened));
        live.wait_metric("tidegate_sse_connections", 0.0).await;
        // What five hundred connections at once take is no leak.
        before.get_or_insert(live.service().memory().rss);
    }
    let before = before.unwrap();
    // The allocator gives pages back as the service goes on working, not while it stands still.
    eventually("no memory is kept", 2 * LIMIT, || async {
        live.wait_metric("tidegate_sse_connections", 0.0).await;
        let now = live.service().memory().rss;
        (now < before + (64 << 20))
            .then_some(())
            .ok_or((before, now))
    })
    .await;
    parts.start(Part::Redis).await;
    live.wait_metric("tidegate_live_connected", 1.0).await;
    let mut stream = live.listen("u").await;
    live.publish("u", "a", "back").await;
    assert_eq!(next(&mut stream).await.data, "back");
}

/// From the first bytes on, whatever is published arrives.
#[tokio::test]
async fn what_is_published_once_the_stream_is_answered_arrives() {
    let live = Live::start().await;
    for n in 0..40 {
        let user = format!("user-{n}");
        let mut stream = live.open(&user, None).await;
        let id = live.publish(&user, "a", "first").await;
        assert_eq!(next(&mut stream).await.id, id);
    }
}
