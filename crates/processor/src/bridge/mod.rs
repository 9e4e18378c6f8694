//! The bridge: brings each event to the browsers of its user, milliseconds later.
//!
//! Read in this order: [`consume`] takes records, [`evaluate`] makes messages of them
//! ([`event_fields`], [`filter`], [`transform`]), [`publish`] sends them through the [`breaker`].
//!
//! Invariants, stated as absences: the bridge waits for no disk, and nothing waits for the bridge; no
//! bad event opens the breaker; no message is dropped while Redis is down without listeners being
//! sent a gap; nothing is published twice, after any crash or repetition.
//!
//! A message that Redis refuses by itself (another program has a key of its channel's name) is
//! counted and logged, and listeners get no gap: while that key exists, the channel cannot be read either.

pub mod admin;
mod allow_list;
pub mod breaker;
pub mod config;
pub mod consume;
pub mod direct_input;
pub mod dry_run;
pub mod evaluate;
pub mod event_fields;
pub mod filter;
pub mod metrics;
pub mod profile;
pub mod publish;
pub mod transform;

use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use domain::Limits;
use eventlog::Source as _;
use eventlog::kafka::{Consumer, Handle, KafkaConfig};
use live::Channels;
use prometheus::Registry;
use service::health::{Check, Health};
use tokio::task::JoinSet;

pub use config::BridgeConfig;
pub use direct_input::DirectInput;
pub use metrics::Extension;

use admin::Admin;
use breaker::Breaker;
use consume::Worker;
use dry_run::DryRun;
use evaluate::Evaluator;
use metrics::Metrics;
use publish::Publisher;

/// What a bridge is made of.
pub struct BridgeParts<'a> {
    /// Its rules.
    pub config: &'a BridgeConfig,
    /// What one event may be.
    pub limits: Limits,
    /// Where records come from; without it all events come directly.
    pub kafka: Option<&'a KafkaConfig>,
    /// Where messages go.
    pub channels: Arc<dyn Channels>,
    /// Figures of the composition's own.
    pub extension: Arc<dyn Extension>,
    /// Where its metrics are registered.
    pub registry: &'a Registry,
}

/// A running bridge.
pub struct Bridge {
    evaluator: Arc<Evaluator>,
    publisher: Arc<Publisher>,
    consumer: Option<Handle>,
    admin: Admin,
    workers: JoinSet<()>,
    background: JoinSet<()>,
}

impl Bridge {
    /// Starts a bridge; must be called within a runtime. Does not wait for Kafka or Redis.
    ///
    /// # Errors
    /// A client refuses its settings, or a metric is registered already.
    pub fn start(parts: BridgeParts<'_>) -> anyhow::Result<Self> {
        let config = parts.config;
        let registry = config.prometheus.then_some(parts.registry);
        let publisher = publisher(config, parts.channels, parts.extension, registry)?;
        let prefix = parts.kafka.map_or("", |kafka| &kafka.topic_prefix);
        let evaluator = Arc::new(Evaluator::new(config, parts.limits, prefix));
        let mut workers = JoinSet::new();
        let mut consumer = None;
        if let Some(kafka) = parts.kafka {
            let kafka = config.consumer(kafka);
            let topics = config.topic_names(&kafka);
            let (handle, queues) =
                Consumer::start(&kafka, &topics, config.workers, config.buffer_bytes)?;
            for queue in queues {
                let (evaluator, publisher) = (Arc::clone(&evaluator), Arc::clone(&publisher));
                workers.spawn(Worker::new(handle.clone(), evaluator, publisher).run(queue));
            }
            tracing::info!(?topics, group = kafka.group_id, profile = ?config.profile, "the bridge consumes");
            consumer = Some(handle);
        }
        let dry_run = DryRun::new(Arc::clone(&evaluator), prefix, &config.topics);
        let admin = Admin::new(dry_run, Arc::clone(&publisher), consumer.clone());
        let mut background = JoinSet::new();
        background.spawn(admin.clone().watch(config.collect_interval));
        background.spawn({
            let publisher = Arc::clone(&publisher);
            async move { publisher.breaker.probe_when_due(&*publisher.channels).await }
        });
        Ok(Self {
            evaluator,
            publisher,
            consumer,
            admin,
            workers,
            background,
        })
    }

    /// The input for events that do not come through Kafka.
    #[must_use]
    pub fn direct_input(&self) -> DirectInput {
        DirectInput::new(Arc::clone(&self.evaluator), Arc::clone(&self.publisher))
    }

    /// Its consumer, if it has one.
    #[must_use]
    pub fn consumer(&self) -> Option<&Handle> {
        self.consumer.as_ref()
    }

    /// Adds its checks. A process whose Redis is down stays ready, because everything else works.
    #[must_use]
    pub fn health(&self, health: Health) -> Health {
        let publisher = Arc::clone(&self.publisher);
        let health = health.check("live", move || {
            let state = publisher.breaker.state().as_str();
            let problem = publisher.channels.problem();
            let problem = problem.map_or(String::new(), |problem| format!(" ({problem})"));
            Check::ok(if publisher.channels.connected() {
                format!("connected, breaker {state}")
            } else {
                format!(
                    "down{problem}, breaker {state}; check REDIS_URL, only live delivery suffers"
                )
            })
        });
        let Some(consumer) = self.consumer.clone() else {
            return health;
        };
        health.check("bridge", move || match consumer.problem() {
            Some(problem) => Check::failed(problem),
            None => Check::ok(format!("{} partitions assigned", consumer.assigned().len())),
        })
    }

    /// Its routes.
    pub fn configure(&self) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static + use<> {
        let admin = self.admin.clone();
        move |app| admin.routes(app)
    }

    /// Ends in order (S2-12): publishes what was taken, commits its offsets, leaves the group, closes
    /// the connections to Redis, logs the last figures. The next process reads again what could not
    /// be published in time.
    pub async fn stop(mut self, grace: Duration) {
        self.publisher.breaker.stop();
        let drain = async {
            if let Some(consumer) = &self.consumer {
                consumer.shutdown(grace).await;
            }
            while self.workers.join_next().await.is_some() {}
        };
        if tokio::time::timeout(grace, drain).await.is_err() {
            tracing::warn!("the bridge did not drain in time: the rest will be read again");
            self.workers.shutdown().await;
        }
        self.background.shutdown().await;
        self.admin.log("bridge stopped");
    }
}

fn publisher(
    config: &BridgeConfig,
    channels: Arc<dyn Channels>,
    extension: Arc<dyn Extension>,
    registry: Option<&Registry>,
) -> anyhow::Result<Arc<Publisher>> {
    let metrics = Arc::new(Metrics::new(registry)?);
    Ok(Arc::new(Publisher {
        channels,
        breaker: Breaker::new(config.breaker, Arc::clone(&metrics)),
        metrics,
        extension,
    }))
}

/// Takes one hand-made event through the stages, outside of a running bridge; publishes it if there
/// are channels.
///
/// # Errors
/// None in practice: metrics that are registered nowhere cannot collide.
pub async fn test_event(
    config: &crate::config::Config,
    channels: Option<Arc<dyn Channels>>,
    body: &[u8],
) -> anyhow::Result<dry_run::Verdict> {
    let prefix = config.kafka.as_ref().map_or("", |k| &k.topic_prefix);
    let evaluator = Arc::new(Evaluator::new(&config.bridge, config.limits, prefix));
    let publisher = channels
        .map(|channels| publisher(&config.bridge, channels, Arc::new(()), None))
        .transpose()?;
    let dry_run = DryRun::new(evaluator, prefix, &config.bridge.topics);
    let publish = publisher.is_some();
    Ok(dry_run.run(publisher.as_deref(), body, publish).await)
}
