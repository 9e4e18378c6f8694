//! What the probes know: kept by a watcher, so that answering costs nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use eventlog::kafka::Handle;
use prometheus::{IntGauge, IntGaugeVec, Opts, Registry};
use service::health::{Check, Health};
use store::{Database, migrate};

use crate::metrics::Metrics;

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

    /// The probes.
    #[must_use]
    pub fn health(&self, service: &str, consumer: Handle) -> Health {
        let (database, schema) = (Arc::clone(&self.database), Arc::clone(&self.migrated));
        let kafka = consumer.clone();
        Health::new(service)
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
            })
            .check("kafka", move || {
                if kafka.connected() {
                    Check::ok("connected")
                } else {
                    Check::failed("no broker answers; check KAFKA_BROKERS")
                }
            })
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
        consumer: Handle,
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
            "Bytes of records between the log and the database.",
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
                kafka_up.set(i64::from(consumer.connected()));
                buffered.set(i64::try_from(consumer.buffered_bytes()).unwrap_or(i64::MAX));
                let (used, open, max) = db.usage();
                for (name, count) in [("in_use", used), ("open", open), ("max", max)] {
                    pool.with_label_values(&[name])
                        .set(i64::try_from(count).unwrap_or(i64::MAX));
                }
                metrics.consumer_lag.reset();
                for lag in consumer.lag() {
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
