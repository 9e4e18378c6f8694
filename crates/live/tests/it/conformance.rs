//! What both implementations promise.

use std::sync::Arc;
use std::time::Duration;

use domain::TenantId;
use live::{Channel, Delivery, Outcome, Reset, Resume, Retention, StreamId};

use crate::support::{
    Fixture, Listener, ROOMY, heard, number, numbered, placed, publish, publish_numbers, user,
};

for_both!(
    everything_arrives_once_in_order_under_the_ids_given_out,
    joining_while_others_publish_misses_nothing_from_there_on,
    resuming_after_any_message_gives_exactly_the_rest,
    a_long_history_is_read_at_the_listeners_pace,
    the_cursor_of_a_listener_that_received_nothing_resumes,
    a_malformed_id_resets,
    an_id_nobody_gave_out_resets,
    an_id_trimmed_away_resets,
    an_expired_channel_resets,
    a_gap_resets_those_who_listen_and_those_who_resume_from_before,
    every_cursor_given_with_a_reset_resumes_without_another,
    a_position_is_published_once,
    an_erased_channel_keeps_nothing_and_goes_on,
    what_is_told_reaches_those_who_listen_and_is_kept_nowhere,
    channels_and_tenants_are_apart,
    a_full_queue_ends_the_listener_which_resumes_without_loss,
    a_busy_listener_learns_that_it_is_too_slow,
    one_message_larger_than_the_queue_arrives,
    listeners_come_and_go_without_disturbing_others,
    waiting_can_be_given_up_at_any_time,
    everything_queued_is_had_without_waiting,
    the_end_of_the_channels_is_the_end_of_the_listeners,
);

async fn everything_arrives_once_in_order_under_the_ids_given_out<F: Fixture>() {
    let fixture = F::new(Retention::default()).await;
    let channels = fixture.channels();
    let channel = user("ada");
    let mut first = Listener::begun(channels, &channel, Resume::Live).await;
    let mut second = Listener::begun(channels, &channel, Resume::Live).await;
    let ids = publish_numbers(channels, &channel, 0..450).await;
    assert_eq!(first.expect(0..450).await, ids);
    assert_eq!(second.expect(0..450).await, ids);
    assert!(first.silent().await);
    assert_eq!(channels.publish(&[]).await, Ok(Vec::new()));
    assert!(channels.connected());
}

async fn joining_while_others_publish_misses_nothing_from_there_on<F: Fixture>() {
    const COUNT: usize = 800;
    let fixture = F::new(Retention::default()).await;
    let channels = fixture.channels();
    let channel = user("bob");
    heard(channels, &channel).await;
    let start = publish_numbers(channels, &channel, 0..1).await[0];
    let publishing = {
        let channels = Arc::clone(channels);
        let channel = channel.clone();
        tokio::spawn(async move {
            for n in 1..COUNT {
                publish_numbers(&channels, &channel, n..n + 1).await;
                if n % 16 == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        })
    };
    let mut listening = Vec::new();
    for round in 0..40 {
        let resume = if round % 2 == 0 {
            Resume::Live
        } else {
            Resume::After(start)
        };
        let mut listener = Listener::new(channels, &channel, resume);
        listening.push(tokio::spawn(async move {
            listener.expect_begun().await;
            let first = number(&listener.take(1).await[0]);
            if resume != Resume::Live {
                assert_eq!(first, 1);
            }
            listener.expect(first + 1..COUNT + 1).await;
        }));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    publishing.await.expect("published");
    // For listeners that joined after the last one.
    publish_numbers(channels, &channel, COUNT..COUNT + 1).await;
    for listener in listening {
        listener.await.expect("all from there on");
    }
}

async fn resuming_after_any_message_gives_exactly_the_rest<F: Fixture>() {
    let fixture = F::new(Retention::default()).await;
    let channels = fixture.channels();
    let channel = user("carol");
    heard(channels, &channel).await;
    let ids = publish_numbers(channels, &channel, 0..30).await;
    let mut listeners = Vec::new();
    for (n, id) in ids.iter().enumerate() {
        let mut listener = Listener::begun(channels, &channel, Resume::After(*id)).await;
        assert_eq!(listener.cursor, *id);
        listener.expect(n + 1..30).await;
        listeners.push(listener);
    }
    publish_numbers(channels, &channel, 30..35).await;
    for mut listener in listeners {
        listener.expect(30..35).await;
    }
}

async fn a_long_history_is_read_at_the_listeners_pace<F: Fixture>() {
    let fixture = F::new(Retention::default()).await;
    let channels = fixture.channels();
    let channel = user("dan");
    heard(channels, &channel).await;
    let ids = publish_numbers(channels, &channel, 0..900).await;
    // Room for a few dozen of them.
    let mut listener = Listener::bounded(channels, &channel, Resume::After(ids[0]), 4_096);
    listener.expect_begun().await;
    listener.expect(1..300).await;
    publish_numbers(channels, &channel, 900..910).await;
    listener.expect(300..910).await;
    publish_numbers(channels, &channel, 910..912).await;
    listener.expect(910..912).await;
    assert!(listener.silent().await);
}

async fn the_cursor_of_a_listener_that_received_nothing_resumes<F: Fixture>() {
    let fixture = F::new(Retention::default()).await;
    let channels = fixture.channels();
    let channel = user("eve");
    let idle = Listener::begun(channels, &channel, Resume::Live).await;
    let cursor = idle.cursor;
    assert!(cursor.is_place_in_time());
    drop(idle);
    let again = Listener::begun(channels, &channel, Resume::After(cursor)).await;
    drop(again);
    publish_numbers(channels, &channel, 0..3).await;
    let mut back = Listener::begun(channels, &channel, Resume::After(cursor)).await;
    back.expect(0..3).await;
    // With a history, the cursor is that of the last message.
    let mut late = Listener::begun(channels, &channel, Resume::Live).await;
    assert_eq!(late.cursor, back.cursor);
    assert!(late.silent().await);
}

async fn a_malformed_id_resets<F: Fixture>() {
    let fixture = F::new(Retention::default()).await;
    let channels = fixture.channels();
    let channel = user("finn");
    heard(channels, &channel).await;
    publish_numbers(channels, &channel, 0..3).await;
    let resume = Resume::parse(Some("seventeen"));
    let mut listener = Listener::new(channels, &channel, resume);
    listener.expect_reset(Reset::Malformed).await;
    publish_numbers(channels, &channel, 3..4).await;
    listener.expect(3..4).await;
}

async fn an_id_nobody_gave_out_resets<F: Fixture>() {
    let fixture = F::new(Retention::default()).await;
    let channels = fixture.channels();
    let channel = user("gil");
    heard(channels, &channel).await;
    let ids = publish_numbers(channels, &channel, 0..3).await;
    let between = StreamId {
        ms: ids[2].ms,
        seq: ids[2].seq + 7,
    };
    let future = StreamId {
        ms: ids[2].ms + 3_600_000,
        seq: 0,
    };
    for unknown in [between, future, StreamId::before(future.ms)] {
        let mut listener = Listener::new(channels, &channel, Resume::After(unknown));
        listener.expect_reset(Reset::Unknown).await;
    }
}

async fn an_id_trimmed_away_resets<F: Fixture>() {
    let retention = Retention {
        maxlen: 100,
        ..Retention::default()
    };
    let fixture = F::new(retention).await;
    let channels = fixture.channels();
    let channel = user("hal");
    let idle = Listener::begun(channels, &channel, Resume::Live)
        .await
        .cursor;
    // Redis trims a hundred at a time.
    let ids = publish_numbers(channels, &channel, 0..500).await;
    for gone in [idle, ids[0]] {
        let mut listener = Listener::new(channels, &channel, Resume::After(gone));
        listener.expect_reset(Reset::Trimmed).await;
        assert!(listener.silent().await, "live from now on");
    }
    let mut listener = Listener::begun(channels, &channel, Resume::After(ids[400])).await;
    listener.expect(401..500).await;
}

async fn an_expired_channel_resets<F: Fixture>() {
    let retention = Retention {
        ttl_seconds: 1,
        ..Retention::default()
    };
    let fixture = F::new(retention).await;
    let channels = fixture.channels();
    let channel = user("ida");
    let idle = Listener::begun(channels, &channel, Resume::Live)
        .await
        .cursor;
    let ids = publish_numbers(channels, &channel, 0..2).await;
    fixture.expire(&channel).await;
    for gone in [idle, ids[0], ids[1]] {
        let mut listener = Listener::new(channels, &channel, Resume::After(gone));
        listener.expect_reset(Reset::Expired).await;
    }
    // Another channel under the same name does not hide that.
    publish_numbers(channels, &channel, 2..3).await;
    let mut listener = Listener::new(channels, &channel, Resume::After(idle));
    listener.expect_reset(Reset::Expired).await;
}

async fn an_erased_channel_keeps_nothing_and_goes_on<F: Fixture>() {
    let fixture = F::new(Retention::default()).await;
    let channels = fixture.channels();
    let (channel, other) = (user("eve"), user("eve's friend"));
    let mut listener = Listener::begun(channels, &channel, Resume::Live).await;
    let idle = listener.cursor;
    heard(channels, &other).await;
    publish_numbers(channels, &channel, 0..3).await;
    let of_other = publish_numbers(channels, &other, 0..2).await;
    listener.expect(0..3).await;
    assert_eq!(channels.erase(&channel, &[]).await, Ok(3));
    assert_eq!(channels.erase(&channel, &[]).await, Ok(0));
    // Who listens and who resumes get what comes, and nothing of before.
    let mut again = Listener::new(channels, &channel, Resume::After(idle));
    again.expect_begun().await;
    publish_numbers(channels, &channel, 3..5).await;
    listener.expect(3..5).await;
    again.expect(3..5).await;
    // However soon it comes.
    for n in 5..50 {
        assert!(channels.erase(&channel, &[]).await.expect("erased") > 0);
        publish_numbers(channels, &channel, n..n + 1).await;
        listener.expect(n..n + 1).await;
    }
    let mut friend = Listener::new(channels, &other, Resume::After(of_other[0]));
    friend.expect_begun().await;
    friend.expect(1..2).await;
}

async fn a_gap_resets_those_who_listen_and_those_who_resume_from_before<F: Fixture>() {
    let fixture = F::new(Retention::default()).await;
    let channels = fixture.channels();
    let (channel, other) = (user("joe"), user("joe's friend"));
    let mut listener = Listener::begun(channels, &channel, Resume::Live).await;
    let mut friend = Listener::begun(channels, &other, Resume::Live).await;
    let idle = friend.cursor;
    let before = publish_numbers(channels, &channel, 0..2).await;
    let gap = channels.mark_gap().await.expect("marked");
    let after = publish_numbers(channels, &channel, 2..4).await;
    assert!(before[1] < gap && gap < after[0]);

    listener.expect(0..2).await;
    assert_eq!(listener.expect_reset(Reset::Gap).await, gap);
    listener.expect(2..4).await;
    assert_eq!(friend.expect_reset(Reset::Gap).await, gap);

    for lost in [idle, before[0], before[1]] {
        let mut listener = Listener::new(channels, &channel, Resume::After(lost));
        listener.expect_reset(Reset::Gap).await;
    }
    let mut listener = Listener::begun(channels, &channel, Resume::After(gap)).await;
    listener.expect(2..4).await;
    let mut listener = Listener::begun(channels, &channel, Resume::After(after[0])).await;
    listener.expect(3..4).await;
    let mut listener = Listener::begun(channels, &other, Resume::After(gap)).await;
    assert!(listener.silent().await);
}

async fn every_cursor_given_with_a_reset_resumes_without_another<F: Fixture>() {
    let fixture = F::new(Retention::default()).await;
    let channels = fixture.channels();
    for name in ["empty", "filled", "filled before a gap"] {
        let channel = user(name);
        if name != "empty" {
            heard(channels, &channel).await;
            publish_numbers(channels, &channel, 0..3).await;
        }
        if name.ends_with("gap") {
            channels.mark_gap().await.expect("marked");
        }
        let mut listener = Listener::new(channels, &channel, Resume::Malformed);
        let cursor = listener.expect_reset(Reset::Malformed).await;
        drop(listener);
        let mut live = Listener::begun(channels, &channel, Resume::Live).await;
        let ids = publish_numbers(channels, &channel, 3..5).await;
        for cursor in [cursor, live.cursor] {
            let mut listener = Listener::begun(channels, &channel, Resume::After(cursor)).await;
            assert_eq!(listener.expect(3..5).await, ids);
        }
        live.expect(3..5).await;
    }
}

async fn a_position_is_published_once<F: Fixture>() {
    let fixture = F::new(Retention::default()).await;
    let channels = fixture.channels();
    let channel = user("kim");
    let mut listener = Listener::begun(channels, &channel, Resume::Live).await;
    // Times in a log do not rise strictly.
    let batch = [(0, 50), (1, 90), (2, 70), (3, 80)]
        .map(|(offset, timestamp)| placed(&channel, offset, timestamp));
    publish(channels, &batch).await;
    for again in [&batch[..], &batch[1..2], &batch[3..]] {
        let outcomes = channels.publish(again).await.expect("published");
        assert!(
            outcomes.iter().all(|o| *o == Outcome::Duplicate),
            "{outcomes:?}"
        );
    }
    let mixed = [
        placed(&channel, 3, 80),
        placed(&channel, 4, 60),
        placed(&channel, 4, 60),
    ];
    let outcomes = channels.publish(&mixed).await.expect("published");
    assert_eq!(outcomes[0], Outcome::Duplicate);
    assert!(matches!(outcomes[1], Outcome::Published(_)));
    assert_eq!(outcomes[2], Outcome::Duplicate);
    listener.expect(0..5).await;
    // A topic that was created again counts from zero, later.
    publish(
        channels,
        &[placed(&channel, 0, 100), placed(&channel, 1, 100)],
    )
    .await;
    listener.expect(0..2).await;
    assert!(listener.silent().await);
}

async fn what_is_told_reaches_those_who_listen_and_is_kept_nowhere<F: Fixture>() {
    let fixture = F::new(Retention::default()).await;
    let channels = fixture.channels();
    let channel = user("told");
    let told: Vec<_> = (7..9)
        .map(|n| (channel.clone(), numbered(&channel, n).message))
        .collect();
    assert_eq!(channels.send_transient(&told).await, Ok(0));
    let mut listener = Listener::begun(channels, &channel, Resume::Live).await;
    let first = publish_numbers(channels, &channel, 0..1).await[0];
    listener.expect(0..1).await;
    let to_nobody = (user("nobody"), told[0].1.clone());
    let all = [&told[..], &[to_nobody]].concat();
    assert_eq!(channels.send_transient(&all).await, Ok(2));
    for (_, message) in &told {
        match listener.next().await {
            Some(Delivery::Transient(received)) => assert_eq!(*received, *message),
            other => panic!("{other:?}"),
        }
    }
    publish_numbers(channels, &channel, 1..2).await;
    listener.expect(1..2).await;
    assert!(listener.silent().await);
    let mut resumed = Listener::begun(channels, &channel, Resume::After(first)).await;
    resumed.expect(1..2).await;
    assert!(resumed.silent().await);
}

async fn channels_and_tenants_are_apart<F: Fixture>() {
    let fixture = F::new(Retention::default()).await;
    let channels = fixture.channels();
    let tenant = TenantId::parse("acme").expect("tenant");
    let all = [
        user("lea"),
        user("leah"),
        user("tenant:acme:lea"),
        Channel::new(tenant, "lea"),
        user("ü*?[x]\u{1F600} \"\n"),
    ];
    let mut listeners = Vec::new();
    for channel in &all {
        listeners.push(Listener::begun(channels, channel, Resume::Live).await);
    }
    let mixed: Vec<_> = (0..50).map(|n| numbered(&all[n % 5], n)).collect();
    publish(channels, &mixed).await;
    for (which, listener) in listeners.iter_mut().enumerate() {
        let received: Vec<_> = listener.take(10).await.iter().map(number).collect();
        let expected: Vec<_> = (0..10).map(|n| n * 5 + which).collect();
        assert_eq!(received, expected);
        assert!(listener.silent().await);
    }
}

async fn a_full_queue_ends_the_listener_which_resumes_without_loss<F: Fixture>() {
    let fixture = F::new(Retention::default()).await;
    let channels = fixture.channels();
    let channel = user("max");
    let mut slow = Listener::bounded(channels, &channel, Resume::Live, 2_048);
    slow.expect_begun().await;
    let mut quick = Listener::begun(channels, &channel, Resume::Live).await;
    publish_numbers(channels, &channel, 0..1).await;
    slow.expect(0..1).await;
    publish_numbers(channels, &channel, 1..300).await;
    quick.expect(0..300).await;
    assert!(matches!(slow.next().await, Some(Delivery::Slow)));
    assert!(slow.next().await.is_none());
    assert!(slow.next().await.is_none());
    let resume = Resume::After(slow.cursor);
    let mut slow = Listener::bounded(channels, &channel, resume, 2_048);
    slow.expect_begun().await;
    slow.expect(1..300).await;
}

async fn a_busy_listener_learns_that_it_is_too_slow<F: Fixture>() {
    let fixture = F::new(Retention::default()).await;
    let channels = fixture.channels();
    let channel = user("mia");
    let mut busy = channels.subscribe(channel.clone(), Resume::Live, 2_048);
    assert!(matches!(busy.next().await, Some(Delivery::Begun { .. })));
    let mut other = Listener::begun(channels, &channel, Resume::Live).await;
    publish_numbers(channels, &channel, 0..1).await;
    other.expect(0..1).await;
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(busy.poll_slow(&mut context).is_pending());
    let publishing = publish_numbers(channels, &channel, 1..300);
    let slow = std::future::poll_fn(|cx| busy.poll_slow(cx));
    tokio::time::timeout(testkit::LIMIT, async { tokio::join!(publishing, slow) })
        .await
        .expect("it is woken");
    assert!(busy.poll_slow(&mut context).is_ready());
    assert!(matches!(busy.next().await, Some(Delivery::Slow)));
    assert!(busy.next().await.is_none());
    assert!(busy.poll_slow(&mut context).is_ready());
}

async fn one_message_larger_than_the_queue_arrives<F: Fixture>() {
    let fixture = F::new(Retention::default()).await;
    let channels = fixture.channels();
    let channel = user("nora");
    let mut listener = Listener::bounded(channels, &channel, Resume::Live, 1_024);
    let start = listener.expect_begun().await;
    let mut large = numbered(&channel, 0);
    large.message.data = format!("{{\"n\":0}}{}", " ".repeat(100_000)).into();
    // The room the beginning took is free again once the listener asks.
    assert!(listener.silent().await);
    publish(channels, &[large]).await;
    let received = listener.take(1).await;
    assert_eq!(received[0].message.data.len(), 100_007);
    let mut again = Listener::bounded(channels, &channel, Resume::After(start), 1_024);
    again.expect_begun().await;
    again.take(1).await;
}

async fn listeners_come_and_go_without_disturbing_others<F: Fixture>() {
    let fixture = F::new(Retention::default()).await;
    let channels = fixture.channels();
    let channel = user("olga");
    let mut stays = Listener::begun(channels, &channel, Resume::Live).await;
    for n in 0..20 {
        let mut goes = Listener::begun(channels, &channel, Resume::Live).await;
        let never_begun = Listener::new(channels, &channel, Resume::Live);
        publish_numbers(channels, &channel, n..n + 1).await;
        goes.expect(n..n + 1).await;
        drop(never_begun);
    }
    stays.expect(0..20).await;
    drop(stays);
    // The last one went; the channel can be joined again at once, and again.
    for n in 20..30 {
        let mut back = Listener::begun(channels, &channel, Resume::Live).await;
        publish_numbers(channels, &channel, n..n + 1).await;
        back.expect(n..n + 1).await;
    }
}

async fn waiting_can_be_given_up_at_any_time<F: Fixture>() {
    let fixture = F::new(Retention::default()).await;
    let channels = fixture.channels();
    let channel = user("pia");
    let mut subscription = channels.subscribe(channel.clone(), Resume::Live, ROOMY);
    let publishing = {
        let channels = Arc::clone(channels);
        let channel = channel.clone();
        async move {
            for n in 0..100 {
                publish_numbers(&channels, &channel, n..n + 1).await;
            }
        }
    };
    assert!(matches!(
        subscription.next().await,
        Some(Delivery::Begun { .. })
    ));
    let publishing = tokio::spawn(publishing);
    let mut received = Vec::new();
    while received.len() < 100 {
        let next = tokio::time::timeout(Duration::from_micros(50), subscription.next());
        match next.await {
            Ok(Some(Delivery::Messages(batch))) => {
                received.extend(batch.entries().iter().map(number));
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => {}
        }
    }
    assert_eq!(received, (0..100).collect::<Vec<_>>());
    publishing.await.expect("published");
}

async fn everything_queued_is_had_without_waiting<F: Fixture>() {
    let fixture = F::new(Retention::default()).await;
    let channels = fixture.channels();
    let channel = user("quin");
    let mut idle = channels.subscribe(channel.clone(), Resume::Live, ROOMY);
    assert!(matches!(idle.next().await, Some(Delivery::Begun { .. })));
    let mut other = Listener::begun(channels, &channel, Resume::Live).await;
    for n in 0..10 {
        publish_numbers(channels, &channel, n..n + 1).await;
        // What one listener has, the other has queued.
        other.expect(n..n + 1).await;
    }
    let mut received = Vec::new();
    let wakers = std::task::Waker::noop();
    let mut context = std::task::Context::from_waker(wakers);
    while let std::task::Poll::Ready(Some(delivery)) = idle.poll_next(&mut context) {
        if let Delivery::Messages(batch) = delivery {
            received.extend(batch.entries().iter().map(number));
        }
    }
    // The very last may be on its way still.
    assert!(received.len() >= 9, "{received:?}");
    assert_eq!(received, (0..received.len()).collect::<Vec<_>>());
}

async fn the_end_of_the_channels_is_the_end_of_the_listeners<F: Fixture>() {
    let fixture = F::new(Retention::default()).await;
    let mut listener = Listener::begun(fixture.channels(), &user("rosa"), Resume::Live).await;
    drop(fixture);
    assert!(listener.next().await.is_none());
}
