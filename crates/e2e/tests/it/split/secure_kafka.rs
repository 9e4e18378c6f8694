//! Kafka with SASL over TLS.

use serde_json::Value;
use testkit::{KAFKA_USER, LIMIT, Part, Parts, TestService, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn events_go_through_a_kafka_with_sasl_over_tls() {
    let parts = Parts::private_of(&[Part::Kafka]).await.or_shared().await;
    let secure = parts.secure(&[Part::Kafka]).await;
    let database = parts.fresh_database().await;
    let (user, password) = KAFKA_USER;
    let authority = secure.authority.path("authority.pem");
    let start = |name: &str, password: &str| {
        TestService::builder(name)
            .database(&database)
            .env("KAFKA_BROKERS", &secure.kafka_brokers)
            .env("REDIS_URL", &parts.redis_url)
            .env("KAFKA_SECURITY_PROTOCOL", "sasl_ssl")
            .env("KAFKA_SASL_MECHANISM", "PLAIN")
            .env("KAFKA_SASL_USERNAME", user)
            .env("KAFKA_SASL_PASSWORD", password)
            .env("KAFKA_SSL_CA_LOCATION", &authority)
            .env("SPILL", "off")
    };
    let stranger = start("ingest", "wrong").spawn();
    let mut processor = start("processor", password)
        .env("PROCESSOR_ROLES", "store")
        .spawn();
    let ingest = start("ingest", password).start().await;
    processor.wait_ready().await;
    let http = reqwest::Client::new();
    let post = async |service: &TestService| {
        let answer = http
            .post(service.url("/api/v1/events/create"))
            .header("content-type", "application/json")
            .body(r#"{"event_type":"secure","user_id":"u"}"#)
            .send()
            .await
            .map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.map_err(|error| error.to_string())?;
        Ok::<_, String>((status, body))
    };
    // A broker that has just begun has no number for the producer yet: 503, come again.
    let event = eventually("an event is taken", LIMIT, || async {
        match post(&ingest).await? {
            (201, event) => Ok(event),
            (503, problem) => Err(problem.to_string()),
            other => panic!("{other:?}"),
        }
    })
    .await;
    let id: uuid::Uuid = event["event_id"].as_str().unwrap().parse().unwrap();
    eventually("it is stored", LIMIT, || async {
        let count = "select count(*) from events where event_id = $1";
        match database.scalar::<i64>(count, &[&id]).await {
            Ok(1) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let (status, body) = post(&stranger).await.unwrap();
    assert_eq!(status, 503, "{body}");
}
