//! What the gateway is compared with.

use actix_web::web::{self, Bytes};
use actix_web::{App, HttpResponse, HttpServer};
use anyhow::Context;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::value::RawValue;
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
                    .route("/batch", web::post().to(publish_many))
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

/// The same for an array: each element is a record of its own, and the answer has their ids.
async fn publish_many(body: Bytes, data: web::Data<(FutureProducer, String)>) -> HttpResponse {
    let (producer, topic) = &**data;
    let Ok(elements) = serde_json::from_slice::<Vec<&RawValue>>(&body) else {
        return HttpResponse::BadRequest().finish();
    };
    let ids: Vec<String> = elements
        .iter()
        .map(|_| uuid::Uuid::now_v7().to_string())
        .collect();
    let records = ids.iter().zip(&elements).map(|(id, element)| {
        let record = FutureRecord::to(topic).key(id).payload(element.get());
        producer.send_result(record).ok()
    });
    let Some(deliveries) = records.collect::<Option<Vec<_>>>() else {
        return HttpResponse::ServiceUnavailable().finish();
    };
    for delivery in deliveries {
        if !matches!(delivery.await, Ok(Ok(_))) {
            return HttpResponse::ServiceUnavailable().finish();
        }
    }
    let answers = ids
        .iter()
        .map(|id| format!(r#"{{"event_id":"{id}","status":"pending"}}"#));
    HttpResponse::Created()
        .content_type("application/json")
        .body(format!("[{}]", answers.collect::<Vec<_>>().join(",")))
}

fn accepted() -> HttpResponse {
    HttpResponse::Created()
        .content_type("application/json")
        .body(format!(
            r#"{{"event_id":"{}","status":"pending"}}"#,
            uuid::Uuid::now_v7()
        ))
}
