use testkit::SseStream;

use super::publisher::{Live, next, wait};

#[tokio::test]
async fn the_end_of_the_service_ends_the_streams_and_they_can_resume() {
    let mut live = Live::start_with(&[
        ("SHUTDOWN_GRACE_SECONDS", "3600"),
        ("SSE_QUEUE_BYTES", "100000000"),
    ])
    .await;
    let mut streams = Vec::new();
    for n in 0..20 {
        streams.push(live.listen(&format!("u{n}")).await);
    }
    live.publish("u0", "a", "1").await;
    assert_eq!(next(&mut streams[0]).await.data, "1");
    // One that reads nothing, and for which more waits than the kernels take, must not hold the end up.
    let stuck = SseStream::open_slow(&live.url("stuck")).await.unwrap();
    live.wait_metric("tidegate_sse_connections", 21.0).await;
    let data = "x".repeat(16 * 1024);
    let messages: Vec<_> = (0..1_000).map(|_| ("a", data.clone())).collect();
    live.publish_all("stuck", &messages).await;
    // Well within the hour of grace.
    let status = live.world.service.terminate().await;
    assert!(status.success(), "{status}");
    for stream in &mut streams {
        let end = wait("the end", stream.next()).await.unwrap();
        assert!(end.is_none(), "{end:?}");
        // It knows when to reconnect.
        assert!(stream.retry().is_some() && stream.last_event_id().is_some());
    }
    drop(stuck);
    let last = streams[0].last_event_id().unwrap().to_owned();
    live.world.service.restart().await;
    live.publish("u0", "a", "2").await;
    let mut resumed = live.open("u0", Some(&last)).await;
    assert_eq!(next(&mut resumed).await.data, "2");
}
