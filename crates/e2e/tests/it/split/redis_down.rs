//! A dead Redis hurts nobody but the live streams, and those are told.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use testkit::{LIMIT, Part, SseStream, eventually};
use tokio::task::JoinSet;

use crate::live::feed::{Feed, user};
use crate::live::listener::Listener;
use crate::live::{CLOSED, OPEN, breaker_state, breaker_transitions};
use crate::world::{PATIENCE, World, alone, sum};

const USERS: usize = 100;
const CLIENTS: usize = 20;
/// Between two events of each user: 1,000 events a second, which storing could overtake easily.
const ROUND: Duration = Duration::from_millis(100);
const OUTAGE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn storing_goes_on_and_listeners_are_told() {
    let _turn = alone().await;
    let world = World::with_own(&[Part::Redis]).await;
    let system = world
        .system()
        .env("BREAKER_RECOVERY_TIMEOUT", 2)
        .start()
        .await;
    let base = system.query_url("");
    let mut listeners = Vec::new();
    for client in 0..CLIENTS {
        listeners.push(Listener::begin(&base, &user(client * 5)).await);
    }

    // The load: acknowledged events are counted as they are, whatever else happens.
    let acknowledged = AtomicI64::new(0);
    let mut feed = Feed::over_http(system.ingest_url(""), USERS, 100);
    let load = async |feed: &mut Feed, until: Instant| {
        while Instant::now() < until {
            let next = tokio::time::Instant::now() + ROUND;
            feed.round(&world).await;
            acknowledged.fetch_add(i64::try_from(USERS).unwrap(), Ordering::Relaxed);
            tokio::time::sleep_until(next).await;
        }
    };
    let stored = async || world.database.count("event_ids").await.unwrap();

    load(&mut feed, Instant::now() + Duration::from_secs(3)).await;
    let before_the_outage = feed.last;
    for listener in &mut listeners {
        listener.read_up_to(before_the_outage).await;
        listener.assert_complete(before_the_outage);
    }
    let old_ids: Vec<String> = listeners.iter().map(|l| l.last_event_id.clone()).collect();
    assert_eq!(breaker_state(&system).await, CLOSED);

    world.parts.stop(Part::Redis).await;
    let (sent_before, stored_before) = (acknowledged.load(Ordering::Relaxed), stored().await);
    let opened = async {
        eventually("the breaker opens", LIMIT, || async {
            let state = breaker_state(&system).await;
            if state == OPEN { Ok(()) } else { Err(state) }
        })
        .await;
    };
    tokio::join!(load(&mut feed, Instant::now() + OUTAGE), opened);
    let sent = acknowledged.load(Ordering::Relaxed) - sent_before;
    let kept_up = stored().await - stored_before;
    println!("without Redis: {sent} acknowledged, {kept_up} stored meanwhile");
    assert!(kept_up * 100 >= sent * 95, "{kept_up} of {sent}");
    // It probed meanwhile, in vain.
    assert!(breaker_transitions(&system, "half_open").await >= 2.0);
    assert_ne!(breaker_state(&system).await, CLOSED);
    let metrics = system.processor_url("/metrics");
    let dropped = sum(
        &metrics,
        "eventbridge_events_total",
        &[("status", "dropped")],
    )
    .await;
    assert!(dropped > 0.0);

    // Nobody has to send anything for it to close again.
    world.parts.start(Part::Redis).await;
    eventually("the breaker closes", LIMIT, || async {
        let state = breaker_state(&system).await;
        if state == CLOSED { Ok(()) } else { Err(state) }
    })
    .await;
    assert!(breaker_transitions(&system, "closed").await >= 1.0);

    // Everyone is told, over the connection he has, and goes on with what is sent from now on.
    load(&mut feed, Instant::now() + Duration::from_secs(2)).await;
    let mut reading = JoinSet::new();
    for mut listener in listeners {
        let last = feed.last;
        reading.spawn(async move {
            listener.read_up_to(last).await;
            listener
        });
    }
    for listener in reading.join_all().await {
        let reasons = listener.assert_told(feed.last);
        assert_eq!(listener.connections, 1);
        assert!(
            !reasons.is_empty() && reasons.iter().all(|r| r == "gap"),
            "{reasons:?}"
        );
    }
    // And so is who was away all the time.
    for (client, id) in old_ids.iter().enumerate() {
        let url = format!("{base}/api/v1/sse/users/{}", user(client * 5));
        let mut stream = SseStream::open(&url, Some(id)).await.unwrap();
        let first = stream.next().await.unwrap().unwrap();
        assert_eq!(first.event, "reset", "{first:?}");
    }
    let all = acknowledged.load(Ordering::Relaxed);
    eventually("everything is stored", PATIENCE, || async {
        let now = stored().await;
        if now == all { Ok(()) } else { Err(now) }
    })
    .await;
}
