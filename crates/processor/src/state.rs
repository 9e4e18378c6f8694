//! What the probes know: kept by a watcher, so that answering costs nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use eventlog::kafka::Handle;
use eventlog::{Publisher, Source as _, postgres};
use service::health::{Check, Health};
use store::{Database, figures, migrate};
use uuid::Uuid;

use crate::metrics::{Metrics, StateMetrics};
use crate::pipeline::detour::Detour;
use crate::pipeline::rewinds::Rewinds;

/// How long the database may take to answer.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How often a lag is noted that is another, and one that is the same.
const OTHER: Duration = Duration::from_secs(2);
const SAME: Duration = Duration::from_secs(20);

/// What the records come from.
#[derive(Clone)]
pub struct Sources {
    /// Kafka, if this process has it.
    pub kafka: Option<Handle>,
    /// The Postgres log.
    pub postgres: postgres::Handle,
    /// What of Kafka is read again.
    pub rewinds: Rewinds,
    /// The way of announcements while Kafka does not take them.
    pub detour: Detour,
    /// Where it is announced on NATS, if it is.
    pub nats: Option<Arc<dyn Publisher>>,
}

/// The dependencies' states.
#[derive(Debug, Clone, Default)]
pub struct State {
    database: Arc<AtomicBool>,
    migrated: Arc<AtomicBool>,
    /// The time partitions.
    pub partitions: Detail,
    /// The server's settings.
    pub settings: Detail,
}

/// What a check says of something that keeps no event from being stored. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Detail(Arc<Mutex<Option<String>>>);

impl Detail {
    fn check(&self) -> Check {
        let detail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Check::ok(detail.as_deref().unwrap_or("not looked at yet"))
    }

    /// Sets it; true if that is something new.
    pub fn set(&self, detail: &str) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.replace(detail.to_owned()).as_deref() != Some(detail)
    }
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
        let (partitions, settings) = (self.partitions.clone(), self.settings.clone());
        let log = sources.postgres;
        let health = health
            .check("partitions", move || partitions.check())
            .check("postgres_settings", move || settings.check());
        let health = health.check("postgres_log", move || match log.problem() {
            Some(problem) => Check::failed(problem),
            None => Check::ok(match log.backlog().map(|backlog| backlog.records) {
                None => "not looked at yet".to_owned(),
                Some(records) => format!("{records} records wait"),
            }),
        });
        let health = match sources.nats {
            None => health,
            Some(nats) => health.check("nats_announcements", move || {
                Check::ok(if nats.connected() {
                    "sent as they come"
                } else {
                    "down, waiting in the outbox"
                })
            }),
        };
        let Some(consumer) = sources.kafka else {
            return health;
        };
        let kafka = consumer.clone();
        let (rewinds, detour) = (sources.rewinds, sources.detour);
        let health = health
            .check("rewind", move || {
                Check::ok(rewinds.shown().map_or_else(
                    || "none".to_owned(),
                    |shown| format!("the database was put back, reading again: {shown}"),
                ))
            })
            .check("announcements", move || {
                Check::ok(if detour.is_taken() {
                    "down, waiting in the outbox"
                } else {
                    "sent as events are stored"
                })
            });
        health
            .check("kafka", move || crate::kafka_check(kafka.connected()))
            .check("consumer", move || match consumer.problem() {
                Some(problem) => Check::failed(problem),
                None => Check::ok(format!("{} partitions assigned", consumer.assigned().len())),
            })
    }

    /// Watches the dependencies once a second, until dropped: for the probes and the gauges.
    pub async fn watch(
        self,
        db: Database,
        sources: Sources,
        metrics: Arc<Metrics>,
        gauges: StateMetrics,
    ) {
        let mut every = tokio::time::interval(Duration::from_secs(1));
        let mut lag = NotedLag::default();
        loop {
            every.tick().await;
            let ping = tokio::time::timeout(TIMEOUT, db.ping()).await;
            let up = matches!(ping, Ok(Ok(())));
            self.database.store(up, Ordering::Relaxed);
            gauges.database_connected.set(i64::from(up));
            let consumer = sources.kafka.as_ref();
            let kafka_up = consumer.is_some_and(Handle::connected);
            gauges.kafka_connected.set(i64::from(kafka_up));
            let bytes =
                consumer.map_or(0, Handle::buffered_bytes) + sources.postgres.buffered_bytes();
            gauges.rewind_records.set(sources.rewinds.records());
            let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
            gauges.buffered_bytes.set(gauge(bytes as u64));
            if let Some(now) = sources.postgres.backlog() {
                gauges.postgres_log_records.set(now.records);
                let age = now.oldest.unwrap_or_default().as_secs();
                gauges.postgres_log_oldest.set(gauge(age));
            }
            let (used, open, max) = db.usage();
            for (name, count) in [("in_use", used), ("open", open), ("max", max)] {
                gauges
                    .pool_connections
                    .with_label_values(&[name])
                    .set(gauge(count as u64));
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
            if let (true, Some(consumer)) = (up, consumer) {
                let waiting = consumer.lag().iter().filter_map(|one| one.lag).sum();
                let noting = lag.note(&db, waiting);
                if !matches!(tokio::time::timeout(TIMEOUT, noting).await, Ok(Ok(()))) {
                    tracing::debug!("the lag is not noted now");
                }
            }
        }
    }
}

/// The lag, as it is noted for those who do not see Kafka: every other second while it changes.
struct NotedLag {
    processor: Uuid,
    records: i64,
    at: Option<Instant>,
}

impl Default for NotedLag {
    fn default() -> Self {
        Self {
            processor: Uuid::now_v7(),
            records: 0,
            at: None,
        }
    }
}

impl NotedLag {
    async fn note(&mut self, db: &Database, records: i64) -> Result<(), store::Error> {
        let pause = if records == self.records { SAME } else { OTHER };
        if self.at.is_some_and(|at| at.elapsed() < pause) {
            return Ok(());
        }
        let client = db.client().await?;
        figures::note_lag(&client, self.processor, records).await?;
        (self.records, self.at) = (records, Some(Instant::now()));
        Ok(())
    }
}
