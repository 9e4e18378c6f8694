//! Each event once, however often it was sent: both implementations promise it.

use domain::TenantId;
use live::{Channel, Outcome, Publication, Resume, Retention};
use testkit::{LIMIT, eventually};

use crate::support::{Fixture, Listener, heard, numbered, placed, publish, user};

for_both!(
    an_event_is_published_once_however_often_it_comes,
    an_event_of_several_channels_is_published_in_each,
    an_event_is_forgotten_after_its_time,
    without_a_time_every_event_is_published,
);

fn published(outcomes: &[Outcome]) -> Vec<bool> {
    let published = |outcome: &Outcome| match outcome {
        Outcome::Published(_) => true,
        Outcome::Duplicate => false,
        other => panic!("{other:?}"),
    };
    outcomes.iter().map(published).collect()
}

async fn an_event_is_published_once_however_often_it_comes<F: Fixture>() {
    let fixture = F::new(Retention::default()).await;
    let channels = fixture.channels();
    let channel = user("kit");
    let mut listener = Listener::begun(channels, &channel, Resume::Live).await;
    let publish =
        async |batch: &[Publication]| published(&channels.publish(batch).await.expect("published"));
    let same = |publication: &Publication, of: &Publication| Publication {
        event_id: of.event_id,
        ..publication.clone()
    };
    // In one batch, with others in between, with a place in the log and without.
    let first = numbered(&channel, 0);
    let batch = [
        first.clone(),
        first.clone(),
        numbered(&channel, 1),
        same(&placed(&channel, 7, 50), &first),
    ];
    assert_eq!(publish(&batch).await, [true, false, true, false]);
    // What was not published is done all the same: its place counts.
    assert_eq!(publish(&[placed(&channel, 7, 50)]).await, [false]);
    assert_eq!(publish(&[placed(&channel, 6, 40)]).await, [false]);

    // At two places of one partition, and of two.
    let sent = placed(&channel, 8, 60);
    let mut elsewhere = same(&placed(&channel, 3, 10), &sent);
    if let Some(position) = &mut elsewhere.position {
        position.partition = "topic/1".into();
    }
    assert_eq!(publish(std::slice::from_ref(&sent)).await, [true]);
    let again = [same(&placed(&channel, 9, 70), &sent), elsewhere.clone()];
    assert_eq!(publish(&again).await, [false, false]);
    elsewhere.event_id = first.event_id;
    assert_eq!(publish(&[elsewhere]).await, [false]);
    assert_eq!(publish(&[placed(&channel, 10, 80)]).await, [true]);

    listener.expect(0..2).await;
    listener.expect(8..9).await;
    listener.expect(10..11).await;
    assert!(listener.silent().await);
}

async fn an_event_of_several_channels_is_published_in_each<F: Fixture>() {
    let fixture = F::new(Retention::default()).await;
    let channels = fixture.channels();
    let tenant = TenantId::parse("acme").expect("tenant");
    let all = [
        user("kai"),
        user("kai:x"),
        user("tenant:acme:kai"),
        Channel::new(tenant, "kai"),
    ];
    for channel in &all {
        heard(channels, channel).await;
    }
    let one = numbered(&all[0], 0);
    let batch = all.iter().flat_map(|channel| {
        let publication = Publication {
            channel: channel.clone(),
            ..one.clone()
        };
        [publication.clone(), publication]
    });
    let outcomes = channels.publish(&batch.collect::<Vec<_>>()).await;
    let outcomes = outcomes.expect("published");
    assert_eq!(published(&outcomes), [true, false].repeat(all.len()));
}

async fn an_event_is_forgotten_after_its_time<F: Fixture>() {
    let retention = Retention {
        dedup_seconds: 2,
        ..Retention::default()
    };
    let fixture = F::new(retention).await;
    let channels = fixture.channels();
    let sent = numbered(&user("kurt"), 0);
    heard(channels, &sent.channel).await;
    let twice = [sent.clone(), sent.clone()];
    let outcomes = channels.publish(&twice).await.expect("published");
    assert_eq!(published(&outcomes), [true, false]);
    eventually("it is forgotten", LIMIT, || async {
        match &channels.publish(&twice[..1]).await.expect("published")[0] {
            Outcome::Published(_) => Ok(()),
            other => Err(other.clone()),
        }
    })
    .await;
}

async fn without_a_time_every_event_is_published<F: Fixture>() {
    let retention = Retention {
        dedup_seconds: 0,
        ..Retention::default()
    };
    let fixture = F::new(retention).await;
    let channels = fixture.channels();
    let channel = user("kay");
    let mut listener = Listener::begun(channels, &channel, Resume::Live).await;
    let sent = numbered(&channel, 0);
    publish(channels, &[sent.clone(), sent.clone()]).await;
    publish(channels, &[sent]).await;
    for _ in 0..3 {
        listener.expect(0..1).await;
    }
}
