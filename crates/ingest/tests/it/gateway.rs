//! What the tests share: a running gateway and a way to ask it.

use std::io::Write;

use serde_json::Value;
use testkit::{Kcat, LIMIT, Message, Parts, ServiceBuilder, TestService, eventually, topic_prefix};

pub(crate) const BACKEND: &str = "events.backend.service";

/// A gateway with topics of its own.
pub(crate) struct Gateway {
    pub(crate) service: TestService,
    client: reqwest::Client,
    kcat: Kcat,
    prefix: String,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map(|value| value.to_str().unwrap())
            .unwrap_or_default()
    }
}

impl Gateway {
    pub(crate) async fn start() -> Self {
        Self::with(|builder| builder).await
    }

    pub(crate) async fn with(settings: impl FnOnce(ServiceBuilder) -> ServiceBuilder) -> Self {
        Self::on(&Parts::shared().await, settings).await
    }

    pub(crate) async fn on(
        parts: &Parts,
        settings: impl FnOnce(ServiceBuilder) -> ServiceBuilder,
    ) -> Self {
        let prefix = topic_prefix();
        let builder = TestService::builder("ingest")
            .parts(parts)
            .env("KAFKA_TOPIC_PREFIX", &prefix)
            .env("KAFKA_PARTITIONS", 2);
        Self {
            service: settings(builder).start().await,
            client: reqwest::Client::new(),
            kcat: Kcat::new(&parts.kafka_brokers),
            prefix,
        }
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        let method = method.parse().unwrap();
        let mut request = self
            .client
            .request(method, self.service.url(path))
            .body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await.unwrap(),
        }
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        self.send("POST", path, &[("Content-Type", "application/json")], body)
            .await
    }

    /// Sends a backend event until it is taken: a broker that has just started may not be ready.
    pub(crate) async fn accepted(&self, event: &'static str) {
        eventually("taken", LIMIT, || async {
            let answer = self.post("/api/events", event).await;
            (answer.status == 202).then_some(()).ok_or(answer)
        })
        .await;
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    /// The record of an event on a topic; it must be there, for it was acknowledged.
    pub(crate) async fn record(&self, topic: &str, event_id: &str) -> (Message, Value) {
        let topic = format!("{}{topic}", self.prefix);
        eventually("the record", LIMIT, || async {
            let found = self
                .kcat
                .consume(&topic)
                .await
                .map_err(|error| error.to_string())?
                .into_iter()
                .find_map(|message| {
                    let event: Value = serde_json::from_str(message.payload.as_deref()?).ok()?;
                    (event["event_id"] == event_id).then_some((message, event))
                });
            found.ok_or_else(|| format!("no {event_id} on {topic}"))
        })
        .await
    }

    /// The ids of the events on a topic.
    pub(crate) async fn ids(&self, topic: &str) -> Vec<String> {
        let topic = format!("{}{topic}", self.prefix);
        eventually("the records", LIMIT, || self.kcat.consume(&topic))
            .await
            .into_iter()
            .filter_map(|message| {
                let event: Value = serde_json::from_str(message.payload.as_deref()?).ok()?;
                Some(event["event_id"].as_str()?.to_owned())
            })
            .collect()
    }

    /// How many records a topic holds.
    pub(crate) async fn count(&self, topic: &str) -> usize {
        let topic = format!("{}{topic}", self.prefix);
        eventually("the records", LIMIT, || self.kcat.consume(&topic))
            .await
            .len()
    }
}

/// Packs with gzip.
pub(crate) fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(plain).unwrap();
    out.finish().unwrap()
}
