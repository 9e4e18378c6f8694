//! What the measurements of live delivery share: the services, their events, their streams.

use anyhow::ensure;
use serde_json::{Value, json};
use testkit::{Parts, TestService};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// The services that live delivery needs.
pub(crate) struct Live {
    pub(crate) ingest: TestService,
    pub(crate) query: TestService,
    bridge: TestService,
}

impl Live {
    pub(crate) async fn start(parts: &Parts) -> Self {
        let prefix = testkit::topic_prefix();
        let service = |name: &str| {
            TestService::builder(name)
                .parts(parts)
                .env("KAFKA_TOPIC_PREFIX", &prefix)
                .env("BRIDGE_GROUP_ID", format!("{prefix}bridge"))
                .env("SSE_PREFIX", format!("{prefix}sse:user:"))
                .env("SSE_MAX_CONNECTIONS_PER_USER", 10_000)
                .env("PROCESSOR_ROLES", "bridge")
                .env("LOG_LEVEL", "WARN")
        };
        let bridge = service("processor").start().await;
        Self {
            ingest: service("ingest").start().await,
            query: service("query").start().await,
            bridge,
        }
    }

    /// The mean of a histogram of the bridge's, in microseconds.
    pub(crate) async fn mean(&self, histogram: &str) -> anyhow::Result<f64> {
        let text = reqwest::get(self.bridge.url("/metrics"))
            .await?
            .text()
            .await?;
        let value = |suffix: &str| {
            let name = format!("{histogram}_{suffix} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&name));
            line.and_then(|value| value.parse::<f64>().ok())
                .unwrap_or(f64::NAN)
        };
        Ok(value("sum") / value("count") * 1e6)
    }

    pub(crate) fn stream(&self, user: &str) -> String {
        self.query.url(&format!("/api/v1/sse/users/{user}"))
    }
}

pub(crate) fn event(user: &str, n: u64, note: &str) -> Value {
    json!({
        "event_type": "bench.live", "event_source": "backend", "event_category": "user_action",
        "user_id": user,
        "data": {"n": n, "product_id": "p-1234", "price": 12.5, "currency": "EUR", "note": note},
    })
}

/// Sends the request for a stream and reads up to the end of the answer's head.
async fn open(address: (&str, u16), path: &str) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    ensure!(
        head.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&head)
    );
    Ok(stream)
}

/// Opens many streams, a hundred at a time.
pub(crate) async fn open_many(
    port: u16,
    count: usize,
    path: impl Fn(usize) -> String,
) -> anyhow::Result<Vec<TcpStream>> {
    let mut streams = Vec::with_capacity(count);
    for first in (0..count).step_by(100) {
        let mut opening = JoinSet::new();
        for n in first..(first + 100).min(count) {
            let path = path(n);
            opening.spawn(async move { open(("127.0.0.1", port), &path).await });
        }
        for stream in opening.join_all().await {
            streams.push(stream?);
        }
    }
    Ok(streams)
}
