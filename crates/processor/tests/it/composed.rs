//! The processor as a part of a larger process: on PostgreSQL alone, with live channels that stay
//! within the process.

use std::collections::HashMap;
use std::sync::Arc;

use config::Env;
use domain::Event;
use eventlog::postgres::{PostgresLog, PostgresLogConfig};
use eventlog::{Headers, Outgoing, PublishError, Publisher as _};
use live::local::LocalChannels;
use live::{Channel, Channels as _, Delivery, Resume, Retention};
use processor::bridge::Extension;
use processor::bridge::metrics::Metrics;
use processor::config::Config;
use processor::{Deps, Processor};
use serde_json::{Map, Value, json};
use service::auth::Authenticator;
use service::health::Health;
use store::Database;
use testkit::{LIMIT, Parts, eventually};

/// An extension that counts (S2-67).
struct Clicks;

impl Extension for Clicks {
    fn published(&self, event: &Event, metrics: &Metrics) {
        assert_eq!(event.event_type, "page.click");
        metrics.record_custom_metric("last_click", 7.0);
    }

    fn get_custom_health_status(&self) -> Map<String, Value> {
        Map::from_iter([("clicks".to_owned(), json!("fine"))])
    }
}

#[tokio::test]
async fn without_kafka_and_redis_events_are_stored_and_delivered() {
    let database = Parts::shared().await.fresh_database().await;
    let env = Env::from_map(HashMap::from([
        ("DATABASE_URL".to_owned(), database.url.clone()),
        ("EVENT_SERVICE_HOST".to_owned(), "127.0.0.1".to_owned()),
        ("PROCESSOR_PORT".to_owned(), "0".to_owned()),
        // Nothing may connect to it.
        ("REDIS_URL".to_owned(), "redis://127.0.0.1:1/0".to_owned()),
        ("BRIDGE_PASS_THROUGH".to_owned(), "trace_id".to_owned()),
    ]));
    let mut config = Config::from_env(&env).unwrap();
    config.kafka = None;
    let http = config.http.clone();
    let db = Database::new(&config.database).unwrap();
    let channels = Arc::new(LocalChannels::new(Retention::default()));
    let registry = prometheus::Registry::new();
    let processor = Processor::new(
        config,
        &registry,
        Deps {
            channels: Some(Arc::clone(&channels) as _),
            local: true,
            extension: Some(Arc::new(Clicks)),
            ..Deps::default()
        },
    )
    .unwrap();
    let health = processor.health(Health::new("all"));
    let auth = Authenticator::start(&http.auth, &http.host, &registry).unwrap();
    let bound =
        service::http::bind(&http, &auth, &registry, &health, processor.configure()).unwrap();
    let server = tokio::spawn(bound.server);
    let get = async |path: &str| {
        let answer = reqwest::get(format!("http://{}{path}", bound.address)).await;
        answer.unwrap().text().await.unwrap()
    };
    eventually("ready", LIMIT, || async {
        let ready: Value = serde_json::from_str(&get("/ready").await).unwrap();
        if ready["status"] == "ready" {
            Ok(())
        } else {
            Err(ready)
        }
    })
    .await;

    let mut listener = channels.subscribe(
        Channel::new(Default::default(), "ann"),
        Resume::Live,
        1024 * 1024,
    );
    assert!(matches!(
        listener.next().await,
        Some(Delivery::Begun { .. })
    ));
    let log = PostgresLog::new(&db, PostgresLogConfig::default(), &registry).unwrap();
    let payload = json!({"event_id": "e-1", "event_type": "page.click", "aggregate_id": "p-1",
        "trace_id": "t-1", "payload": {"user_id": "ann", "n": 1}});
    let record = Outgoing {
        topic: "events.backend.service".into(),
        key: b"ann".to_vec(),
        headers: Headers::default(),
        payload: payload.to_string().into(),
    };
    eventually("published", LIMIT, || async {
        log.publish(std::slice::from_ref(&record))?.await?;
        Ok::<_, PublishError>(())
    })
    .await;
    let delivery = tokio::time::timeout(LIMIT, listener.next()).await.unwrap();
    let Some(Delivery::Messages(batch)) = delivery else {
        panic!("{delivery:?}");
    };
    let message = &batch.entries()[0].message;
    assert_eq!(message.event, "page.click");
    let data: Value = serde_json::from_slice(&message.data).unwrap();
    assert_eq!(data["payload"], json!({"n": 1}));
    // What stood beside the payload has come along, though no record of Kafka is at hand.
    assert_eq!(data["trace_id"], "t-1");
    // It is delivered after it was stored.
    assert_eq!(database.count("events").await.unwrap(), 1);

    let status: Value = serde_json::from_str(&get("/api/v1/bridge/health").await).unwrap();
    assert_eq!(status["status"], "healthy", "{status}");
    assert_eq!(status["custom"], json!({"clicks": "fine"}));
    let metrics = get("/metrics").await;
    assert!(
        metrics.contains("eventbridge_custom{name=\"last_click\"} 7"),
        "{metrics}"
    );

    processor.stop().await;
    bound.handle.stop(true).await;
    server.await.unwrap().unwrap();
}
