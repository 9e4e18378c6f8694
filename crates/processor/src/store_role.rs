//! The role that stores: the consumers of the logs, the pipeline behind each, and what prepares the
//! database.

use std::sync::Arc;
use std::time::Duration;

use domain::fold::Extensions;
use domain::subject;
use eventlog::kafka::{Consumer, KafkaConfig, Producer};
use eventlog::postgres::PostgresSource;
use eventlog::{Publisher, Source as _};
use live::Channels;
use prometheus::Registry;
use service::health::Health;
use store::outbox::Sinks;
use store::{Database, migrate, server_settings};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::anomalies::Anomalies;
use crate::audits::Audits;
use crate::bridge::DirectInput;
use crate::bridge::config::stored_topics;
use crate::config::Config;
use crate::erasures::Erasures;
use crate::instrumentation::Instrumentation;
use crate::jobs::Runner;
use crate::metrics::{
    AnomalyMetrics, AuditMetrics, InstrumentationMetrics, Metrics, ProcessingMetrics,
    SearchMetrics, StateMetrics, WebhookMetrics,
};
use crate::nats::Nats;
use crate::partitions::Partitions;
use crate::pipeline::announcement::Announcements;
use crate::pipeline::detour::Detour;
use crate::pipeline::placement::Placement;
use crate::pipeline::rewinds::Rewinds;
use crate::pipeline::{After, Pipeline};
use crate::processing::{Forwarding, Handlers, Processing};
use crate::projections::Projections;
use crate::record::RecordDecoder;
use crate::replays::{Kafka, Replays};
use crate::rules::RuleCache;
use crate::search::Indexing;
use crate::state::{Sources, State};
use crate::status::Coordinator;
use crate::user_counts;
use crate::webhooks::Webhooks;

/// Beside Kafka the Postgres log is small: it has what was spilled.
const SPILL_BUFFER: usize = 4 * 1024 * 1024;

/// Storing has time: the broker answers a fetch when some hundred records are there, or after this.
const FETCH_WAIT: Duration = Duration::from_millis(30);

/// The running role: one pipeline for each log.
pub(crate) struct StoreRole {
    state: State,
    coordinator: Coordinator,
    sources: Sources,
    pipelines: Vec<JoinSet<()>>,
    background: JoinSet<()>,
    jobs: JoinSet<()>,
    /// Dropped, it has no more work begun.
    work: [oneshot::Sender<()>; 2],
}

impl StoreRole {
    /// Starts it. Waits for no dependency. `input` delivers what comes from the Postgres log to
    /// listeners through `channels`; `listeners_stay` when this process ends. `extensions` fold and bring up to date.
    pub(crate) fn start(
        config: &Config,
        registry: &Registry,
        input: Option<DirectInput>,
        channels: Option<Arc<dyn Channels>>,
        listeners_stay: bool,
        handlers: Handlers,
        extensions: &Arc<Extensions>,
    ) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::register(registry)?);
        let db = Database::new(&config.database)?;
        let state = State::default();
        let prefix = config.kafka.as_ref().map_or("", |k| &k.topic_prefix);
        let announcements = Announcements {
            topic: format!("{prefix}{}", subject::ANNOUNCEMENTS).into(),
            format: config.announcements_format,
            nats: false,
        };
        let announces = Sinks {
            kafka: config.kafka.is_some(),
            nats: config.nats.is_some(),
        };
        let nats = Nats::start(config, &announcements);
        // One notice is enough, however much was stored since the last.
        let (notify, notices) = mpsc::channel(1);
        let notify = nats.as_ref().map(|_| notify);
        let (rewinds, detour) = (Rewinds::default(), Detour::new(&db));
        let mut background = JoinSet::new();
        let written_down = handlers.written_down();
        let names = written_down.iter().map(|one| one.name.clone()).collect();
        let rules = RuleCache::new(&db, written_down);
        let instrumentation = Instrumentation::new(InstrumentationMetrics::register(registry)?);
        background.spawn(instrumentation.clone().flush(db.clone()));
        let pipeline = |source, records, after| Pipeline {
            db: db.clone(),
            source,
            records,
            after,
            announcements: announcements.clone(),
            detour: detour.clone(),
            nats: notify.clone(),
            batch: config.batch,
            types_a_day: config.types_a_day,
            rules: rules.clone(),
            extensions: Arc::clone(extensions),
            instrumentation: Some(instrumentation.clone()),
            metrics: Arc::clone(&metrics),
        };
        let mut pipelines = vec![];
        let (mut from_kafka, mut producer) = (None, None);
        let (mut forwarding, mut replays_to) = (None, None);
        if let Some(kafka) = &config.kafka {
            let topics: Vec<Arc<str>> = stored_topics(&config.domain_topics)
                .iter()
                .map(|name| kafka.topic(name))
                .collect();
            let consumes = KafkaConfig {
                fetch_wait: FETCH_WAIT,
                placed: true,
                ..kafka.clone()
            };
            let (consumer, queues) =
                Consumer::start(&consumes, &topics, config.writers, config.buffer_bytes)?;
            let placement = Placement::new(
                db.clone(),
                consumer.clone(),
                rewinds.clone(),
                Arc::clone(&metrics),
            );
            background.spawn(placement.run());
            tracing::info!(writers = config.writers, ?topics, "the processor stores");
            let announces: Arc<dyn Publisher> = Arc::new(announcing(kafka, registry)?);
            let line = pipeline(
                Arc::new(consumer.clone()),
                RecordDecoder::kafka(config.limits, prefix)
                    .believing(&config.bridge.tenants)
                    .protecting(&config.bridge.personal),
                After::Announce(Arc::clone(&announces)),
            );
            pipelines.push(line.start(queues));
            forwarding = Some(Forwarding {
                publisher: Arc::clone(&announces),
                kafka: kafka.clone(),
                ensured: Arc::default(),
                read: stored_topics(&config.domain_topics),
            });
            let replays = Kafka {
                config: kafka.clone(),
                producer: Arc::clone(&announces),
                read: topics,
            };
            replays_to = Some(replays);
            (from_kafka, producer) = (Some(consumer), Some(announces));
        }
        let live = input.clone();
        // What comes through Kafka reaches the bridge through Kafka; this is for the rest.
        let buffer = if config.kafka.is_some() {
            config.buffer_bytes.min(SPILL_BUFFER)
        } else {
            config.buffer_bytes
        };
        let tracks_delivery = listeners_stay && input.is_some();
        let (from_postgres, queues) =
            PostgresSource::start(&db, config.writers, buffer, tracks_delivery);
        let line = pipeline(
            Arc::new(from_postgres.clone()),
            RecordDecoder::postgres(config.limits, prefix)
                .believing(&config.bridge.tenants)
                .protecting(&config.bridge.personal),
            After::Deliver { input, producer },
        );
        pipelines.push(line.start(queues));
        if let Some(nats) = &nats {
            pipelines.push(nats.relay(&db, &metrics, notices));
        }
        let sources = Sources {
            nats: nats.map(|nats| nats.publisher),
            kafka: from_kafka,
            postgres: from_postgres,
            rewinds,
            detour,
        };
        background.spawn(rules.clone().watch());
        let client = webhook::Client::new(&config.webhooks.http)?;
        let processing = Processing {
            db: db.clone(),
            rules: rules.clone(),
            handlers,
            extensions: Arc::clone(extensions),
            forwarding,
            client: client.clone(),
            announces,
            metrics: ProcessingMetrics::register(registry)?,
        };
        let watched = rules.clone();
        let webhooks = Webhooks {
            db: db.clone(),
            rules: rules.clone(),
            client,
            limits: config.webhooks.clone(),
            announces,
            metrics: WebhookMetrics::register(registry)?,
            breakers: std::sync::Mutex::default(),
            turn: std::sync::atomic::AtomicUsize::new(0),
        };
        background.spawn(Webhooks::forget(db.clone(), config.webhooks.log));
        background.spawn(Webhooks::watch(db.clone(), webhooks.metrics.clone()));
        let ((work, stop), (more_work, more_stop)) = (oneshot::channel(), oneshot::channel());
        let mut jobs = JoinSet::new();
        jobs.spawn(Runner::new(db.clone(), rules.clone(), processing, config.sweep).run(stop));
        jobs.spawn(Runner::new(db.clone(), rules, webhooks, config.sweep).run(more_stop));
        let gauges = StateMetrics::register(registry)?;
        let partitions = Partitions::new(
            db.clone(),
            config.partitions,
            state.partitions.clone(),
            gauges.clone(),
        );
        background.spawn(
            state
                .clone()
                .watch(db.clone(), sources.clone(), metrics, gauges),
        );
        let anomalies = Anomalies {
            db: db.clone(),
            config: config.anomalies,
            sources: sources.clone(),
            metrics: AnomalyMetrics::register(registry)?,
            topic: format!("{prefix}{}", subject::BACKEND).into(),
            announces,
            owner: Uuid::now_v7(),
        };
        background.spawn(anomalies.watch());
        let audits = Audits {
            db: db.clone(),
            extensions: Arc::clone(extensions),
            sources: sources.clone(),
            metrics: AuditMetrics::register(registry)?,
            nightly: config.audit_at,
            owner: Uuid::now_v7(),
        };
        background.spawn(audits.run());
        let projections = Projections::new(db.clone(), Arc::clone(extensions), announces);
        background.spawn(projections.build());
        let replays = Replays {
            db: db.clone(),
            extensions: Arc::clone(extensions),
            kafka: replays_to,
            live,
            announces,
            owner: Uuid::now_v7(),
        };
        background.spawn(replays.run());
        let mut topics = stored_topics(&config.domain_topics);
        topics.push(subject::ANNOUNCEMENTS.to_owned());
        let erasures = Erasures {
            db: db.clone(),
            extensions: Arc::clone(extensions),
            channels,
            kafka: config.kafka.clone().map(|kafka| (kafka, topics)),
            owner: Uuid::now_v7(),
            retention: None,
        };
        background.spawn(erasures.run());
        background.spawn(user_counts::count(db.clone()));
        if let Some(engine) = config.search.engine()? {
            let indexing = Indexing::new(db.clone(), engine, SearchMetrics::register(registry)?);
            background.spawn(indexing.run());
        }
        background.spawn(prepare(
            db,
            config.migrate_on_start,
            state.clone(),
            partitions,
        ));
        let coordinator = Coordinator {
            rules: watched,
            handlers: names,
            tasks: pipelines.iter().map(JoinSet::len).sum::<usize>()
                + background.len()
                + jobs.len(),
            publisher: match (announces.kafka, announces.nats) {
                (true, true) => "kafka, nats",
                (true, false) => "kafka",
                (false, true) => "nats",
                (false, false) => "none",
            },
        };
        Ok(Self {
            state,
            coordinator,
            sources,
            pipelines,
            background,
            jobs,
            work: [work, more_work],
        })
    }

    /// What tells of it.
    pub(crate) fn coordinator(&self) -> Coordinator {
        self.coordinator.clone()
    }

    /// Adds its checks.
    pub(crate) fn health(&self, health: Health) -> Health {
        self.state.health(health, self.sources.clone())
    }

    /// Stores and announces what was taken, as far as time allows.
    pub(crate) async fn stop(mut self, grace: Duration) {
        drop(self.work);
        let kafka = async {
            if let Some(consumer) = &self.sources.kafka {
                consumer.shutdown(grace).await;
            }
        };
        let drain = async {
            tokio::join!(kafka, self.sources.postgres.shutdown(grace));
            for pipeline in &mut self.pipelines {
                while pipeline.join_next().await.is_some() {}
            }
            while self.jobs.join_next().await.is_some() {}
        };
        if tokio::time::timeout(grace, drain).await.is_err() {
            tracing::warn!(
                "not everything was stored or done in time; it will be read again, nothing is lost"
            );
        }
        for pipeline in &mut self.pipelines {
            pipeline.shutdown().await;
        }
        self.jobs.shutdown().await;
        self.background.shutdown().await;
    }
}

/// Schema and time partitions: tried until it works, while the probes answer already.
async fn prepare(db: Database, migrates: bool, state: State, partitions: Partitions) {
    migrate::ready(&db, migrates).await;
    state.migrated();
    advise(&db, &state).await;
    partitions.keep().await;
}

/// Says which settings of the server are worth another value.
async fn advise(db: &Database, state: &State) {
    let advice = match server_settings::advise(db).await {
        Ok(advice) => advice,
        Err(error) => {
            tracing::debug!(error = %error, "the server's settings could not be looked at");
            return;
        }
    };
    let words: Vec<String> = advice
        .iter()
        .map(|one| format!("{} = {}, better {}", one.name, one.value, one.better))
        .collect();
    let words = words.join("; ");
    if advice.iter().any(|one| one.loses) {
        state.settings.set(&format!(
            "down: a crash can lose acknowledged events: {words}"
        ));
        tracing::warn!(
            settings = words,
            "a crash of PostgreSQL can lose acknowledged events"
        );
    } else if advice.is_empty() {
        state.settings.set("as advised");
    } else {
        state.settings.set(&words);
        tracing::info!(
            settings = words,
            "PostgreSQL can be quicker: see docs/operations.md"
        );
    }
}

/// Announcements may wait: batching them well matters more than their latency.
fn announcing(kafka: &KafkaConfig, registry: &Registry) -> anyhow::Result<Producer> {
    let config = KafkaConfig {
        linger_ms: kafka.linger_ms.max(10.0),
        ..kafka.clone()
    };
    Ok(Producer::new(&config, registry)?)
}
