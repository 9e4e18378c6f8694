//! One test's own corner of the real parts: a database, topics, a consumer group, services.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use testkit::{Database, Kcat, Part, Parts, ServiceBuilder, TestService, eventually, topic_prefix};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// How long working off a load may take on a busy machine. It only ends tests that hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// The topics events come in on, as the specification names them.
pub(crate) const BACKEND: &str = "events.backend.service";
pub(crate) const USER_INTERACTION: &str = "events.frontend.user_interaction";
pub(crate) const BUSINESS_ACTION: &str = "events.frontend.business_action";
pub(crate) const SYSTEM_EVENT: &str = "events.frontend.system_event";
/// A topic of other people's events, consumed by configuration.
pub(crate) const DOMAIN: &str = "genesis.domain.events";
/// Where stored events are announced.
pub(crate) const ANNOUNCEMENTS: &str = "event-stream";

/// Everything the processor consumes here.
pub(crate) const TOPICS: [&str; 5] = [
    BACKEND,
    USER_INTERACTION,
    BUSINESS_ACTION,
    SYSTEM_EVENT,
    DOMAIN,
];
/// Partitions of each topic.
pub(crate) const PARTITIONS: i32 = 6;

static TURN: RwLock<()> = RwLock::const_new(());

/// For a test that fills the machine: nothing else runs meanwhile.
pub(crate) async fn alone() -> RwLockWriteGuard<'static, ()> {
    TURN.write().await
}

/// For a test that mostly waits.
pub(crate) async fn beside_others() -> RwLockReadGuard<'static, ()> {
    TURN.read().await
}

/// See the module. The database goes before the parts it lives in.
pub(crate) struct World {
    pub(crate) database: Database,
    pub(crate) prefix: String,
    pub(crate) kcat: Kcat,
    pub(crate) parts: Parts,
}

impl World {
    /// On the parts that all tests share.
    pub(crate) async fn shared() -> Self {
        Self::on(Parts::shared().await).await
    }

    /// On a PostgreSQL and a Kafka that this test may kill.
    pub(crate) async fn private() -> Self {
        Self::on(Parts::private_of(&[Part::Postgres, Part::Kafka]).await).await
    }

    async fn on(parts: Parts) -> Self {
        Self {
            database: parts.fresh_database().await,
            prefix: topic_prefix(),
            kcat: Kcat::new(&parts.kafka_brokers),
            parts,
        }
    }

    /// The full name of a topic.
    pub(crate) fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A service of this world, not started yet.
    pub(crate) fn service(&self, name: &str) -> ServiceBuilder {
        TestService::builder(name)
            .parts(&self.parts)
            .database(&self.database)
            .env("KAFKA_TOPIC_PREFIX", &self.prefix)
            .env("KAFKA_PARTITIONS", PARTITIONS)
    }

    /// A processor, not started yet. A dead one is missed after 6 s, the least Kafka allows.
    pub(crate) fn processor(&self) -> ServiceBuilder {
        self.service("processor")
            .env("KAFKA_GROUP_ID", self.topic("processor"))
            .env("KAFKA_DOMAIN_TOPICS", DOMAIN)
            .env("KAFKA_SESSION_TIMEOUT_MS", 6_000)
    }

    /// A processor that has partitions, topics and schema.
    pub(crate) async fn start_processor(&self) -> TestService {
        let processor = self.processor().start().await;
        wait_assigned(&[&processor]).await;
        processor
    }
}

/// Waits until these processors hold all partitions between them, and each at least one.
pub(crate) async fn wait_assigned(processors: &[&TestService]) {
    let all = TOPICS.len() * usize::try_from(PARTITIONS).unwrap();
    eventually("all partitions assigned", PATIENCE, || async {
        let mut held = Vec::new();
        for processor in processors {
            held.push(partitions_held(processor).await);
        }
        let together: BTreeSet<_> = held.iter().flatten().collect();
        let sum: usize = held.iter().map(BTreeSet::len).sum();
        let fair = held.iter().all(|own| !own.is_empty());
        if fair && together.len() == all && sum == all {
            Ok(())
        } else {
            Err(held.iter().map(BTreeSet::len).collect::<Vec<_>>())
        }
    })
    .await;
}

/// Topic and partition of everything a processor holds, by its own metrics; empty if it is silent.
pub(crate) async fn partitions_held(processor: &TestService) -> BTreeSet<(String, i32)> {
    let text = metrics(processor).await.unwrap_or_default();
    text.lines()
        .filter_map(|line| line.strip_prefix("tidegate_processor_consumer_lag_records{"))
        .filter_map(|line| {
            let label = |name: &str| {
                let (_, rest) = line.split_once(&format!("{name}=\""))?;
                Some(rest.split_once('"')?.0.to_owned())
            };
            Some((label("topic")?, label("partition")?.parse().ok()?))
        })
        .collect()
}

/// The text of `/metrics`.
pub(crate) async fn metrics(service: &TestService) -> reqwest::Result<String> {
    let client = reqwest::Client::new();
    let request = client
        .get(service.url("/metrics"))
        .timeout(Duration::from_secs(2));
    request.send().await?.error_for_status()?.text().await
}

/// One sample of `/metrics`, by its name with labels; 0 if it is not there.
pub(crate) async fn metric(service: &TestService, sample: &str) -> f64 {
    let text = metrics(service).await.unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix(sample))
        .find_map(|value| value.trim().parse().ok())
        .unwrap_or(0.0)
}

/// Status and JSON body of a probe.
pub(crate) async fn probe(service: &TestService, path: &str) -> anyhow::Result<(u16, Value)> {
    let client = reqwest::Client::new();
    let request = client
        .get(service.url(path))
        .timeout(Duration::from_secs(5));
    let answer = request.send().await?;
    Ok((answer.status().as_u16(), answer.json().await?))
}

/// Runs a built binary to its end with nothing but these variables.
pub(crate) fn run(name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let directory = std::env::var_os("TIDEGATE_BIN_DIR").map_or_else(
        || {
            // target/debug/deps/it-0123 -> target/debug
            let own = std::env::current_exe().unwrap();
            own.ancestors().nth(2).unwrap().to_owned()
        },
        PathBuf::from,
    );
    Command::new(directory.join(name))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap_or_else(|error| panic!("{name}: {error}; build it: cargo build -p {name}"))
}
