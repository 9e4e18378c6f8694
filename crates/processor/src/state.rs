//! What the probes know: kept by a watcher, so that answering costs nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use eventlog::kafka::Handle;
use eventlog::{Source as _, postgres};
use prometheus::{IntGauge, IntGaugeVec, Opts, Registry};
use service::health::{Check, Health};
use store::{Database, migrate};

use crate::metrics::Metrics;

/// What the records come from.
#[derive(Clone)]
pub struct Sources {
    /// Kafka, if this process has it.
    pub kafka: Option<Handle>,
    /// The Postgres log.
    pub postgres: postgres::Handle,
}

/// The dependencies' states.
#[derive(Debug, Clone, Default)]
pub struct State {
    database: Arc<AtomicBool>,
    migrated: Arc<AtomicBool>,
}

impl State {
    /// Notes that the schema is there.
    pub fn migrated(&self) {
        self.migrated.store(true, Ordering::Relaxed);
    }

    /// Adds the checks.
    #[must_use]
    pub fn health(&self, health: Health, sources: Sources) -> Health {
        let (database, schema) = (Arc::clone(&self.database), Arc::clone(&self.migrated));
        let health = health
            .check("postgres", move || {
                if database.load(Ordering::Relaxed) {
                    Check::ok("answers")
                } else {
                    Check::failed("does not answer; check DATABASE_URL, nothing is lost meanwhile")
                }
            })
            .check("schema", move || {
                if schema.load(Ordering::Relaxed) {
                    Check::ok(format!("at version {}", migrate::latest()))
                } else {
                    Check::failed("not yet brought up to date")
                }
            });
        let log = sources.postgres;
        let health = health.check("postgres_log", move || match log.problem() {
            Some(problem) => Check::failed(problem),
            None => Check::ok(match log.backlog().map(|backlog| backlog.records) {
                None => "not looked at yet".to_owned(),
                Some(records) => format!("{records} records wait"),
            }),
        });
        let Some(consumer) = sources.kafka else {
            return health;
        };
        let kafka = consumer.clone();
        health
            .check("kafka", move || crate::kafka_check(kafka.connected()))
            .check("consumer", move || match consumer.problem() {
                Some(problem) => Check::failed(problem),
                None => Check::ok(format!("{} partitions assigned", consumer.assigned().len())),
            })
    }

    /// Watches the dependencies once a second, until dropped: for the probes and the gauges.
    ///
    /// # Errors
    /// A metric is registered already.
    pub fn watch(
        &self,
        db: Database,
        sources: Sources,
        metrics: Arc<Metrics>,
        registry: &Registry,
    ) -> Result<impl Future<Output = ()> + use<>, prometheus::Error> {
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let kafka_up = gauge("kafka_connected", "1 while a Kafka broker answers.")?;
        let database_up = gauge("database_connected", "1 while PostgreSQL answers.")?;
        let buffered = gauge(
            "tidegate_processor_buffered_bytes",
            "Bytes of records between the logs and the database.",
        )?;
        let backlog = gauge(
            "tidegate_processor_postgres_log_records",
            "Records in the Postgres log that are not stored yet, whoever will store them.",
        )?;
        let backlog_age = gauge(
            "tidegate_processor_postgres_log_oldest_seconds",
            "Age of the oldest of them.",
        )?;
        let pool = IntGaugeVec::new(
            Opts::new(
                "tidegate_database_pool_connections",
                "Connections of the pool by state.",
            ),
            &["state"],
        )?;
        registry.register(Box::new(pool.clone()))?;
        let state = self.clone();
        Ok(async move {
            let mut every = tokio::time::interval(Duration::from_secs(1));
            loop {
                every.tick().await;
                let ping = tokio::time::timeout(Duration::from_secs(3), db.ping()).await;
                let up = matches!(ping, Ok(Ok(())));
                state.database.store(up, Ordering::Relaxed);
                database_up.set(i64::from(up));
                let consumer = sources.kafka.as_ref();
                kafka_up.set(i64::from(consumer.is_some_and(Handle::connected)));
                let bytes =
                    consumer.map_or(0, Handle::buffered_bytes) + sources.postgres.buffered_bytes();
                buffered.set(i64::try_from(bytes).unwrap_or(i64::MAX));
                if let Some(now) = sources.postgres.backlog() {
                    backlog.set(now.records);
                    let age = now.oldest.unwrap_or_default().as_secs();
                    backlog_age.set(i64::try_from(age).unwrap_or(i64::MAX));
                }
                let (used, open, max) = db.usage();
                for (name, count) in [("in_use", used), ("open", open), ("max", max)] {
                    pool.with_label_values(&[name])
                        .set(i64::try_from(count).unwrap_or(i64::MAX));
                }
                metrics.consumer_lag.reset();
                for lag in consumer.into_iter().flat_map(Handle::lag) {
                    if let Some(records) = lag.lag {
                        metrics
                            .consumer_lag
                            .with_label_values(&[&*lag.topic, &lag.partition.to_string()])
                            .set(records);
                    }
                }
            }
        })
    }
}
