//! One test's own corner of the real parts: a database, topics, a consumer group, services.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;
use testkit::{Database, Kcat, Message, Part, Parts, ServiceBuilder, TestService};
use testkit::{LIMIT, eventually, topic_prefix};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::SHAPE;
use crate::ledger::Place;

/// What runs: each test binary has one shape, named in its `main.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Three services, on Kafka, PostgreSQL and Redis.
    Split,
    /// One `tidegate serve`, on PostgreSQL alone.
    AllInOne,
}

/// How long working off a load may take on a busy machine. It only ends tests that hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// How long one answer about a service's state may take.
const ANSWER: Duration = Duration::from_secs(30);

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

/// An amount: the first one in `make test`, the second one in `make soak`, which sets `SOAK`.
pub(crate) fn soak(short: u64, long: u64) -> u64 {
    match std::env::var_os("SOAK") {
        Some(_) => long,
        None => short,
    }
}

static TURN: RwLock<()> = RwLock::const_new(());

/// For a test that fills the machine or asserts on memory: no other of this binary runs meanwhile.
pub(crate) async fn alone() -> RwLockWriteGuard<'static, ()> {
    TURN.write().await
}

/// For any other test: as many at once as the harness has threads.
pub(crate) async fn beside_others() -> RwLockReadGuard<'static, ()> {
    TURN.read().await
}

/// See the module. The database goes before the parts it lives in.
pub(crate) struct World {
    pub(crate) database: Database,
    pub(crate) prefix: String,
    pub(crate) kcat: Kcat,
    pub(crate) parts: Parts,
    /// What this test put on a log that cannot be read afterwards, that of PostgreSQL.
    pub(crate) appended: Mutex<BTreeMap<Place, Message>>,
}

impl World {
    /// On the parts that all tests share.
    pub(crate) async fn shared() -> Self {
        Self::on(Parts::shared().await).await
    }

    /// On parts that this test may kill.
    pub(crate) async fn private() -> Self {
        let parts = match SHAPE {
            Shape::Split => &Part::ALL[..],
            Shape::AllInOne => &[Part::Postgres],
        };
        Self::on(Parts::private_of(parts).await).await
    }

    /// On the shared parts, but for these, which the test may kill.
    pub(crate) async fn with_own(parts: &[Part]) -> Self {
        Self::on(Parts::private_of(parts).await.or_shared().await).await
    }

    async fn on(parts: Parts) -> Self {
        Self {
            database: parts.fresh_database().await,
            prefix: match SHAPE {
                Shape::Split => topic_prefix(),
                // A log of its own comes with the database.
                Shape::AllInOne => String::new(),
            },
            appended: Mutex::default(),
            kcat: Kcat::new(&parts.kafka_brokers),
            parts,
        }
    }

    /// The full name of a topic.
    pub(crate) fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A service of this world, not started yet. All are the same process in one shape. A machine
    /// that stands still for a moment is no outage: the tests of outages say otherwise.
    pub(crate) fn service(&self, name: &str) -> ServiceBuilder {
        match SHAPE {
            Shape::Split => TestService::builder(name)
                .parts(&self.parts)
                .database(&self.database)
                .env("KAFKA_TOPIC_PREFIX", &self.prefix)
                .env("KAFKA_PARTITIONS", PARTITIONS)
                .env("KAFKA_MESSAGE_TIMEOUT_MS", 20_000)
                .env("REDIS_TIMEOUT_MS", 20_000)
                .env("SSE_PREFIX", self.topic("sse:user:")),
            Shape::AllInOne => TestService::builder("tidegate")
                .arg("serve")
                .database(&self.database),
        }
    }

    /// A processor, not started yet. A dead one is missed after 6 s, the least Kafka allows.
    pub(crate) fn processor(&self) -> ServiceBuilder {
        let processor = self.service("processor");
        match SHAPE {
            Shape::Split => processor
                .env("KAFKA_GROUP_ID", self.topic("processor"))
                .env("BRIDGE_GROUP_ID", self.topic("bridge"))
                .env("KAFKA_DOMAIN_TOPICS", DOMAIN)
                .env("KAFKA_SESSION_TIMEOUT_MS", 6_000),
            Shape::AllInOne => processor,
        }
    }

    /// A processor that has partitions, topics and schema.
    pub(crate) async fn start_processor(&self) -> TestService {
        let processor = self.processor().start().await;
        wait_assigned(self, &[&processor]).await;
        processor
    }
}

/// Waits until these processors hold all partitions between them, and each at least one; and until the
/// tables are there, which they make meanwhile.
pub(crate) async fn wait_assigned(world: &World, processors: &[&TestService]) {
    eventually("the schema", PATIENCE, || world.database.count("event_ids")).await;
    let all = match SHAPE {
        Shape::Split => TOPICS.len() * usize::try_from(PARTITIONS).unwrap(),
        Shape::AllInOne => usize::try_from(store::log::PARTITIONS).unwrap(),
    };
    eventually("all partitions assigned", PATIENCE, || async {
        let mut held = Vec::new();
        if SHAPE == Shape::AllInOne {
            held = lanes_held(world).await;
        } else {
            for processor in processors {
                held.push(partitions_held(processor).await);
            }
        }
        let together: BTreeSet<_> = held.iter().flatten().collect();
        let sum: usize = held.iter().map(BTreeSet::len).sum();
        let fair = held.len() == processors.len() && held.iter().all(|own| !own.is_empty());
        if fair && together.len() == all && sum == all {
            Ok(())
        } else {
            Err(held.iter().map(BTreeSet::len).collect::<Vec<_>>())
        }
    })
    .await;
}

/// The partitions of the log in PostgreSQL, process by process, as partitions of one topic: whoever
/// consumes a partition holds a lock.
pub(crate) async fn lanes_held(world: &World) -> Vec<BTreeSet<(String, i32)>> {
    let rows = world
        .database
        .rows(
            "select pid, objid::int8::int4 from pg_locks where locktype = 'advisory' \
             and database = (select oid from pg_database where datname = current_database()) \
             and classid = (hashtext('tidegate log ' || current_schema()))::oid \
             and objsubid = 2 and objid::int8 < $1 and granted",
            &[&i64::from(store::log::PARTITIONS)],
        )
        .await
        .unwrap_or_default();
    let mut held: BTreeMap<i32, BTreeSet<(String, i32)>> = BTreeMap::new();
    for row in rows {
        let partition = (world.topic(BACKEND), row.get(1));
        held.entry(row.get(0)).or_default().insert(partition);
    }
    held.into_values().collect()
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
    let request = client.get(service.url("/metrics")).timeout(ANSWER);
    request.send().await?.error_for_status()?.text().await
}

/// The sum of a metric's samples that have these labels, whatever other labels they have; 0 if
/// there are none. It waits for an answer.
pub(crate) async fn sum(url: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let text = eventually("the metrics", LIMIT, || async {
        let answer = crate::sender::client().get(url).send().await?;
        answer.error_for_status()?.text().await
    })
    .await;
    let wanted: Vec<String> = labels.iter().map(|(k, v)| format!("{k}=\"{v}\"")).collect();
    text.lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with(['{', ' ']))
        .filter(|rest| wanted.iter().all(|label| rest.contains(label.as_str())))
        .filter_map(|rest| rest.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

/// Status and JSON body of a probe.
pub(crate) async fn probe(service: &TestService, path: &str) -> anyhow::Result<(u16, Value)> {
    let client = reqwest::Client::new();
    let request = client.get(service.url(path)).timeout(ANSWER);
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

/// Where other people's programs are that `deploy/local/parts install --with sdks` fetches.
pub(crate) fn clients() -> PathBuf {
    let cache = std::env::var_os("TIDEGATE_CACHE_DIR").map_or_else(
        || {
            // target/debug/deps/it-0123 -> target
            let own = std::env::current_exe().unwrap();
            own.ancestors().nth(3).unwrap().join("local/cache")
        },
        PathBuf::from,
    );
    cache.join("sdks")
}
