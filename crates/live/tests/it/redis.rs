//! What only Redis has: keys, other processes, strangers' data.

use live::{Delivery, LiveError, Outcome, Reset, Resume, Retention};
use testkit::{LIMIT, Part, Parts, eventually};

use crate::support::{
    Fixture as _, InRedis, Listener, ask, heard, number, numbered, placed, publish,
    publish_numbers, user,
};

/// How many connections receive the pointers of that channel.
async fn receivers(fixture: &InRedis, key: &str) -> u64 {
    let (_, count): (String, u64) = ask(fixture, &["PUBSUB", "NUMSUB", key]).await;
    count
}

async fn receivers_become(fixture: &InRedis, key: &str, expected: u64) {
    eventually("receivers of pointers", LIMIT, || async {
        match receivers(fixture, key).await {
            count if count == expected => Ok(()),
            count => Err(count),
        }
    })
    .await;
}

#[tokio::test]
async fn a_channel_is_a_stream_of_limited_length_and_life() {
    let retention = Retention {
        maxlen: 200,
        ttl_seconds: 600,
        ..Retention::default()
    };
    let fixture = InRedis::new(retention).await;
    let channel = user("ada");
    heard(fixture.channels(), &channel).await;
    let ids = publish_numbers(fixture.channels(), &channel, 0..1_000).await;
    let key = fixture.key(&channel);
    assert_eq!(key, format!("{}ada", fixture.config.prefix));
    let length: u64 = ask(&fixture, &["XLEN", &key]).await;
    assert!((200..=300).contains(&length), "{length}");
    let ttl: u64 = ask(&fixture, &["TTL", &key]).await;
    assert!((500..=600).contains(&ttl), "{ttl}");
    let last: Vec<(String, Vec<String>)> =
        ask(&fixture, &["XREVRANGE", &key, "+", "-", "COUNT", "1"]).await;
    assert_eq!(last[0].0, ids[999].to_string());
    let fields: Vec<_> = last[0].1.iter().map(String::as_str).collect();
    let expected = [
        "event",
        "test.numbered",
        "data",
        "{\"n\":999}",
        "scope",
        "user",
        "version",
        "1.0",
    ];
    assert_eq!(fields, expected);
}

#[tokio::test]
async fn a_key_of_another_type_is_refused_and_the_rest_is_published() {
    let fixture = InRedis::new(Retention::default()).await;
    let channels = fixture.channels();
    let (bad, good) = (user("bad"), user("good"));
    let () = ask(&fixture, &["SET", &fixture.key(&bad), "a stranger's"]).await;
    let mut on_bad = Listener::begun(channels, &bad, Resume::Live).await;
    let mut on_good = Listener::begun(channels, &good, Resume::Live).await;
    let batch = [
        placed(&good, 0, 1),
        placed(&bad, 1, 1),
        placed(&good, 2, 1),
        numbered(&bad, 3),
    ];
    let outcomes = channels.publish(&batch).await.expect("published");
    assert!(matches!(outcomes[0], Outcome::Published(_)));
    assert!(matches!(&outcomes[1], Outcome::Refused(why) if why.contains("WRONGTYPE")));
    assert!(matches!(outcomes[2], Outcome::Published(_)));
    assert!(matches!(outcomes[3], Outcome::Refused(_)));
    on_good.expect(0..1).await;
    on_good.expect(2..3).await;
    // Once the foreign key is gone, the channel works, also for listeners that waited.
    let () = ask(&fixture, &["DEL", &fixture.key(&bad)]).await;
    publish_numbers(channels, &bad, 4..5).await;
    on_bad.expect(4..5).await;
}

#[tokio::test]
async fn entries_that_are_no_messages_are_passed_over() {
    let fixture = InRedis::new(Retention::default()).await;
    let channels = fixture.channels();
    let channel = user("cleo");
    let mut listener = Listener::begun(channels, &channel, Resume::Live).await;
    let start = listener.cursor;
    let key = fixture.key(&channel);
    for n in 0..600 {
        let _: String = ask(&fixture, &["XADD", &key, "*", "n", &n.to_string()]).await;
    }
    publish_numbers(channels, &channel, 0..2).await;
    listener.expect(0..2).await;
    let mut again = Listener::begun(channels, &channel, Resume::After(start)).await;
    again.expect(0..2).await;
}

#[tokio::test]
async fn a_publisher_that_wakes_up_late_publishes_nothing_twice() {
    let fixture = InRedis::new(Retention::default()).await;
    let (zombie, successor) = (fixture.other(), fixture.other());
    let channel = user("dora");
    let mut listener = Listener::begun(fixture.channels(), &channel, Resume::Live).await;
    let records: Vec<_> = (0..40).map(|n| placed(&channel, n, 7)).collect();
    publish(zombie.channels(), &records[..10]).await;
    // Its partition goes to another, which begins with what was not recorded as done.
    let outcomes = successor.channels().publish(&records[5..30]).await;
    let outcomes = outcomes.expect("published");
    assert!(outcomes[..5].iter().all(|o| *o == Outcome::Duplicate));
    let outcomes = zombie.channels().publish(&records[10..20]).await;
    let outcomes = outcomes.expect("published");
    assert!(outcomes.iter().all(|o| *o == Outcome::Duplicate));
    publish(successor.channels(), &records[30..]).await;
    listener.expect(0..40).await;
    assert!(listener.silent().await);
}

#[tokio::test]
async fn a_listener_resumes_with_another_process() {
    let here = InRedis::new(Retention::default()).await;
    let there = here.other();
    let publisher = here.other();
    let channel = user("emil");
    // Someone stays on both, so that both have cursors of their own.
    let _stays = [
        Listener::begun(here.channels(), &channel, Resume::Live).await,
        Listener::begun(there.channels(), &channel, Resume::Live).await,
    ];
    let publishing = {
        let (channels, channel) = (publisher.channels().clone(), channel.clone());
        tokio::spawn(async move {
            for n in 0..1_000 {
                publish_numbers(&channels, &channel, n..n + 1).await;
            }
        })
    };
    let mut start = Listener::begun(here.channels(), &channel, Resume::Live).await;
    let mut next = number(&start.take(1).await[0]) + 1;
    let mut cursor = start.read;
    drop(start);
    for turn in 0.. {
        if next >= 1_000 {
            break;
        }
        let process = if turn % 2 == 0 { &there } else { &here };
        let resume = Resume::After(cursor);
        let mut listener = Listener::begun(process.channels(), &channel, resume).await;
        let until = (next + 7).min(1_000);
        listener.expect(next..until).await;
        // What it has read is what it resumes after, whatever else was given to it.
        cursor = listener.read;
        next = until;
    }
    publishing.await.expect("published");
}

#[tokio::test]
async fn pointers_are_received_only_while_someone_listens() {
    let fixture = InRedis::new(Retention::default()).await;
    let channels = fixture.channels();
    let channel = user("fay");
    let key = fixture.key(&channel);
    let first = Listener::begun(channels, &channel, Resume::Live).await;
    let second = Listener::begun(channels, &channel, Resume::Live).await;
    assert_eq!(receivers(&fixture, &key).await, 1);
    drop(first);
    let mut third = Listener::begun(channels, &channel, Resume::Live).await;
    drop(second);
    publish_numbers(channels, &channel, 0..1).await;
    third.expect(0..1).await;
    assert_eq!(receivers(&fixture, &key).await, 1);
    drop(third);
    receivers_become(&fixture, &key, 0).await;
    // A listener that is too slow does not count.
    let mut slow = Listener::bounded(channels, &channel, Resume::Live, 512);
    slow.expect_begun().await;
    publish_numbers(channels, &channel, 1..200).await;
    receivers_become(&fixture, &key, 0).await;
    assert!(matches!(slow.next().await, Some(Delivery::Slow)));
    // Nor does one that leaves before it has begun.
    for _ in 0..50 {
        drop(Listener::new(channels, &channel, Resume::Live));
    }
    let mut last = Listener::begun(channels, &channel, Resume::Live).await;
    publish_numbers(channels, &channel, 200..201).await;
    last.expect(200..201).await;
}

#[tokio::test]
async fn nothing_is_kept_for_nobody_after_messages_that_were_heard() {
    let fixture = InRedis::new(Retention::default()).await;
    let channels = fixture.channels();
    let (channel, nobodys) = (user("gail"), user("nobody"));
    let key = fixture.key(&nobodys);
    let kept = async || ask::<u64>(&fixture, &["EXISTS", &key]).await;
    let mut listener = Listener::begun(channels, &channel, Resume::Live).await;
    // So the next ones are sent without asking first; those for nobody turn that off again.
    for n in 0..3 {
        publish_numbers(channels, &channel, n..n + 1).await;
        listener.expect(n..n + 1).await;
        let outcomes = channels.publish(&[numbered(&nobodys, n)]).await;
        assert_eq!(outcomes, Ok(vec![Outcome::NoListener]));
        assert_eq!(kept().await, 0);
    }
    // Nor is it taken for a duplicate once somebody listens.
    let mut late = Listener::begun(channels, &nobodys, Resume::Live).await;
    publish_numbers(channels, &nobodys, 0..3).await;
    late.expect(0..3).await;
}

#[tokio::test]
async fn a_pointer_that_got_lost_is_made_up_for() {
    let retention = Retention {
        ttl_seconds: 60,
        ..Retention::default()
    };
    let fixture = InRedis::new(retention).await;
    let channel = user("gus");
    let mut listener = Listener::begun(fixture.channels(), &channel, Resume::Live).await;
    let key = fixture.key(&channel);
    let data = "{\"n\":0}";
    let _: String = ask(
        &fixture,
        &["XADD", &key, "*", "event", "test.numbered", "data", data],
    )
    .await;
    listener.expect(0..1).await;
}

#[tokio::test]
async fn a_quiet_listener_gets_a_fresher_cursor_and_never_an_expired_one() {
    // Long enough for a cursor to be used before it is too old.
    let retention = Retention {
        ttl_seconds: 5,
        ..Retention::default()
    };
    let fixture = InRedis::new(retention).await;
    let channels = fixture.channels();
    let channel = user("hugo");
    let mut listener = Listener::begun(channels, &channel, Resume::Live).await;
    let ids = publish_numbers(channels, &channel, 0..1).await;
    listener.expect(0..1).await;
    fixture.expire(&channel).await;
    while listener.cursor.ms < ids[0].ms + 5_000 {
        listener.expect_begun().await;
    }
    let resume = Resume::After(listener.cursor);
    Listener::begun(channels, &channel, resume).await;
    // The message's own id is no longer known.
    let mut late = Listener::new(channels, &channel, Resume::After(ids[0]));
    late.expect_reset(Reset::Expired).await;
}

#[tokio::test]
async fn scripts_that_are_flushed_are_loaded_again() {
    let parts = Parts::private_of(&[Part::Redis]).await;
    let fixture = InRedis::at(&parts.redis_url, Retention::default());
    let channels = fixture.channels();
    let channel = user("ines");
    let mut listener = Listener::begun(channels, &channel, Resume::Live).await;
    for n in 0..5 {
        publish_numbers(channels, &channel, n..n + 1).await;
        let () = ask(&fixture, &["SCRIPT", "FLUSH"]).await;
    }
    listener.expect(0..5).await;
    channels.mark_gap().await.expect("marked");
    listener.expect_reset(Reset::Gap).await;
}

#[tokio::test]
async fn a_redis_without_memory_refuses_and_one_that_hangs_is_unavailable() {
    let parts = Parts::private_of(&[Part::Redis]).await;
    let fixture = InRedis::at(&parts.redis_url, Retention::default()).impatient();
    let channels = fixture.channels();
    let channel = user("jana");
    let mut listener = Listener::begun(channels, &channel, Resume::Live).await;
    let record = [placed(&channel, 0, 1)];

    let () = ask(&fixture, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let refused = channels.publish(&record).await;
    assert!(
        matches!(&refused, Err(LiveError::Refused(why)) if why.contains("OOM")),
        "{refused:?}"
    );
    assert!(matches!(
        channels.mark_gap().await,
        Err(LiveError::Refused(_))
    ));
    let () = ask(&fixture, &["CONFIG", "SET", "maxmemory", "0"]).await;
    publish(channels, &record).await;
    listener.expect(0..1).await;

    let paused = parts.pause(Part::Redis).await;
    let record = [placed(&channel, 1, 1)];
    let hangs = tokio::time::timeout(LIMIT, channels.publish(&record)).await;
    let hangs = hangs.expect("an answer");
    assert!(matches!(hangs, Err(LiveError::Unavailable(_))), "{hangs:?}");
    drop(paused);
    let outcome = eventually("it answers again", LIMIT, || channels.publish(&record)).await;
    // The one that was not answered may have been done in the end.
    assert!(matches!(
        outcome[0],
        Outcome::Published(_) | Outcome::Duplicate
    ));
    listener.expect(1..2).await;
    assert!(listener.silent().await);
    eventually("connected again", LIMIT, || async {
        channels.connected().then_some(()).ok_or("not yet")
    })
    .await;
}
