//! The role that stores: the consumers of the logs, the pipeline behind each, and what prepares the
//! database.

use std::sync::Arc;
use std::time::Duration;

use eventlog::Source as _;
use eventlog::kafka::{Consumer, KafkaConfig, Producer};
use eventlog::postgres::PostgresSource;
use prometheus::Registry;
use service::health::Health;
use store::LogThrottle;
use store::{Database, migrate};
use tokio::task::JoinSet;

use crate::bridge::DirectInput;
use crate::bridge::config::stored_topics;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::pipeline::partitions::Partitions;
use crate::pipeline::postgres::PostgresPipeline;
use crate::pipeline::untold::Untold;
use crate::state::{Sources, State};

/// Beside Kafka the Postgres log is small: it has what was spilled.
const SPILL_BUFFER: usize = 4 * 1024 * 1024;

/// See the module.
pub(crate) struct StoreRole {
    state: State,
    sources: Sources,
    lines: Vec<JoinSet<()>>,
    background: JoinSet<()>,
}

impl StoreRole {
    /// Starts it. Waits for no dependency. `listeners_stay` when this process ends.
    pub(crate) fn start(
        config: &Config,
        registry: &Registry,
        feed: Option<DirectInput>,
        listeners_stay: bool,
    ) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::register(registry)?);
        let db = Database::new(&config.database)?;
        let state = State::default();
        let partitions = Partitions::new(
            db.clone(),
            config.partition_interval,
            config.partitions_ahead,
        );
        let mut lines = vec![];
        let (mut from_kafka, mut producer) = (None, None);
        if let Some(kafka) = &config.kafka {
            let topics: Vec<Arc<str>> = stored_topics(&config.domain_topics)
                .iter()
                .map(|name| kafka.topic(name))
                .collect();
            let (consumer, queues) =
                Consumer::start(kafka, &topics, config.writers, config.buffer_bytes)?;
            tracing::info!(writers = config.writers, ?topics, "the processor stores");
            let announces = Arc::new(announcing(kafka, registry)?);
            let pipeline = Pipeline {
                db: db.clone(),
                consumer: consumer.clone(),
                producer: Arc::clone(&announces),
                partitions: partitions.clone(),
                batch: config.batch,
                limits: config.limits,
                topic_prefix: kafka.topic_prefix.clone(),
                metrics: Arc::clone(&metrics),
            };
            lines.push(pipeline.start(queues));
            (from_kafka, producer) = (Some(consumer), Some(announces));
        }
        // What comes through Kafka reaches the bridge through Kafka; this is for the rest.
        let buffer = if config.kafka.is_some() {
            config.buffer_bytes.min(SPILL_BUFFER)
        } else {
            config.buffer_bytes
        };
        let (from_postgres, queues) = PostgresSource::start(&db, config.writers, buffer);
        let noting = feed.clone().filter(|_| listeners_stay);
        let pipeline = PostgresPipeline {
            db: db.clone(),
            source: from_postgres.clone(),
            producer,
            feed,
            untold: noting.map(|feed| Arc::new(Untold::new(db.clone(), feed))),
            partitions: partitions.clone(),
            batch: config.batch,
            limits: config.limits,
            topic_prefix: config
                .kafka
                .as_ref()
                .map(|kafka| kafka.topic_prefix.clone())
                .unwrap_or_default(),
            metrics: Arc::clone(&metrics),
        };
        lines.push(pipeline.start(queues));
        let sources = Sources {
            kafka: from_kafka,
            postgres: from_postgres,
        };
        let mut background = JoinSet::new();
        background.spawn(state.watch(db.clone(), sources.clone(), metrics, registry)?);
        background.spawn(prepare(
            db,
            config.migrate_on_start,
            state.clone(),
            partitions,
        ));
        Ok(Self {
            state,
            sources,
            lines,
            background,
        })
    }

    /// Adds its checks.
    pub(crate) fn health(&self, health: Health) -> Health {
        self.state.health(health, self.sources.clone())
    }

    /// Stores and announces what was taken, as far as time allows.
    pub(crate) async fn stop(mut self, grace: Duration) {
        let kafka = async {
            if let Some(consumer) = &self.sources.kafka {
                consumer.shutdown(grace).await;
            }
        };
        let drain = async {
            tokio::join!(kafka, self.sources.postgres.shutdown(grace));
            for lines in &mut self.lines {
                while lines.join_next().await.is_some() {}
            }
        };
        if tokio::time::timeout(grace, drain).await.is_err() {
            tracing::warn!(
                "not everything was stored in time; it will be read again, nothing is lost"
            );
        }
        for lines in &mut self.lines {
            lines.shutdown().await;
        }
        self.background.shutdown().await;
    }
}

/// Schema and time partitions: tried until it works, while the probes answer already.
async fn prepare(db: Database, migrates: bool, state: State, partitions: Partitions) {
    let mut complaint = LogThrottle::default();
    if migrates {
        while let Err(error) = migrate::run(&db).await.map(|applied| {
            tracing::info!(?applied, "schema is up to date");
        }) {
            if complaint.allows() {
                tracing::warn!(error = %error, "the schema could not be brought up to date yet");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    } else {
        while !matches!(migrate::applied(&db).await, Ok(version) if version >= migrate::latest()) {
            if complaint.allows() {
                tracing::warn!("waiting for the schema; run `processor migrate`");
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }
    state.migrated();
    partitions.keep_ahead().await;
}

/// Announcements may wait: batching them well matters more than their latency.
fn announcing(kafka: &KafkaConfig, registry: &Registry) -> anyhow::Result<Producer> {
    let config = KafkaConfig {
        linger_ms: kafka.linger_ms.max(2.0),
        ..kafka.clone()
    };
    Ok(Producer::new(&config, registry)?)
}
