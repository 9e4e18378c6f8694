//! The query service: answers questions about what is stored, streams events as they happen, and
//! changes nothing but dead letters, which it puts on the log once more or sets aside, and the definitions
//! of projections, which the processor follows.
//!
//! Invariants, stated as absences: no answer without a bound in rows, bytes and time
//! (a live stream has one in bytes that wait for it); no SQL (it
//! lives in `store`); no write to what is stored.

pub mod cache;
pub mod config;
pub mod cursor;
pub mod http;
pub mod metrics;
pub mod parameters;
pub mod state;
mod unindexed;

use std::sync::Arc;

use actix_web::web;
use anyhow::Context as _;
use live::Channels;
use live::redis::RedisChannels;
use prometheus::Registry;
use service::auth::Authenticator;
use service::health::Health;
use store::Database;
use tokio::task::JoinHandle;

use config::Config;
use metrics::Metrics;
use state::State;

/// Runs the service until SIGTERM or SIGINT, then lets the open requests end. PostgreSQL or Redis
/// being down is no error: they are waited for, and until then the answers are 503 and live streams
/// are quiet.
///
/// # Errors
/// The address cannot be bound, or the configuration of the database or of Redis is wrong.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let registry = service::metrics::registry()?;
    let channels = Arc::new(RedisChannels::new(config.redis.clone())?);
    let auth = Authenticator::start(&config.http.auth, &config.http.host, &registry)?;
    let keys = Database::new(&config.database.alone())?;
    auth.follow_database(move || store::api_keys::known(keys.clone()));
    let query = Query::new(&config, &registry, channels)?;
    let health = query.health(Health::new(&config.http.service_name));
    let bound = service::http::bind(&config.http, &auth, &registry, &health, query.configure())?;
    tracing::info!(address = %bound.address, "query listens");
    let server = tokio::spawn(bound.server);

    let signal = service::shutdown::requested().await?;
    tracing::info!(signal, "draining");
    bound.handle.leave().await;
    query.drain().await;
    bound.handle.stop(true).await;
    server.await.context("the HTTP server's task")??;
    query.stop().await;
    tracing::info!("stopped");
    Ok(())
}

/// The service without a server of its own.
pub struct Query {
    state: State,
    watcher: JoinHandle<()>,
}

impl Query {
    /// Builds it and begins to watch the database; waits for nothing. To be called within a
    /// runtime.
    ///
    /// # Errors
    /// The configuration of the database is wrong, or a metric is registered twice.
    pub fn new(
        config: &Config,
        registry: &Registry,
        channels: Arc<dyn Channels>,
    ) -> anyhow::Result<Self> {
        let state = State::new(config, Metrics::register(registry)?, channels)?;
        let watcher = tokio::spawn(state.clone().watch(config.migrate_on_start));
        Ok(Self { state, watcher })
    }

    /// Adds what /ready is to look at.
    #[must_use]
    pub fn health(&self, health: Health) -> Health {
        self.state.health(health)
    }

    /// What adds the routes to an application.
    pub fn configure(&self) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static {
        let state = self.state.clone();
        move |app: &mut web::ServiceConfig| http::routes(app, &state)
    }

    /// Ends the live streams, which would not end by themselves, and lets no new ones begin. To be
    /// called before the server is stopped, which waits for all its requests.
    pub async fn drain(&self) {
        self.state.listeners.drain().await;
    }

    /// Ends what runs beside the requests.
    pub async fn stop(self) {
        self.drain().await;
        self.watcher.abort();
        // Aborted is how it is meant to end.
        let _ = self.watcher.await;
    }
}
