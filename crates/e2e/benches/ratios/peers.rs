//! What the gateway is compared with.

use actix_web::web::{self, Bytes};
use actix_web::{App, HttpResponse, HttpServer};
use anyhow::Context;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use std::time::Duration;

/// `KIND PORT BROKERS TOPIC`.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let [kind, port, brokers, topic] = arguments else {
        anyhow::bail!("peer KIND PORT BROKERS TOPIC")
    };
    let port: u16 = port.parse().context("PORT")?;
    let (brokers, topic) = (brokers.clone(), topic.clone());
    let simple = kind == "simple";
    actix_web::rt::System::new().block_on(async move {
        if simple {
            let producer: FutureProducer = ClientConfig::new()
                .set("bootstrap.servers", brokers)
                .set("acks", "all")
                .set("enable.idempotence", "true")
                .set("compression.type", "lz4")
                .set("linger.ms", "0")
                .create()?;
            let data = web::Data::new((producer, topic));
            HttpServer::new(move || {
                App::new()
                    .app_data(data.clone())
                    .route("/", web::post().to(publish))
            })
            .bind(("127.0.0.1", port))?
            .run()
            .await?;
        } else {
            HttpServer::new(|| App::new().route("/", web::post().to(answer)))
                .bind(("127.0.0.1", port))?
                .run()
                .await?;
        }
        Ok(())
    })
}

/// The same server and answer without the log: reads the body, answers with an id.
async fn answer(body: Bytes) -> HttpResponse {
    if body.is_empty() {
        return HttpResponse::BadRequest().finish();
    }
    accepted()
}

/// The simplest gateway that only says yes once Kafka has.
async fn publish(body: Bytes, data: web::Data<(FutureProducer, String)>) -> HttpResponse {
    let (producer, topic) = &**data;
    let key = uuid::Uuid::now_v7().to_string();
    let record = FutureRecord::to(topic).key(&key).payload(&body[..]);
    match producer.send(record, Duration::from_secs(5)).await {
        Ok(_) => accepted(),
        Err(_) => HttpResponse::ServiceUnavailable().finish(),
    }
}

fn accepted() -> HttpResponse {
    HttpResponse::Created()
        .content_type("application/json")
        .body(format!(
            r#"{{"event_id":"{}","status":"pending"}}"#,
            uuid::Uuid::now_v7()
        ))
}
