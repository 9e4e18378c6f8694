//! The processor: takes events from the log, stores each exactly once with everything that follows
//! from it ([`pipeline`]), and brings each to the browsers of whom it concerns ([`bridge`]).
//!
//! The two are roles: they share nothing but the process, and each can run alone. Invariants, stated
//! as absences: no event is acknowledged to Kafka before PostgreSQL has it; no count exists without
//! its event; no bad record stops a good one; storing never waits for live delivery.

mod anomalies;
mod audits;
pub mod bridge;
pub mod config;
mod erasures;
pub mod handler;
mod instrumentation;
pub mod jobs;
pub mod metrics;
mod nats;
mod pace;
mod partitions;
pub mod pipeline;
mod processing;
mod projections;
pub mod record;
mod replays;
mod rest;
pub mod rules;
mod search;
pub mod state;
pub mod status;
mod store_role;
pub mod tenant_topics;
mod user_counts;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use anyhow::Context as _;
use domain::fold::Extensions;
use domain::subject;
use eventlog::Source as _;
use eventlog::kafka::{KafkaConfig, TopicSpec, topics};
use live::Channels;
use live::redis::RedisChannels;
use prometheus::Registry;
use service::auth::Authenticator;
use service::health::{Check, Health};
use store::{Database, migrate};
use tokio::task::JoinSet;

use bridge::{Bridge, BridgeParts, Extension};
use config::Config;
use handler::EventHandler;
use processing::Handlers;
use store_role::StoreRole;

/// What a composition brings along.
#[derive(Clone, Default)]
pub struct Deps {
    /// Where live messages go; without it Redis as configured.
    pub channels: Option<Arc<dyn Channels>>,
    /// The channels, and with them all listeners, end with this process.
    pub local: bool,
    /// The extension of the bridge (S2-67).
    pub extension: Option<Arc<dyn Extension>>,
    /// What else is done with stored events; every process that stores should bring the same.
    pub handlers: Vec<Arc<dyn EventHandler>>,
    /// Reducers of projections by name, and upcasters (S3-34). All processors need the same.
    pub folding: Arc<Extensions>,
}

/// A running processor without an HTTP server of its own.
pub struct Processor {
    storing: Option<StoreRole>,
    bridge: Option<Bridge>,
    background: JoinSet<()>,
    grace: Duration,
}

impl Processor {
    /// Starts the roles; must be called within a runtime. Waits for no dependency.
    ///
    /// # Errors
    /// A client refuses its settings, or a metric is registered already.
    pub fn new(config: Config, registry: &Registry, deps: Deps) -> anyhow::Result<Self> {
        let mut background = JoinSet::new();
        if let Some(kafka) = config.kafka.clone() {
            let topics = topic_specs(&config, &kafka);
            background.spawn(async move { ensure_topics(&kafka, &topics).await });
        }
        // The bridge reads Kafka only: what is stored from another log goes live from here.
        let feeds = config.roles.store && config.has_redis;
        if config.roles.store && !config.roles.bridge {
            if feeds {
                tracing::info!("what comes past Kafka is stored and goes live from here");
            } else {
                tracing::warn!(
                    "what comes past Kafka is stored here and does not go live: REDIS_URL is not set"
                );
            }
        }
        let channels = match deps.channels {
            Some(channels) => Some(channels),
            None if config.roles.bridge || feeds => {
                Some(Arc::new(RedisChannels::new(config.redis.clone())?) as Arc<dyn Channels>)
            }
            None => None,
        };
        let bridge = match &channels {
            Some(channels) if config.roles.bridge || feeds => Some(Bridge::start(BridgeParts {
                config: &config.bridge,
                limits: config.limits,
                kafka: config.kafka.as_ref().filter(|_| config.roles.bridge),
                channels: Arc::clone(channels),
                extension: deps.extension.unwrap_or_else(|| Arc::new(())),
                registry,
            })?),
            _ => None,
        };
        let storing = if config.roles.store {
            let feed = bridge.as_ref().map(Bridge::direct_input);
            Some(StoreRole::start(
                &config,
                registry,
                feed,
                channels,
                !deps.local,
                Handlers::new(deps.handlers)?,
                &deps.folding,
            )?)
        } else {
            None
        };
        Ok(Self {
            storing,
            bridge,
            background,
            grace: config.http.grace,
        })
    }

    /// Adds its checks.
    #[must_use]
    pub fn health(&self, mut health: Health) -> Health {
        if let Some(storing) = &self.storing {
            health = storing.health(health);
        }
        let Some(bridge) = &self.bridge else {
            return health;
        };
        if self.storing.is_none()
            && let Some(kafka) = bridge.consumer().cloned()
        {
            health = health.check("kafka", move || kafka_check(kafka.connected()));
        }
        bridge.health(health)
    }

    /// Its routes.
    pub fn configure(&self) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static + use<> {
        let bridge = self.bridge.as_ref().map(Bridge::configure);
        let coordinator = self.storing.as_ref().map(StoreRole::coordinator);
        move |app| {
            if let Some(bridge) = &bridge {
                bridge(app);
            }
            if let Some(coordinator) = &coordinator {
                coordinator.routes(app);
            }
        }
    }

    /// Drains within the grace period: stops taking records, stores, announces and publishes those
    /// it has, commits, leaves the groups.
    pub async fn stop(self) {
        let grace = self.grace;
        self.stop_within(grace).await;
    }

    /// The same within that time, where more than the processor has to stop.
    pub async fn stop_within(mut self, grace: Duration) {
        self.background.shutdown().await;
        let storing = async {
            if let Some(storing) = self.storing {
                storing.stop(grace).await;
            }
        };
        let bridge = async {
            if let Some(bridge) = self.bridge {
                bridge.stop(grace).await;
            }
        };
        // Side by side, for both have the same time. A feed goes on working until it is dropped.
        tokio::join!(storing, bridge);
    }
}

/// Runs the processor until SIGTERM or SIGINT, then drains.
///
/// # Errors
/// The address cannot be bound or a client cannot be made. Dependencies that are down are no
/// error: they are waited for.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let registry = service::metrics::registry()?;
    let http = config.http.clone();
    let roles = config.roles;
    let auth = Authenticator::start(&http.auth, &http.host, &registry)?;
    let keys = Database::new(&config.database.alone())?;
    auth.follow_database(move || store::api_keys::known(keys.clone()));
    let processor = Processor::new(config, &registry, Deps::default())?;
    let health = processor.health(Health::new(&http.service_name));
    let bound = service::http::bind(&http, &auth, &registry, &health, processor.configure())?;
    let server = tokio::spawn(bound.server);
    tracing::info!(address = %bound.address, ?roles, "processor listens");

    let signal = service::shutdown::requested().await?;
    tracing::info!(signal, "draining");
    bound.handle.leave().await;
    processor.stop().await;
    bound.handle.stop(true).await;
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

/// Feeds one hand-made event through the bridge (S2-65), and publishes it if asked to.
///
/// # Errors
/// Redis' address is wrong.
pub async fn test_event(
    config: &Config,
    body: &[u8],
    publish: bool,
) -> anyhow::Result<bridge::dry_run::Verdict> {
    let channels = if publish {
        Some(Arc::new(RedisChannels::new(config.redis.clone())?) as Arc<dyn Channels>)
    } else {
        None
    };
    bridge::test_event(config, channels, body).await
}

fn kafka_check(connected: bool) -> Check {
    if connected {
        Check::ok("connected")
    } else {
        Check::failed("no broker answers; check KAFKA_BROKERS")
    }
}

/// The topics of the roles this process has.
fn topic_specs(config: &Config, kafka: &KafkaConfig) -> Vec<TopicSpec> {
    let mut names = vec![];
    if config.roles.store {
        names.extend(bridge::config::stored_topics(&config.domain_topics));
        names.extend([subject::ANNOUNCEMENTS, subject::ALERTS].map(str::to_owned));
    }
    if config.roles.bridge {
        names.extend(config.bridge.topics.iter().cloned());
    }
    names.sort();
    names.dedup();
    let spec = |name: &String| {
        let mut spec = TopicSpec::new(kafka, name);
        if name == subject::ANNOUNCEMENTS {
            let retention = config.event_stream_retention.as_millis().to_string();
            spec.settings.push(("retention.ms".to_owned(), retention));
        }
        spec
    };
    names.iter().map(spec).collect()
}

async fn ensure_topics(kafka: &KafkaConfig, specs: &[TopicSpec]) {
    while let Err(error) = topics::ensure(kafka, specs, Duration::from_secs(30)).await {
        tracing::warn!(error = %error, "topics could not be made sure of yet");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
