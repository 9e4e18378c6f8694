//! The processor: takes events from the log and stores each exactly once, with everything that
//! follows from it, in one transaction per batch.
//!
//! Read [`pipeline`] first. Invariants, stated as absences: no event is acknowledged to Kafka
//! before PostgreSQL has it; no count exists without its event; no bad record stops a good one.

pub mod config;
pub mod metrics;
pub mod pipeline;
pub mod state;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use domain::subject;
use eventlog::kafka::{Consumer, KafkaConfig, Producer, TopicSpec, topics};
use prometheus::Registry;
use store::{Database, migrate};

use config::Config;
use metrics::Metrics;
use pipeline::Pipeline;
use pipeline::partitions::Partitions;
use state::State;

/// Runs the processor until SIGTERM or SIGINT, then drains: stops taking records, stores and
/// announces those it has, commits, leaves the group.
///
/// # Errors
/// The address cannot be bound or a client cannot be made. Dependencies that are down are no
/// error: they are waited for.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let registry = service::metrics::registry()?;
    let metrics = Arc::new(Metrics::register(&registry)?);
    let db = Database::new(&config.database)?;
    let state = State::default();
    let topic_names = topic_names(&config);
    let (consumer, lanes) = Consumer::start(
        &config.kafka,
        &topic_names,
        config.writers,
        config.buffer_bytes,
    )?;

    let health = state.health(&config.http.service_name, consumer.clone());
    let http = service::http::bind(&config.http, &registry, &health, |_| {})?;
    let server = tokio::spawn(http.server);
    tracing::info!(address = %http.address, writers = config.writers, topics = ?topic_names, "processor listens");
    let watch = state.watch(
        db.clone(),
        consumer.clone(),
        Arc::clone(&metrics),
        &registry,
    )?;
    let watcher = tokio::spawn(watch);

    let partitions = Partitions::new(
        db.clone(),
        config.partition_interval,
        config.partitions_ahead,
    );
    let preparing = tokio::spawn(prepare(
        config.clone(),
        db.clone(),
        state.clone(),
        partitions.clone(),
    ));

    let pipeline = Pipeline {
        db,
        consumer: consumer.clone(),
        producer: Arc::new(producer(&config.kafka, &registry)?),
        partitions,
        batch: config.batch,
        limits: config.limits,
        topic_prefix: config.kafka.topic_prefix.clone(),
        metrics,
    };
    let mut lines = pipeline.start(lanes);

    let signal = service::shutdown::requested().await?;
    tracing::info!(signal, "draining");
    let drain = async {
        consumer.shutdown(config.http.grace).await;
        while lines.join_next().await.is_some() {}
    };
    if tokio::time::timeout(config.http.grace, drain)
        .await
        .is_err()
    {
        tracing::warn!("not everything was stored in time; it will be read again, nothing is lost");
    }
    preparing.abort();
    watcher.abort();
    http.handle.stop(true).await;
    server.await.context("the HTTP server's task")??;
    tracing::info!("stopped");
    Ok(())
}

/// Brings the schema up to date, once.
///
/// # Errors
/// The database cannot be reached or a migration fails.
pub async fn migrate(config: &Config) -> anyhow::Result<Vec<String>> {
    Ok(migrate::run(&Database::new(&config.database)?).await?)
}

/// Schema, topics and time partitions: each tried until it works, while the probes answer already.
async fn prepare(config: Config, db: Database, state: State, partitions: Partitions) {
    tokio::join!(ensure_topics(&config), async {
        if config.migrate_on_start {
            while let Err(error) = migrate::run(&db).await.map(|applied| {
                tracing::info!(?applied, "schema is up to date");
            }) {
                tracing::warn!(error = %error, "the schema could not be brought up to date yet");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        } else {
            while !matches!(migrate::applied(&db).await, Ok(version) if version >= migrate::latest())
            {
                tracing::warn!("waiting for the schema; run `processor migrate`");
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        }
        state.migrated();
        partitions.keep_ahead().await;
    });
}

async fn ensure_topics(config: &Config) {
    let kafka = &config.kafka;
    let mut specs: Vec<TopicSpec> = subject::EVENT_TOPICS
        .iter()
        .map(|name| TopicSpec::new(kafka, name))
        .chain(
            config
                .domain_topics
                .iter()
                .map(|name| TopicSpec::new(kafka, name)),
        )
        .collect();
    specs.push(TopicSpec::new(kafka, subject::ANNOUNCEMENTS));
    while let Err(error) = topics::ensure(kafka, &specs, Duration::from_secs(30)).await {
        tracing::warn!(error = %error, "topics could not be made sure of yet");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn topic_names(config: &Config) -> Vec<Arc<str>> {
    subject::EVENT_TOPICS
        .iter()
        .copied()
        .chain(config.domain_topics.iter().map(String::as_str))
        .map(|name| config.kafka.topic(name))
        .collect()
}

/// Announcements may wait: batching them well matters more than their latency.
fn producer(kafka: &KafkaConfig, registry: &Registry) -> anyhow::Result<Producer> {
    let config = KafkaConfig {
        linger_ms: kafka.linger_ms.max(2.0),
        ..kafka.clone()
    };
    Ok(Producer::new(&config, registry)?)
}
