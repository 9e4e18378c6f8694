//! What is announced is announced on NATS too, where that is wanted: each once, whatever dies.

use std::collections::{BTreeMap, BTreeSet};

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use testkit::{Nats, Receiver, Reply, eventually, eventually_eq};

use crate::documented::assert_as_documented;
use crate::nats::client as client_of;
use crate::sender::client;
use crate::world::{PATIENCE, World, beside_others};

/// The stream, as it is named in the settings.
const STREAM: &str = "told";
/// The announcements that follow the life of something (S4-98 to S4-104).
const LIFECYCLE: [&str; 8] = [
    "event.stored",
    "event.processed.success",
    "event.processed.failed",
    "event.subscription.created",
    "event.subscription.disabled",
    "event.projection.created",
    "event.replay.started",
    "event.replay.completed",
];

struct Told {
    subject: String,
    tenant: String,
    bytes: Vec<u8>,
    payload: Value,
}

/// Everything in the stream, once it has so many messages.
async fn told(context: &Context, wanted: u64) -> Vec<Told> {
    let stream = eventually("the announcements", PATIENCE, || async {
        let mut stream = context
            .get_stream(STREAM)
            .await
            .map_err(|error| error.to_string())?;
        let info = stream.info().await.map_err(|error| error.to_string())?;
        match info.state.messages {
            has if has >= wanted => Ok(stream.clone()),
            has => Err(format!("{has} of {wanted}")),
        }
    })
    .await;
    let all = pull::Config {
        ack_policy: AckPolicy::None,
        ..pull::Config::default()
    };
    let consumer: PullConsumer = stream.create_consumer(all).await.unwrap();
    let has = stream.cached_info().state.messages;
    let messages = consumer.messages().await.unwrap();
    let messages: Vec<_> = messages.take(usize::try_from(has).unwrap()).collect().await;
    messages
        .into_iter()
        .map(|message| {
            let message = message.unwrap();
            let headers = message.headers.clone().unwrap();
            let header = |name: &str| headers.get(name).unwrap().to_string();
            assert!(!header("Nats-Msg-Id").is_empty());
            assert_eq!(
                message.subject.as_str(),
                format!("{STREAM}.{}", header("subject"))
            );
            Told {
                subject: header("subject"),
                tenant: header("tenant"),
                payload: serde_json::from_slice(&message.payload).unwrap(),
                bytes: message.payload.to_vec(),
            }
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_announcement_is_on_nats_once_whatever_dies() {
    const PART: usize = 40;
    let _turn = beside_others().await;
    let world = World::shared().await;
    let mut nats = Nats::start().await;
    let mut system = world
        .system()
        .env("NATS_URL", nats.url())
        .env("NATS_ANNOUNCEMENTS", STREAM)
        .with_receivers()
        .start()
        .await;
    let post = async |url: String, body: Value| {
        let answer = client().post(url).json(&body).send().await.unwrap();
        let status = answer.status();
        assert!(status.is_success(), "{:?}", answer.text().await);
    };
    let gone = Receiver::start(|_, _| Reply::status(410)).await.unwrap();
    let path = |system: &crate::system::System, name: &str| {
        system.query_url(&format!("/api/v1/events/{name}"))
    };
    let subscription = json!({"subscriber_name": "told", "callback_url": gone.url()});
    post(path(&system, "subscriptions"), subscription).await;
    let projection = json!({"name": "totals", "entity_type": "user", "fold": {"rule": "count"}});
    post(path(&system, "projections"), projection).await;
    let log = json!({"processor_name": "logs", "processor_type": "log"});
    post(path(&system, "processors"), log).await;
    let mut sent = BTreeSet::new();
    let mut send = async |system: &crate::system::System, count: usize| {
        for _ in 0..count {
            let id = uuid::Uuid::now_v7();
            sent.insert(id.to_string());
            let event = json!({"event_id": id, "event_type": "order.placed", "user_id": "u-1",
                "aggregate_type": "order", "aggregate_id": "7"});
            post(system.ingest_url("/api/events/create"), event).await;
        }
    };
    send(&system, PART).await;
    let context = client_of(&nats).await;
    told(&context, 1).await;

    // The server is away: nothing but its own announcements waits.
    nats.kill().await;
    send(&system, PART).await;
    eventually_eq("stored events", 2 * PART as i64, || {
        world.database.count("event_ids")
    })
    .await;
    eventually("its announcements wait", PATIENCE, || async {
        let waits = world.database.count("outbox where sink = 2").await;
        match waits {
            Ok(waits) if waits >= PART as i64 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    eventually_eq("Kafka has all of its own", 0, || {
        world.database.count("outbox where sink = 1")
    })
    .await;
    // The one who sends them dies too.
    system.processor_mut().kill();
    nats.restart().await;
    system.processor_mut().restart().await;
    send(&system, PART).await;
    let replay = json!({"stream_id": "order:7"});
    post(path(&system, "replay"), replay).await;
    let leases = "update work set due_at = now() where due_at > now() + interval '4 seconds'";
    world.database.rows(leases, &[]).await.unwrap();
    eventually("all is done", PATIENCE, || async {
        let database = &world.database;
        let replayed = database.count("replays where state = 'completed'").await;
        let open = database.count("work where kind = 1").await;
        let left = database.count("outbox").await;
        match (replayed, open, left) {
            (Ok(1), Ok(0), Ok(0)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;

    let context = client_of(&nats).await;
    let all = told(&context, 2 * 3 * PART as u64 + 5).await;
    // As after a death between the server's acknowledgement and the commit that removes the row.
    let last = all.iter().rfind(|one| one.subject == "event.stored");
    let again = "insert into outbox (sink, tenant_id, subject, key, payload) \
        values (2, 'default', 'event.stored', '', $1)";
    let rows = world.database.rows(again, &[&last.unwrap().bytes]).await;
    rows.unwrap();
    eventually_eq("it is sent again", 0, || world.database.count("outbox")).await;
    let all = told(&context, all.len() as u64).await;
    let mut counts = BTreeMap::new();
    let mut stored = vec![];
    for one in &all {
        assert_as_documented(&one.subject, &one.payload);
        assert_eq!(one.tenant, "default");
        *counts.entry(one.subject.as_str()).or_insert(0_usize) += 1;
        if one.subject == "event.stored" {
            stored.push(one.payload["event_id"].as_str().unwrap().to_owned());
        }
    }
    let events = 3 * PART;
    for subject in LIFECYCLE {
        let wanted = match subject {
            "event.stored" => events,
            "event.processed.success" => events,
            "event.processed.failed" => 0,
            _ => 1,
        };
        let has = counts.get(subject).copied().unwrap_or(0);
        assert_eq!(has, wanted, "{subject}: {counts:?}");
    }
    assert_eq!(stored.iter().cloned().collect::<BTreeSet<_>>(), sent);
    assert_eq!(
        stored.len(),
        sent.len(),
        "repeats are dropped by the server"
    );
    system.assert_well();
}
