//! The shapes as users start them, quiet.

use std::time::Duration;

use anyhow::Context;
use testkit::{Database, Part, Parts, TestService, cpu};

/// Processor time by process.
pub(crate) type Processes = Vec<(&'static str, Duration)>;

/// The three services on parts of their own.
pub(crate) struct Split {
    pub(crate) parts: Parts,
    pub(crate) ingest: TestService,
    pub(crate) processor: TestService,
    pub(crate) query: TestService,
}

impl Split {
    /// Starts them.
    pub(crate) async fn start() -> Self {
        let parts = Parts::private().await;
        let service = |name: &str| {
            TestService::builder(name)
                .parts(&parts)
                .env("LOG_LEVEL", "WARN")
        };
        let processor = service("processor").start().await;
        let ingest = service("ingest").start().await;
        let query = service("query").start().await;
        Self {
            parts,
            ingest,
            processor,
            query,
        }
    }

    /// What each process took of a core in the seconds since then.
    pub(crate) fn shares(&self, before: &Processes, seconds: u64) -> anyhow::Result<String> {
        let each = before.iter().zip(self.processes()?);
        let shares: Vec<String> = each
            .map(|((name, from), (_, to))| {
                let cores = (to - *from).as_secs_f64() / seconds as f64;
                format!("{name} {:.1} %", cores * 100.0)
            })
            .collect();
        Ok(shares.join(", "))
    }

    /// As it is now.
    pub(crate) fn processes(&self) -> anyhow::Result<Processes> {
        Ok(vec![
            ("ingest", cpu(self.ingest.pid())?),
            ("processor", cpu(self.processor.pid())?),
            ("query", cpu(self.query.pid())?),
            ("PostgreSQL", cpu(self.parts.pid(Part::Postgres))?),
            ("Kafka", cpu(self.parts.pid(Part::Kafka))?),
            ("Redis", cpu(self.parts.pid(Part::Redis))?),
        ])
    }
}

/// Bytes that Redis has in use.
pub(crate) async fn redis_bytes(parts: &Parts) -> anyhow::Result<f64> {
    let client = redis::Client::open(parts.redis_url.as_str())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let mut info = redis::cmd("INFO");
    let info: String = info.arg("memory").query_async(&mut connection).await?;
    let used = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    Ok(used.context("no used_memory")?.trim().parse()?)
}

/// `tidegate serve` on PostgreSQL alone, and its database.
pub(crate) async fn one_process(parts: &Parts) -> (Database, TestService) {
    let database = parts.fresh_database().await;
    let tidegate = TestService::builder("tidegate")
        .arg("serve")
        .database(&database)
        .env("LOG_LEVEL", "WARN")
        .start()
        .await;
    (database, tidegate)
}
