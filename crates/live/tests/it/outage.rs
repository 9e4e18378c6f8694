//! Redis killed and started again under listeners and publishers.

use std::sync::Arc;

use live::{Delivery, LiveError, Reset, Resume, Retention};
use testkit::{LIMIT, Part, Parts, Proxy, eventually};

use crate::support::{
    Fixture as _, InRedis, Listener, ask, number, numbered, publish_numbers, user,
};

async fn connected(fixture: &InRedis, expected: bool) {
    eventually("connected or not", LIMIT, || async {
        match fixture.channels().connected() {
            connected if connected == expected => Ok(()),
            connected => Err(connected),
        }
    })
    .await;
}

#[tokio::test]
async fn a_killed_redis_resets_its_listeners_and_goes_on() {
    let parts = Parts::private_of(&[Part::Redis]).await;
    let fixture = InRedis::at(&parts.redis_url, Retention::default());
    let elsewhere = fixture.other();
    let channels = fixture.channels();
    let (channel, quiet) = (user("ada"), user("quiet"));
    let mut listeners = vec![
        Listener::begun(channels, &channel, Resume::Live).await,
        Listener::begun(elsewhere.channels(), &channel, Resume::Live).await,
    ];
    let mut idle = Listener::begun(channels, &quiet, Resume::Live).await;
    let idle_since = idle.cursor;
    let before = publish_numbers(channels, &channel, 0..10).await;
    for listener in &mut listeners {
        listener.expect(0..10).await;
    }

    parts.kill(Part::Redis).await;
    connected(&fixture, false).await;
    let down = channels.publish(&[numbered(&channel, 10)]).await;
    assert!(matches!(down, Err(LiveError::Unavailable(_))), "{down:?}");
    assert!(matches!(
        channels.mark_gap().await,
        Err(LiveError::Unavailable(_))
    ));
    let mut joined = Listener::new(channels, &channel, Resume::Live);
    let mut returned = Listener::new(channels, &channel, Resume::After(before[9]));
    assert!(joined.silent().await && returned.silent().await);

    parts.start(Part::Redis).await;
    connected(&fixture, true).await;
    connected(&elsewhere, true).await;
    let mut cursors = Vec::new();
    for listener in &mut listeners {
        cursors.push(listener.expect_reset(Reset::Gap).await);
    }
    assert_eq!(cursors[0], cursors[1], "one gap for all");
    assert!(cursors[0] > before[9]);
    idle.expect_reset(Reset::Gap).await;
    // It never received what came meanwhile: that others did is no use to it.
    joined.expect_reset(Reset::Gap).await;
    returned.expect_reset(Reset::Gap).await;
    publish_numbers(channels, &channel, 10..20).await;
    listeners.extend([joined, returned]);
    for listener in &mut listeners {
        listener.expect(10..20).await;
    }

    // A listener that resumes from before the outage is reset too; one that saw the gap is not.
    let mut late = Listener::new(channels, &channel, Resume::After(before[9]));
    late.expect_reset(Reset::Gap).await;
    let mut late = Listener::new(channels, &quiet, Resume::After(idle_since));
    late.expect_reset(Reset::Gap).await;
    let mut fine = Listener::begun(channels, &channel, Resume::After(cursors[0])).await;
    fine.expect(10..20).await;
}

#[tokio::test]
async fn a_redis_that_lost_everything_is_a_gap_too() {
    let parts = Parts::private_of(&[Part::Redis]).await;
    let fixture = InRedis::at(&parts.redis_url, Retention::default());
    let channels = fixture.channels();
    let channel = user("bea");
    let mut listener = Listener::begun(channels, &channel, Resume::Live).await;
    let before = publish_numbers(channels, &channel, 0..3).await;
    listener.expect(0..3).await;
    let () = ask(&fixture, &["FLUSHALL"]).await;
    parts.kill(Part::Redis).await;
    parts.start(Part::Redis).await;
    listener.expect_reset(Reset::Gap).await;
    eventually("published", LIMIT, || channels.publish(&[])).await;
    publish_numbers(channels, &channel, 3..5).await;
    listener.expect(3..5).await;
    let mut late = Listener::new(channels, &channel, Resume::After(before[2]));
    late.expect_reset(Reset::Gap).await;
}

/// Cut off from a Redis that others reach: it loses nothing, so that there is no gap on record.
#[tokio::test]
async fn who_joins_while_cut_off_is_told_and_nobody_else() {
    let direct = InRedis::new(Retention::default()).await;
    let proxy = Proxy::start(&[direct.port()]).await.expect("proxy");
    let port = proxy
        .url("")
        .rsplit(':')
        .next()
        .and_then(|p| p.parse().ok());
    let cut_off = direct.over(port.expect("a port"));
    let channels = cut_off.channels();
    let (channel, other) = (user("abe"), user("abe's friend"));
    let mut listener = Listener::begun(channels, &channel, Resume::Live).await;
    let since = listener.cursor;

    proxy.close();
    connected(&cut_off, false).await;
    let mut joined = [
        Listener::new(channels, &channel, Resume::Live),
        Listener::new(channels, &other, Resume::Live),
    ];
    let mut returned = Listener::new(channels, &channel, Resume::After(since));
    publish_numbers(direct.channels(), &channel, 0..3).await;
    proxy.open();

    for joined in &mut joined {
        joined.expect_reset(Reset::Gap).await;
    }
    // They know where they were, and nothing was lost.
    listener.expect(0..3).await;
    returned.expect_begun().await;
    returned.expect(0..3).await;
    let mut late = Listener::begun(channels, &channel, Resume::Live).await;
    publish_numbers(direct.channels(), &channel, 3..4).await;
    for listener in [&mut joined[0], &mut listener, &mut returned, &mut late] {
        listener.expect(3..4).await;
        assert!(listener.silent().await);
    }
}

#[tokio::test]
async fn who_subscribes_before_redis_is_there_begins_when_it_is() {
    let parts = Parts::private_of(&[Part::Redis]).await;
    parts.kill(Part::Redis).await;
    let fixture = InRedis::at(&parts.redis_url, Retention::default());
    let channels = fixture.channels();
    let mut listeners: Vec<_> = (0..600)
        .map(|n| Listener::new(channels, &user(&format!("u{n}")), Resume::Live))
        .collect();
    assert!(listeners[0].silent().await);
    assert!(!channels.connected());
    // Some give up before.
    listeners.truncate(500);
    parts.start(Part::Redis).await;
    // Others may have published while it was away from here only.
    for listener in &mut listeners {
        listener.expect_reset(Reset::Gap).await;
    }
    for (n, listener) in listeners.iter_mut().enumerate() {
        publish_numbers(channels, &user(&format!("u{n}")), n..n + 1).await;
        listener.expect(n..n + 1).await;
    }
}

#[tokio::test]
async fn a_master_that_became_a_replica_is_left_for_the_new_one() {
    fail_over_and_back(true).await;
}

/// It has what it had when it was left, and its last gap is its own.
#[tokio::test]
async fn a_master_that_comes_back_without_what_the_other_had_is_a_gap() {
    fail_over_and_back(false).await;
}

/// A planned failover: the old master answers, and refuses. It comes back with or without the data of
/// the new one.
async fn fail_over_and_back(replicated: bool) {
    let (old, new) = (
        Parts::private_of(&[Part::Redis]).await,
        Parts::private_of(&[Part::Redis]).await,
    );
    let direct = [&old, &new].map(|parts| InRedis::at(&parts.redis_url, Retention::default()));
    let [old_port, new_port] = [direct[0].port(), direct[1].port()];
    let proxy = Proxy::start(&[old_port, new_port]).await.expect("proxy");
    proxy.lead_to(0);
    let port = proxy
        .url("")
        .rsplit(':')
        .next()
        .and_then(|p| p.parse().ok());
    let fixture = direct[0].over(port.expect("a port"));
    let channels = fixture.channels();
    let channel = user("dolly");
    let mut listener = Listener::begun(channels, &channel, Resume::Live).await;
    publish_numbers(channels, &channel, 0..1).await;
    listener.expect(0..1).await;

    // How long the new one waits, in seconds, before it sends its data to a replica.
    let delay = if replicated { "0" } else { "3600" };
    let set = ["CONFIG", "SET", "repl-diskless-sync-delay", delay];
    let () = ask(&direct[1], &set).await;
    // It answers READONLY now, and later MASTERDOWN; connections stay open.
    let master = new_port.to_string();
    let () = ask(&direct[0], &["REPLICAOF", "127.0.0.1", &master]).await;
    proxy.lead_to(1);
    let published = async |n| {
        eventually("published to the new master", LIMIT, || async {
            let numbers = [numbered(&channel, n)];
            match &channels
                .publish(&numbers)
                .await
                .map_err(|e| e.to_string())?[0]
            {
                live::Outcome::Published(_) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    };
    published(1).await;
    // A replica passes on the gap that is recorded by the new master. What came after it, before
    // the listener was seen there, is one more.
    listener.expect_after_resets(Reset::Gap, 1..2).await;
    connected(&fixture, true).await;

    // And the other way round, while the replica has lost its master.
    if replicated {
        eventually("the old one has the new one's data", LIMIT, || async {
            let info: String = ask(&direct[0], &["INFO", "replication"]).await;
            let up = info.contains("master_link_status:up");
            up.then_some(()).ok_or(info)
        })
        .await;
    }
    let () = ask(&direct[0], &["REPLICAOF", "NO", "ONE"]).await;
    let () = ask(
        &direct[1],
        &["CONFIG", "SET", "replica-serve-stale-data", "no"],
    )
    .await;
    let () = ask(&direct[1], &["REPLICAOF", "127.0.0.1", "1"]).await;
    proxy.lead_to(0);
    published(2).await;
    listener.expect_after_resets(Reset::Gap, 2..3).await;
}

/// A browser: comes back with its last id whenever it is cut off, and knows what it missed.
#[tokio::test]
async fn through_repeated_kills_nothing_is_missed_without_being_told() {
    let parts = Parts::private_of(&[Part::Redis]).await;
    // Whoever publishes may be connected again long before whoever listens: nothing is trimmed
    // meanwhile, so that the gap is all there is to tell.
    let retention = Retention {
        maxlen: 1_000_000,
        ..Retention::default()
    };
    let fixture = InRedis::at(&parts.redis_url, retention);
    let channel = user("cora");
    let mut listener = Listener::begun(fixture.channels(), &channel, Resume::Live).await;
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let publishing = {
        let (channels, channel) = (Arc::clone(fixture.channels()), channel.clone());
        let stop = Arc::clone(&stop);
        tokio::spawn(async move {
            // In order, and each again until it is done, as the bridge does.
            let mut n = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let record = [crate::support::placed(&channel, n, 1)];
                if channels.publish(&record).await.is_ok() {
                    n += 1;
                } else {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
            }
            usize::try_from(n).expect("count")
        })
    };
    for _ in 0..3 {
        listener.take(50).await;
        parts.kill(Part::Redis).await;
        parts.start(Part::Redis).await;
        // Everything up to the gap, then the gap; what came in between may be lost with it.
        loop {
            match listener.next().await {
                Some(Delivery::Messages(_)) => {}
                Some(Delivery::Reset {
                    reason: Reset::Gap,
                    cursor,
                }) => {
                    listener.forget(cursor);
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    let first = number(&listener.take(1).await[0]);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let count = publishing.await.expect("published");
    listener.expect(first + 1..count).await;
    assert!(listener.silent().await);
}
