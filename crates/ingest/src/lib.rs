//! The gateway: HTTP in, events onto the log.
//!
//! A request passes [`http`] (its routes), [`body`] (read and decompress within bounds), [`accept`]
//! (pure: body to events or to what is wrong), [`record`] (event to record), and is answered when the
//! log has acknowledged it; [`spill`] decides which log that is.
//!
//! Invariants, stated as absences: no answer before the acknowledgement of all replicas (or the
//! commit, where the log is PostgreSQL); no byte of a request held that the budget does not cover;
//! no read of the database for a request but for clients that wait until their events are stored
//! ([`waiters`]).

pub mod accept;
pub mod body;
pub mod client_info;
pub mod config;
pub mod http;
pub mod metrics;
pub mod middleware;
pub mod nats;
pub mod openapi;
pub mod record;
mod routes;
pub mod segment;
pub mod signature;
pub mod spill;
pub mod state;
pub mod tenant_rate;
pub mod waiters;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix_web::web;
use backon::{ExponentialBuilder, Retryable as _};
use domain::subject::EVENT_TOPICS;
use eventlog::kafka::{KafkaConfig, TopicSpec, topics};
use eventlog::postgres::PostgresLog;
use prometheus::Registry;
use service::auth::Authenticator;
use service::health::{Check, Health};
use store::Database;
use tokio::task::JoinHandle;

pub use config::Config;
pub use spill::Logs;
use state::State;

/// How long one attempt to create the topics may take, and the pauses between attempts.
const TOPICS_TIMEOUT: Duration = Duration::from_secs(30);
const TOPICS_BACKOFF: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_secs(2))
    .with_max_delay(Duration::from_secs(5))
    .without_max_times();

/// Runs until SIGTERM or SIGINT, then drains.
///
/// # Errors
/// The address cannot be bound, librdkafka refuses the settings, or the server fails.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let registry = service::metrics::registry()?;
    let http = config.http.clone();
    let auth = Authenticator::start(&http.auth, &http.host, &registry)?;
    let keys = config.spill.named.clone();
    let logs = logs(&config, &registry)?;
    let gateway = Gateway::new(config, &registry, logs)?;
    let health = gateway.health(Health::new(&http.service_name));
    if let Some(keys) = keys {
        let keys = Database::new(&keys.alone())?;
        auth.follow_database(move || store::api_keys::known(keys.clone()));
    }
    let bound = service::http::bind(&http, &auth, &registry, &health, gateway.configure())?;
    tracing::info!(address = %bound.address, "ingest listens");
    let mut server = tokio::spawn(bound.server);
    tokio::select! {
        signal = service::shutdown::requested() => {
            tracing::info!(signal = signal?, "draining");
            let began = Instant::now();
            bound.handle.leave().await;
            gateway.drain();
            bound.handle.stop(true).await;
            gateway.stop(http.grace.saturating_sub(began.elapsed())).await;
            server.await??;
            tracing::info!("stopped");
            Ok(())
        }
        ended = &mut server => Ok(ended??),
    }
}

/// Kafka, and the Postgres log for the times without it where a database is named.
fn logs(config: &Config, registry: &Registry) -> anyhow::Result<Logs> {
    let logs = Logs::kafka(&config.kafka, registry)?;
    let Some(database) = &config.spill.database else {
        tracing::info!("spill is off: while Kafka is down, events are refused");
        return Ok(logs);
    };
    tracing::info!("spill is on: while Kafka is down, backend events go to PostgreSQL");
    let log = PostgresLog::new(&Database::new(database)?, config.postgres_log(), registry)?;
    Ok(logs.with_spill(Arc::new(log)))
}

/// The gateway without its port, to be composed: [`run`] does that for a process of its own,
/// `tidegate` for all services in one.
pub struct Gateway {
    state: web::Data<State>,
    topics_ready: Arc<AtomicBool>,
    creating_topics: Option<JoinHandle<()>>,
    nats: Option<JoinHandle<()>>,
}

impl Gateway {
    /// Builds everything; does not wait for the logs. Must be called within a runtime.
    ///
    /// # Errors
    /// A metric is registered twice.
    pub fn new(config: Config, registry: &Registry, logs: Logs) -> anyhow::Result<Self> {
        let state = web::Data::new(State::new(config, registry, logs)?);
        let topics_ready = Arc::new(AtomicBool::new(false));
        let is_kafka = state.writer.kind() == spill::Kind::Kafka;
        Ok(Self {
            creating_topics: is_kafka.then(|| {
                let (kafka, ready) = (state.config.kafka.clone(), Arc::clone(&topics_ready));
                tokio::spawn(create_topics(kafka, ready))
            }),
            nats: state
                .config
                .nats
                .clone()
                .zip(state.nats.clone())
                .map(|(config, status)| tokio::spawn(nats::run(config, status, state.clone()))),
            topics_ready,
            state,
        })
    }

    /// The same with these steps before and after publishing. To be called once, before
    /// [`Gateway::configure`].
    #[must_use]
    pub fn with_middleware(self, chain: middleware::Chain) -> Self {
        // A second chain has no effect: the first may be in use.
        let _ = self.state.steps.set(chain);
        self
    }

    /// Adds what /ready checks.
    #[must_use]
    pub fn health(&self, health: Health) -> Health {
        let (writer, topics) = (
            Arc::clone(&self.state.writer),
            Arc::clone(&self.topics_ready),
        );
        let health = health.check(writer.kind().name(), move || {
            writer.check(topics.load(Ordering::Relaxed))
        });
        let Some(nats) = self.state.nats.clone() else {
            return health;
        };
        // What comes over HTTP is taken without it.
        let nats = Health::new("").check("nats", move || {
            if nats.connected() {
                Check::ok("connected")
            } else {
                Check::failed("no server is connected")
            }
        });
        health.advisory(nats, &[])
    }

    /// Adds the routes to an application or a scope.
    pub fn configure(&self) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static {
        let state = self.state.clone();
        move |app| routes::routes(app, &state)
    }

    /// Answers those who wait until their events are stored. To be called before the server is
    /// stopped, which waits for all its requests.
    pub fn drain(&self) {
        if let Some(waiters) = &self.state.waiters {
            waiters.drain();
        }
    }

    /// Waits until the logs have acknowledged what was published, at most `limit`. The server must
    /// have stopped before.
    pub async fn stop(self, limit: Duration) {
        for task in [&self.creating_topics, &self.nats].into_iter().flatten() {
            task.abort();
        }
        let limit = limit.max(Duration::from_millis(100));
        if let Err(error) = self.state.writer.flush(limit).await {
            tracing::error!(%error, "records were not acknowledged before the end");
        }
    }
}

/// Creates the topics while the gateway already answers; Kafka may start later.
async fn create_topics(kafka: KafkaConfig, ready: Arc<AtomicBool>) {
    let specs = EVENT_TOPICS.map(|name| TopicSpec::new(&kafka, name));
    let created = (|| topics::ensure(&kafka, &specs, TOPICS_TIMEOUT))
        .retry(TOPICS_BACKOFF)
        .notify(|error, _| tracing::warn!(%error, "the topics are not ready, trying again"))
        .await;
    if created.is_ok() {
        tracing::info!("the topics are ready");
        ready.store(true, Ordering::Relaxed);
    }
}
