//! What is kept: only what somebody listens to, and no more bytes than there may be.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use live::{Delivery, Outcome, Reset, Resume, Retention};
use testkit::{LIMIT, Part, Parts, eventually};

use crate::support::{
    Fixture, InRedis, Listener, heard, number, numbered, publish, publish_numbers, user,
};

for_both!(
    nothing_is_kept_while_nobody_listens,
    what_comes_after_the_last_listener_left_is_kept_for_a_while,
    all_is_kept_where_that_is_wanted,
    everything_after_the_beginning_arrives_wherever_it_falls,
    the_bytes_of_all_channels_are_bounded,
);

async fn nothing_is_kept_while_nobody_listens<F: Fixture>() {
    let fixture = F::new(Retention::default()).await;
    let channels = fixture.channels();
    let (channel, other) = (user("una"), user("una's friend"));
    let mut listener = Listener::begun(channels, &other, Resume::Live).await;
    let start = listener.cursor;
    let mixed: Vec<_> = (0..6)
        .map(|n| numbered(if n % 2 == 0 { &channel } else { &other }, n))
        .collect();
    let outcomes = channels.publish(&mixed).await.expect("published");
    for (n, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Outcome::NoListener => assert_eq!(n % 2, 0),
            Outcome::Published(_) => assert_eq!(n % 2, 1),
            other => panic!("{other:?}"),
        }
    }
    for n in [1, 3, 5] {
        listener.expect(n..n + 1).await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    // One who never listened there has no cursor of it; another one's is too old.
    let mut late = Listener::new(channels, &channel, Resume::After(start));
    late.expect_reset(Reset::Expired).await;
    publish_numbers(channels, &channel, 6..9).await;
    late.expect(6..9).await;
}

async fn what_comes_after_the_last_listener_left_is_kept_for_a_while<F: Fixture>() {
    let retention = Retention {
        ttl_seconds: 1,
        ..Retention::default()
    };
    let fixture = F::new(retention).await;
    let channels = fixture.channels();
    let channel = user("vera");
    let cursor = Listener::begun(channels, &channel, Resume::Live)
        .await
        .cursor;
    publish_numbers(channels, &channel, 0..2).await;
    let mut back = Listener::begun(channels, &channel, Resume::After(cursor)).await;
    back.expect(0..2).await;
    let cursor = back.cursor;
    drop(back);
    eventually("nobody has listened for long", LIMIT, || async {
        fixture.expire(&channel).await;
        match &channels
            .publish(&[numbered(&channel, 2)])
            .await
            .expect("done")[0]
        {
            Outcome::NoListener => Ok(()),
            other => Err(other.clone()),
        }
    })
    .await;
    // That one is lost to it, and it is told.
    let mut late = Listener::new(channels, &channel, Resume::After(cursor));
    late.expect_reset(Reset::Expired).await;
    publish_numbers(channels, &channel, 3..4).await;
    late.expect(3..4).await;
}

async fn all_is_kept_where_that_is_wanted<F: Fixture>() {
    let retention = Retention {
        keep_all: true,
        ..Retention::default()
    };
    let fixture = F::new(retention).await;
    let channels = fixture.channels();
    let channel = user("wim");
    let ids = publish_numbers(channels, &channel, 0..3).await;
    let mut listener = Listener::begun(channels, &channel, Resume::After(ids[0])).await;
    listener.expect(1..3).await;
}

async fn everything_after_the_beginning_arrives_wherever_it_falls<F: Fixture>() {
    let fixture = F::new(Retention::default()).await;
    for round in 0..20 {
        let channel = user(&format!("xenia {round}"));
        let done = Arc::new(AtomicUsize::new(0));
        let until = Arc::new(AtomicUsize::new(usize::MAX));
        let publishing = {
            let (channels, channel) = (Arc::clone(fixture.channels()), channel.clone());
            let (done, until) = (Arc::clone(&done), Arc::clone(&until));
            tokio::spawn(async move {
                for n in 0.. {
                    if n == until.load(Ordering::SeqCst) {
                        break;
                    }
                    let one = [numbered(&channel, n)];
                    channels.publish(&one).await.expect("published");
                    done.store(n + 1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                }
            })
        };
        let mut listener = Listener::begun(fixture.channels(), &channel, Resume::Live).await;
        // One may just be on its way.
        let next = done.load(Ordering::SeqCst) + 1;
        let end = next + 20;
        until.fetch_min(end, Ordering::SeqCst);
        let first = number(&listener.take(1).await[0]);
        assert!(first <= next, "{first} instead of {next}");
        listener.expect(first + 1..end).await;
        publishing.await.expect("published");
    }
}

async fn the_bytes_of_all_channels_are_bounded<F: Fixture>() {
    const LARGE: usize = 300;
    let max_bytes = 256 * 1024;
    let retention = Retention {
        max_bytes,
        ..Retention::default()
    };
    let fixture = F::new(retention).await;
    let channels = fixture.channels();
    let (large, small) = (user("large"), user("small"));
    let mut listener = Listener::begun(channels, &large, Resume::Live).await;
    let start = listener.cursor;
    let mut others = Vec::new();
    let batch: Vec<_> = (0..LARGE)
        .map(|n| {
            let mut message = numbered(&large, n);
            message.message.data = format!("{{\"n\":{n}}}{}", " ".repeat(4_096)).into();
            message
        })
        .collect();
    for batch in batch.chunks(20) {
        channels.publish(batch).await.expect("published");
        let kept = channels.kept_bytes().await.expect("known");
        assert!(kept <= max_bytes as u64, "{kept}");
        let other = user(&format!("other {}", others.len()));
        heard(channels, &other).await;
        publish_numbers(channels, &other, 0..1).await;
        others.push(other);
    }
    // Who listens has all of it.
    listener.expect(0..LARGE).await;
    let mut late = Listener::new(channels, &large, Resume::After(start));
    late.expect_reset(Reset::Trimmed).await;
    // What came last is there, whoever else has come meanwhile.
    heard(channels, &small).await;
    let ids = publish_numbers(channels, &small, 0..2).await;
    let mut resumed = Listener::begun(channels, &small, Resume::After(ids[0])).await;
    resumed.expect(1..2).await;
    publish_numbers(channels, &large, LARGE..LARGE + 1).await;
    late.expect(LARGE..LARGE + 1).await;
}

async fn used_memory(fixture: &InRedis) -> i64 {
    let mut plain = fixture.plain().await;
    let mut info = ::redis::cmd("INFO");
    let info: String = info
        .arg("memory")
        .query_async(&mut plain)
        .await
        .expect("INFO");
    let used = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    used.and_then(|used| used.trim().parse().ok())
        .expect("used_memory")
}

#[tokio::test]
async fn what_nobody_listens_to_takes_no_memory_of_redis() {
    const USERS: usize = 100_000;
    let parts = Parts::private_of(&[Part::Redis]).await;
    let fixture = InRedis::at(&parts.redis_url, Retention::default());
    let channels = fixture.channels();
    let heard = user("heard");
    let mut listener = Listener::begun(channels, &heard, Resume::Live).await;
    let before = used_memory(&fixture).await;
    for batch in 0..3 * USERS / 1_000 {
        let publications: Vec<_> = (0..1_000)
            .map(|n| numbered(&user(&format!("u{}", (batch * 1_000 + n) % USERS)), n))
            .collect();
        let outcomes = channels.publish(&publications).await.expect("published");
        assert!(
            outcomes
                .iter()
                .all(|outcome| *outcome == Outcome::NoListener)
        );
    }
    let grown = used_memory(&fixture).await - before;
    assert!(grown < 1024 * 1024, "{grown} bytes");
    // One of them comes: from now on it has everything.
    let one = user("u7");
    let mut comes = channels.subscribe(one.clone(), Resume::Live, crate::support::ROOMY);
    assert!(matches!(comes.next().await, Some(Delivery::Begun { .. })));
    let ids = publish_numbers(channels, &one, 0..50).await;
    let mut resumed = Listener::begun(channels, &one, Resume::After(ids[9])).await;
    resumed.expect(10..50).await;
    publish_numbers(channels, &heard, 0..1).await;
    listener.expect(0..1).await;
}

/// Larger than what comes with a pointer, so that the process reads them; removed before it does.
#[tokio::test]
async fn what_is_removed_before_a_listener_has_it_is_a_reset() {
    let retention = Retention {
        max_bytes: 256 * 1024,
        ..Retention::default()
    };
    let fixture = InRedis::new(retention).await;
    let channels = fixture.channels();
    let channel = user("yara");
    let mut listener = Listener::begun(channels, &channel, Resume::Live).await;
    publish_numbers(channels, &channel, 0..1).await;
    listener.expect(0..1).await;
    // What comes in a batch is mostly gone when the first of it can be read. A listener may be quick
    // enough once, not always; or so slow that the reset leads it to the newest at once.
    let (mut published, mut next, mut resets) = (1, 1, 0);
    while resets == 0 {
        assert!(published < 10_000, "nothing was removed");
        let large: Vec<_> = (published..published + 100)
            .map(|n| {
                let mut message = numbered(&channel, n);
                let data = format!("{{\"n\":{n}}}{}", " ".repeat(32 * 1024));
                message.message.data = data.into();
                message
            })
            .collect();
        let ids = publish(channels, &large).await;
        published += large.len();
        while next < published {
            match listener.next().await {
                Some(Delivery::Messages(batch)) => {
                    let numbers: Vec<_> = batch.entries().iter().map(number).collect();
                    assert_eq!(numbers[0], next, "after {resets} resets");
                    next = numbers[numbers.len() - 1] + 1;
                    listener.forget(batch.entries()[numbers.len() - 1].id);
                }
                Some(Delivery::Reset {
                    reason: Reset::Trimmed,
                    cursor,
                }) => {
                    listener.forget(cursor);
                    resets += 1;
                    next = published - ids.iter().filter(|id| **id > cursor).count();
                }
                other => panic!("{other:?}"),
            }
        }
    }
    let newest = listener.cursor;
    let mut resumed = Listener::begun(channels, &channel, Resume::After(newest)).await;
    publish_numbers(channels, &channel, published..published + 1).await;
    listener.expect(published..published + 1).await;
    resumed.expect(published..published + 1).await;
}
