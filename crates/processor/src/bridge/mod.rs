//! The bridge: what happens reaches the browsers of whom it concerns, milliseconds later.
//!
//! Read in this order: [`consume`] takes records, [`evaluate`] makes messages of them ([`event_fields`],
//! [`filter`], [`transform`]), [`publish`] sends them through the [`gate`] with its [`breaker`].
//!
//! Invariants, stated as absences: no disk is waited for, and nothing waits for the bridge; no bad
//! event opens the breaker; no message is dropped for Redis's sake without listeners being told;
//! nothing is published twice, whatever is killed or sent again.
//!
//! One that Redis refuses by itself (somebody else has a key of its channel's name) is counted and
//! logged, and nobody is told: while that key is there, nobody can read the channel either.

pub mod breaker;
pub mod config;
pub mod consume;
pub mod direct_input;
pub mod dry_run;
pub mod evaluate;
pub mod event_fields;
pub mod extension;
pub mod filter;
pub mod gate;
pub mod health;
mod http;
pub mod log_budget;
pub mod metrics;
pub mod profile;
pub mod publish;
mod registrar;
mod sessions;
pub mod transform;

use std::sync::Arc;
use std::time::{Duration, Instant};

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
pub use extension::Extension;

use consume::Worker;
use evaluate::Evaluator;
use gate::Gate;
use health::Monitor;
use log_budget::LogBudget;
use metrics::Metrics;
use publish::Publisher;

/// What the bridge is made of.
pub struct BridgeParts<'a> {
    /// Its rules.
    pub config: &'a BridgeConfig,
    /// What one event may be.
    pub limits: Limits,
    /// Where records come from; without it the bridge is only fed.
    pub kafka: Option<&'a KafkaConfig>,
    /// Where messages go.
    pub channels: Arc<dyn Channels>,
    /// What somebody added.
    pub extension: Arc<dyn Extension>,
    /// Where its metrics are registered.
    pub registry: &'a Registry,
}

/// A running bridge.
pub struct Bridge {
    routes: Routes,
    gate: Arc<Gate>,
    lanes: JoinSet<()>,
    background: JoinSet<()>,
}

/// What the routes answer from.
#[derive(Clone)]
struct Routes {
    evaluator: Arc<Evaluator>,
    monitor: Monitor,
    topic: Arc<str>,
}

impl Bridge {
    /// Starts it; must be called within a runtime. Does not wait for Kafka or Redis.
    ///
    /// # Errors
    /// A client refuses its settings, or a metric is registered already.
    pub fn start(parts: BridgeParts<'_>) -> anyhow::Result<Self> {
        let config = parts.config;
        let metrics = Arc::new(Metrics::new(config.prometheus.then_some(parts.registry))?);
        let gate = Arc::new(Gate::new(
            config.breaker,
            config.on_open,
            Arc::clone(&metrics),
        ));
        let prefix = parts.kafka.map_or("", |kafka| &kafka.topic_prefix);
        let evaluator = Arc::new(Evaluator::new(config, parts.limits, prefix));
        let publisher = Arc::new(Publisher {
            channels: Arc::clone(&parts.channels),
            gate: Arc::clone(&gate),
            metrics,
            extension: parts.extension,
            logged: LogBudget::new(config.logged_per_second),
        });
        let mut lanes = JoinSet::new();
        let mut consumer = None;
        if let Some(kafka) = parts.kafka {
            let kafka = config.consumer(kafka);
            let topics = config.topic_names(&kafka);
            let (handle, ends) =
                Consumer::start(&kafka, &topics, config.lanes, config.buffer_bytes)?;
            for lane in ends {
                let (evaluator, publisher) = (Arc::clone(&evaluator), Arc::clone(&publisher));
                lanes.spawn(Worker::new(handle.clone(), evaluator, publisher).run(lane));
            }
            tracing::info!(?topics, group = kafka.group_id, profile = ?config.profile, "the bridge consumes");
            consumer = Some(handle);
        }
        let monitor = Monitor {
            publisher,
            consumer,
            started: Instant::now(),
        };
        let mut background = JoinSet::new();
        background.spawn(monitor.clone().watch(config.collect_interval));
        background.spawn({
            let gate = Arc::clone(&gate);
            async move { gate.keep(&*parts.channels).await }
        });
        let topic = format!("{prefix}{}", dry_run::topic(&config.topics)).into();
        Ok(Self {
            routes: Routes {
                evaluator,
                monitor,
                topic,
            },
            gate,
            lanes,
            background,
        })
    }

    /// For events that do not come through Kafka.
    #[must_use]
    pub fn direct_input(&self) -> DirectInput {
        DirectInput {
            evaluator: Arc::clone(&self.routes.evaluator),
            publisher: Arc::clone(&self.routes.monitor.publisher),
            name: "event_log".into(),
        }
    }

    /// Its consumer, if it has one.
    #[must_use]
    pub fn consumer(&self) -> Option<&Handle> {
        self.routes.monitor.consumer.as_ref()
    }

    /// Adds its checks. Redis being down is no reason to send nobody here: everything else works.
    #[must_use]
    pub fn health(&self, health: Health) -> Health {
        let publisher = Arc::clone(&self.routes.monitor.publisher);
        let health = health.check("live", move || {
            let state = publisher.gate.state().0.as_str();
            let why = publisher.channels.problem();
            let why = why.map_or(String::new(), |why| format!(" ({why})"));
            Check::ok(if publisher.channels.connected() {
                format!("connected, breaker {state}")
            } else {
                format!("down{why}, breaker {state}; check REDIS_URL, only live delivery suffers")
            })
        });
        let Some(consumer) = self.consumer().cloned() else {
            return health;
        };
        health.check("bridge", move || match consumer.problem() {
            Some(problem) => Check::failed(problem),
            None => Check::ok(format!("{} partitions assigned", consumer.assigned().len())),
        })
    }

    /// Its routes.
    pub fn configure(&self) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static + use<> {
        let routes = self.routes.clone();
        move |app| http::routes(app, &routes)
    }

    /// Ends in order (S2-12): publishes what was taken, commits its offsets, leaves the group, lets
    /// go of Redis, logs the last figures. What cannot be published in time is read again by
    /// whoever comes next.
    pub async fn stop(mut self, grace: Duration) {
        self.gate.stop();
        let drain = async {
            if let Some(consumer) = &self.routes.monitor.consumer {
                consumer.shutdown(grace).await;
            }
            while self.lanes.join_next().await.is_some() {}
        };
        if tokio::time::timeout(grace, drain).await.is_err() {
            tracing::warn!("the bridge did not drain in time; the rest will be read again");
            self.lanes.shutdown().await;
        }
        self.background.shutdown().await;
        self.routes.monitor.log("bridge stopped");
    }
}

/// Feeds one hand-made event through the stages, outside of a running bridge; with channels it is
/// published too.
///
/// # Errors
/// None in practice: metrics that are registered nowhere cannot collide.
pub async fn try_event(
    config: &crate::config::Config,
    channels: Option<Arc<dyn Channels>>,
    body: &[u8],
) -> anyhow::Result<dry_run::Verdict> {
    let prefix = config.kafka.as_ref().map_or("", |k| &k.topic_prefix);
    let evaluator = Evaluator::new(&config.bridge, config.limits, prefix);
    let publish = channels.is_some();
    let publisher = match channels {
        None => None,
        Some(channels) => {
            let metrics = Arc::new(Metrics::new(None)?);
            let (breaker, on_open) = (config.bridge.breaker, config.bridge.on_open);
            Some(Publisher {
                channels,
                gate: Arc::new(Gate::new(breaker, on_open, Arc::clone(&metrics))),
                metrics,
                extension: Arc::new(()),
                logged: LogBudget::new(0),
            })
        }
    };
    let topic = format!("{prefix}{}", dry_run::topic(&config.bridge.topics));
    Ok(dry_run::run(&evaluator, publisher.as_ref(), &topic, body, publish).await)
}
