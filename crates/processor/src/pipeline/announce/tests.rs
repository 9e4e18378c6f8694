use domain::envelope::Origin;
use domain::{Context, EventCategory, EventSource, Limits};
use prometheus::Registry;
use store::{DatabaseConfig, migrate};
use testkit::{LIMIT, Parts, eventually, eventually_eq};
use time::OffsetDateTime;

use super::*;

#[test]
fn the_payload_has_the_specified_fields() {
    let tenant = TenantId::default();
    let cx = Context {
        origin: Origin::Http,
        tenant: &tenant,
        received_at: OffsetDateTime::UNIX_EPOCH,
        fresh_id: uuid::Uuid::nil(),
        default_source: EventSource::Backend,
        default_category: EventCategory::UserAction,
        content_type: None,
        limits: Limits::default(),
    };
    let body = br#"{"event_type":"a.b","user_id":"u\"1","data":{"n":1}}"#;
    let event = domain::decode(body, &cx).unwrap();
    let value: serde_json::Value = serde_json::from_slice(&payload(&event)).unwrap();
    assert_eq!(
        value,
        serde_json::json!({
            "event_id": "00000000-0000-0000-0000-000000000000",
            "event_type": "a.b",
            "event_source": "backend",
            "event_category": "user_action",
            "user_id": "u\"1",
            "timestamp": "1970-01-01T00:00:00Z",
            "data": {"n": 1},
        })
    );
}

/// More is due than one round takes, and nobody will tell any more.
#[tokio::test]
async fn announcing_what_an_outage_left_does_not_hold_up_the_end() {
    let parts = Parts::shared().await;
    let fresh = parts.fresh_database().await;
    let db = Database::new(&DatabaseConfig {
        url: fresh.url.clone(),
        schema: "event".to_owned(),
        pool_size: 2,
        verify_tls: false,
        application_name: "announcing tests".to_owned(),
    })
    .unwrap();
    migrate::run(&db).await.unwrap();
    let client = fresh.connect().await.unwrap();
    // Of events that are gone since; they take as many rounds as others.
    let rounds = 5;
    let due = format!(
        "insert into announcements_due (tenant_id, event_id, timestamp) \
         select 'default', gen_random_uuid(), now() from generate_series(1, {})",
        rounds * PER_PUBLISH
    );
    client.batch_execute(&due).await.unwrap();
    let config = eventlog::kafka::KafkaConfig {
        brokers: parts.kafka_brokers.clone(),
        ..eventlog::kafka::KafkaConfig::default()
    };
    let producer = Arc::new(Producer::new(&config, &Registry::new()).unwrap());
    eventually("the producer connects", LIMIT, || async {
        producer.connected().then_some(()).ok_or("not yet")
    })
    .await;
    let metrics = Arc::new(Metrics::register(&Registry::new()).unwrap());
    let announcer = || {
        DueAnnouncer::new(
            db.clone(),
            Arc::clone(&producer),
            "unused".to_owned(),
            Arc::clone(&metrics),
        )
    };
    let left = async || fresh.count("announcements_due").await;

    let (tell, told) = mpsc::channel(1);
    drop(tell);
    announcer().run(told).await;
    let expected = i64::try_from((rounds - 1) * PER_PUBLISH).unwrap();
    assert_eq!(left().await.unwrap(), expected);

    // While somebody may tell, all of it goes.
    let (tell, told) = mpsc::channel(1);
    let going = tokio::spawn(announcer().run(told));
    eventually_eq("announcements due", 0, &left).await;
    drop(tell);
    going.await.unwrap();
}
