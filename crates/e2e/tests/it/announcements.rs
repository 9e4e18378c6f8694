//! What is announced is what the documents say, and whoever follows it gets it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use serde_json::{Value, json};
use testkit::{Receiver, Reply};

use crate::sender::client;
use crate::world::{ANNOUNCEMENTS, PATIENCE, World, beside_others};

const DOCUMENT: &str = include_str!("../../../../docs/announcements.md");
const EVENTS: usize = 40;

/// The example of a subject, and which of its members are optional.
fn documented(subject: &str) -> (Value, BTreeSet<String>) {
    let (_, section) = DOCUMENT.split_once(&format!("\n## {subject}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let example = section
        .split("```")
        .nth(1)
        .unwrap()
        .strip_prefix("json")
        .unwrap();
    let optional = section
        .split_once("Optional: ")
        .map_or("", |(_, rest)| rest);
    let optional = optional.split(['.', '\n']).next().unwrap();
    let names = optional.split('`').skip(1).step_by(2).map(str::to_owned);
    (serde_json::from_str(example).unwrap(), names.collect())
}

/// Compares members and their types.
fn assert_as_documented(subject: &str, sent: &Value) {
    let (example, optional) = documented(subject);
    let (example, sent) = (example.as_object().unwrap(), sent.as_object().unwrap());
    for (name, value) in sent {
        let known = example
            .get(name)
            .unwrap_or_else(|| panic!("{subject}: {name} is not documented"));
        let kind = |value: &Value| std::mem::discriminant(value);
        let null = value.is_null() && optional.contains(name);
        assert!(
            null || kind(known) == kind(value),
            "{subject}: {name} is {value}"
        );
    }
    for name in example.keys().filter(|name| !optional.contains(*name)) {
        assert!(sent.contains_key(name), "{subject}: {name} is missing");
    }
}

/// Subject and payload of what a member of that group reads until there are so many.
fn follow(world: &World, group: &str, wanted: usize) -> Vec<(String, Value)> {
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
        let headers = message.headers().unwrap();
        let subject = headers
            .iter()
            .find(|header| header.key == "subject")
            .unwrap();
        let subject = String::from_utf8(subject.value.unwrap().to_vec()).unwrap();
        read.push((
            subject,
            serde_json::from_slice(message.payload().unwrap()).unwrap(),
        ));
    }
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn three_services_follow_what_is_announced_as_documented() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let system = world
        .system()
        .env("WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8")
        .env("PROCESSING_INTERVAL", 1)
        .start()
        .await;
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
        for (subject, payload) in read {
            assert_as_documented(subject, payload);
            *counts.entry(subject.as_str()).or_insert(0) += 1;
        }
        let want = BTreeMap::from([
            ("event.projection.created", 1),
            ("event.stored", EVENTS),
            ("event.subscription.created", 1),
            ("event.subscription.disabled", 1),
        ]);
        assert_eq!(counts, want, "{group}");
        assert!(!format!("{read:?}").contains("token"), "no secret");
    }
}
