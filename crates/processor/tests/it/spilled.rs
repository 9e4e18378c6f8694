//! A processor that only stores: what came past Kafka goes live from there, if it knows Redis.

use eventlog::postgres::{PostgresLog, PostgresLogConfig};
use eventlog::{Headers, Outgoing, PublishError, Publisher as _};
use serde_json::json;
use store::{Database, DatabaseConfig};
use testkit::{LIMIT, ServiceBuilder, TestService, eventually, eventually_eq};

use crate::world::{BACKEND, World};

fn stores(world: &World, database: &testkit::Database) -> ServiceBuilder {
    TestService::builder("processor")
        .database(database)
        .env("KAFKA_BROKERS", &world.parts.kafka_brokers)
        .env("KAFKA_TOPIC_PREFIX", world.topic(""))
        .env("KAFKA_GROUP_ID", world.topic("processor"))
        .env("KAFKA_PARTITIONS", 2)
        .env("PROCESSOR_ROLES", "store")
        .env("SSE_PREFIX", world.sse_prefix())
        .env("SSE_HISTORY", "all")
}

/// As a gateway does while Kafka is down.
async fn spill(world: &World, database: &testkit::Database, user: &str) {
    let db = Database::new(&DatabaseConfig {
        url: database.url.clone(),
        schema: "event".to_owned(),
        pool_size: 1,
        verify_tls: false,
        application_name: "spill".to_owned(),
    })
    .unwrap();
    let registry = prometheus::Registry::new();
    let log = PostgresLog::new(&db, PostgresLogConfig::default(), &registry).unwrap();
    let event = json!({"event_type": "a.b", "user_id": user, "data": {"n": 1}});
    let record = Outgoing {
        topic: world.topic(BACKEND).into(),
        key: user.as_bytes().to_vec(),
        headers: Headers::default(),
        payload: event.to_string().into(),
    };
    eventually("appended", LIMIT, || async {
        log.publish(std::slice::from_ref(&record))?.await?;
        Ok::<_, PublishError>(())
    })
    .await;
}

#[tokio::test]
async fn spilled_events_are_live_where_the_storing_process_knows_redis() {
    let world = World::shared().await;
    let database = world.parts.fresh_database().await;
    let redis = &world.parts.redis_url;
    let mut processor = stores(&world, &database)
        .env("REDIS_URL", redis)
        .start()
        .await;
    spill(&world, &database, "ann").await;
    let told = world.messages("ann", 1).await;
    assert_eq!(told[0].event, "a.b");
    assert_eq!(told[0].data["payload"], json!({"n": 1}));

    // What comes through Kafka is the bridge's.
    let event = json!({"event_type": "a.b", "user_id": "bob", "data": {}});
    world.send(BACKEND, [event]).await;
    eventually_eq("stored", 2, || database.count("events")).await;
    spill(&world, &database, "bob").await;
    assert_eq!(world.messages("bob", 1).await.len(), 1);
    assert!(processor.terminate().await.success());
    assert_eq!(
        database
            .count("log_positions where live < stored")
            .await
            .unwrap(),
        0
    );
}

#[tokio::test]
async fn one_that_does_not_know_redis_says_so_and_stores() {
    let world = World::shared().await;
    let database = world.parts.fresh_database().await;
    let processor = stores(&world, &database).start().await;
    spill(&world, &database, "ann").await;
    eventually_eq("stored", 1, || database.count("events")).await;
    assert_eq!(world.channel("ann").await.unwrap(), []);
    let said = processor.log().matches("REDIS_URL is not set").count();
    assert_eq!(said, 1, "{}", processor.log());
}
