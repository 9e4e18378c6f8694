//! What is announced is what the documents say, and whoever follows it gets it.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use serde_json::{Value, json};
use testkit::{Receiver, Reply};

use crate::documented::assert_as_documented;
use crate::sender::client;
use crate::world::{ANNOUNCEMENTS, PATIENCE, World, beside_others};

const EVENTS: usize = 40;

/// A record of `event-stream`.
pub(crate) struct Announced {
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) payload: Vec<u8>,
}

/// What a member of that group reads until there are so many.
pub(crate) fn follow(world: &World, group: &str, wanted: usize) -> Vec<Announced> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &world.parts.kafka_brokers)
        .set("group.id", world.topic(group))
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    consumer.subscribe(&[&world.topic(ANNOUNCEMENTS)]).unwrap();
    let started = std::time::Instant::now();
    let mut read = vec![];
    while read.len() < wanted {
        assert!(
            started.elapsed() < PATIENCE,
            "{group} got {} of {wanted}",
            read.len()
        );
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(200)) else {
            continue;
        };
        let text = |value: Option<&[u8]>| String::from_utf8(value.unwrap().to_vec()).unwrap();
        let headers = message.headers().unwrap().iter();
        read.push(Announced {
            headers: headers
                .map(|header| (header.key.to_owned(), text(header.value)))
                .collect(),
            payload: message.payload().unwrap().to_vec(),
        });
    }
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn three_services_follow_what_is_announced_as_documented() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let system = world.system().with_receivers().start().await;
    let post = async |url: String, body: Value| {
        let answer = client().post(url).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 201, "{:?}", answer.text().await);
    };
    let gone = Receiver::start(|_, _| Reply::status(410)).await.unwrap();
    let subscription = json!({"subscriber_name": "told", "callback_url": gone.url() + "?token=t"});
    post(
        system.query_url("/api/v1/events/subscriptions"),
        subscription,
    )
    .await;
    let projection = json!({"name": "totals", "entity_type": "user", "fold": {"rule": "count"}});
    post(system.query_url("/api/v1/events/projections"), projection).await;
    for n in 0..EVENTS {
        let event =
            json!({"event_type": "order.placed", "user_id": format!("u-{n}"), "data": {"n": n}});
        post(system.ingest_url("/api/events/create"), event).await;
    }

    let world = &world;
    let groups = [
        "event.audit_service",
        "event.analytics_service",
        "event.notification_service",
    ];
    let read = tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let following =
                groups.map(|group| scope.spawn(move || follow(world, group, EVENTS + 3)));
            following.map(|one| one.join().unwrap())
        })
    });
    for (group, read) in groups.iter().zip(&read) {
        let mut counts = BTreeMap::new();
        for one in read {
            let subject = one.headers["subject"].as_str();
            let payload = serde_json::from_slice(&one.payload).unwrap();
            assert_as_documented(subject, &payload);
            assert!(!payload.to_string().contains("token"), "no secret");
            *counts.entry(subject).or_insert(0) += 1;
        }
        let want = BTreeMap::from([
            ("event.projection.created", 1),
            ("event.stored", EVENTS),
            ("event.subscription.created", 1),
            ("event.subscription.disabled", 1),
        ]);
        assert_eq!(counts, want, "{group}");
    }
}
