//! What the tests share: a bridge with topics, group and keys of its own, and a way to look.

use std::process::{Command, Output, Stdio};

use redis::AsyncCommands as _;
use redis::streams::StreamRangeReply;
use serde_json::Value;
use testkit::{Kcat, LIMIT, Parts, ServiceBuilder, TestService, eventually, topic_prefix};

pub(crate) const BACKEND: &str = "events.backend.service";

/// See the module.
pub(crate) struct World {
    pub(crate) parts: Parts,
    pub(crate) kcat: Kcat,
    prefix: String,
}

/// A message of a channel.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) event: String,
    pub(crate) data: Value,
    pub(crate) fields: usize,
}

impl World {
    pub(crate) async fn shared() -> Self {
        Self::on(Parts::shared().await)
    }

    pub(crate) fn on(parts: Parts) -> Self {
        Self {
            kcat: Kcat::new(&parts.kafka_brokers),
            prefix: topic_prefix(),
            parts,
        }
    }

    pub(crate) fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub(crate) fn sse_prefix(&self) -> String {
        format!("{}sse:", self.prefix)
    }

    /// A bridge alone. Its database does not exist.
    pub(crate) fn bridge(&self) -> ServiceBuilder {
        TestService::builder("processor")
            .env("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
            .env("KAFKA_BROKERS", &self.parts.kafka_brokers)
            .env("REDIS_URL", &self.parts.redis_url)
            .env("PROCESSOR_ROLES", "bridge")
            .env("KAFKA_TOPIC_PREFIX", &self.prefix)
            .env("KAFKA_PARTITIONS", 2)
            .env("KAFKA_SESSION_TIMEOUT_MS", 6_000)
            .env("SSE_PREFIX", self.sse_prefix())
            // These tests look at the channels themselves.
            .env("SSE_HISTORY", "all")
            .env("BREAKER_RECOVERY_TIMEOUT", 1)
            .env("REDIS_TIMEOUT_MS", 10_000)
    }

    pub(crate) async fn send(&self, topic: &str, events: impl IntoIterator<Item = Value>) {
        let lines = events.into_iter().map(|event| {
            let key = event["user_id"].as_str().unwrap_or("key").to_owned();
            (key, event.to_string())
        });
        let topic = self.topic(topic);
        self.kcat.produce_lines(&topic, lines).await.unwrap();
    }

    pub(crate) async fn redis(&self) -> anyhow::Result<redis::aio::MultiplexedConnection> {
        let client = redis::Client::open(self.parts.redis_url.as_str())?;
        Ok(client.get_multiplexed_async_connection().await?)
    }

    /// Everything in a user's channel.
    pub(crate) async fn channel(&self, user: &str) -> anyhow::Result<Vec<Message>> {
        let key = format!("{}{user}", self.sse_prefix());
        let entries: StreamRangeReply = self.redis().await?.xrange_all(key).await?;
        entries
            .ids
            .into_iter()
            .map(|entry| {
                let text = |name: &str| -> String { entry.get(name).unwrap_or_default() };
                assert_eq!(
                    (text("scope"), text("version")),
                    ("user".into(), "1.0".into())
                );
                Ok(Message {
                    event: text("event"),
                    data: serde_json::from_str(&text("data"))?,
                    fields: entry.map.len(),
                    id: entry.id,
                })
            })
            .collect()
    }

    /// Waits until a user's channel has that many messages.
    pub(crate) async fn messages(&self, user: &str, count: usize) -> Vec<Message> {
        eventually("the messages", LIMIT, || async {
            let found = self.channel(user).await.map_err(|e| format!("{e:#}"))?;
            if found.len() >= count {
                Ok(found)
            } else {
                Err(format!("{} of {count}", found.len()))
            }
        })
        .await
    }
}

/// The sum of all samples of `/metrics` whose line begins with `name` and holds all `labels`.
pub(crate) async fn metric(service: &TestService, name: &str, labels: &[&str]) -> f64 {
    let answer = reqwest::get(service.url("/metrics")).await.unwrap();
    let text = answer.text().await.unwrap();
    text.lines()
        .filter(|line| line.starts_with(name) && labels.iter().all(|label| line.contains(label)))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

/// How many events had that status.
pub(crate) async fn events(service: &TestService, status: &str) -> f64 {
    let status = format!("status=\"{status}\"");
    metric(service, "eventbridge_events_total{", &[&status]).await
}

/// How many events were not published for that reason.
pub(crate) async fn rejected(service: &TestService, reason: &str) -> f64 {
    let reason = format!("reason=\"{reason}\"");
    metric(service, "eventbridge_rejected_total{", &[&reason]).await
}

/// Waits for a number.
pub(crate) async fn wait<F, R>(what: &str, check: impl Fn(f64) -> bool, read: F)
where
    F: Fn() -> R,
    R: Future<Output = f64>,
{
    eventually(what, LIMIT, || async {
        let value = read().await;
        if check(value) { Ok(()) } else { Err(value) }
    })
    .await;
}

pub(crate) async fn health(service: &TestService) -> Value {
    let url = service.url("/api/v1/bridge/health");
    let answer = reqwest::get(url).await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.json().await.unwrap()
}

/// Runs the built processor to its end with nothing but these variables.
pub(crate) fn run(arguments: &[&str], environment: &[(&str, &str)], input: &str) -> Output {
    use std::io::Write as _;

    let directory = std::env::var_os("TIDEGATE_BIN_DIR").map_or_else(
        || {
            // target/debug/deps/it-0123 -> target/debug
            let own = std::env::current_exe().unwrap();
            own.ancestors().nth(2).unwrap().to_owned()
        },
        Into::into,
    );
    let mut child = Command::new(directory.join("processor"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("processor: {error}; build it: cargo build -p processor"));
    let mut stdin = child.stdin.take().unwrap();
    // One that refuses its settings does not read its input.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().unwrap()
}
