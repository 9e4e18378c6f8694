use testkit::{Part, Parts};

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
