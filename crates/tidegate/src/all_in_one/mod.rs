//! All services in one process, on one port: it only composes what `ingest`, `processor` and
//! `query` offer.
//!
//! The log is the Postgres log, or Kafka where `KAFKA_BROKERS` is set (and the Postgres log while
//! Kafka is down); live messages stay inside the process, or go through Redis where `REDIS_URL` is
//! set. Several processes on one database need Redis for live messages, because each has its own
//! listeners.

mod router;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use config::{ConfigError, Env};
use eventlog::postgres::PostgresLog;
use ingest::{Gateway, Logs};
use live::Channels;
use live::local::LocalChannels;
use live::redis::RedisChannels;
use processor::{Deps, Processor};
use prometheus::Registry;
use query::Query;
use service::auth::Authenticator;
use service::config::HttpConfig;
use service::health::Health;
use service::http::Handle;
use service::metrics::Registries;
use store::Database;
use tokio::task::JoinHandle;

/// The checks of the processor that fail only when one of its tasks has ended: the process must be
/// restarted then.
const OWN_TASKS: [&str; 3] = ["postgres_log", "consumer", "bridge"];

/// The settings of all services.
pub(crate) struct Config {
    http: HttpConfig,
    ingest: ingest::Config,
    processor: processor::config::Config,
    query: query::config::Config,
    /// Whether the log is Kafka; else it is the Postgres log.
    pub(crate) has_kafka: bool,
    /// Whether live messages go through Redis; else they stay in the process.
    pub(crate) has_redis: bool,
}

impl Config {
    /// Reads the settings.
    ///
    /// # Errors
    /// Every invalid setting, named by its variable.
    pub(crate) fn from_env(env: &Env) -> Result<Self, ConfigError> {
        // First, so that the reference and the errors begin with the settings of this command.
        let http = HttpConfig::from_env(env, "TIDEGATE_PORT", 8208);
        // All are read before the first error is returned, so that every problem is named.
        let ingest = ingest::Config::from_env(env);
        let processor = processor::config::Config::from_env(env);
        let query = query::config::Config::from_env(env);
        if let Err(ConfigError(mut problems)) = env.finish() {
            let mut seen = std::collections::HashSet::new();
            problems.retain(|problem| seen.insert(problem.clone()));
            return Err(ConfigError(problems));
        }
        let mut config = Self {
            http,
            has_kafka: env.is_set("KAFKA_BROKERS"),
            has_redis: env.is_set("REDIS_URL"),
            ingest: ingest?,
            processor: processor?,
            query: query?,
        };
        config.query.cache.in_redis = config.has_redis;
        config.ingest.spill.named = Some(config.processor.database.clone());
        if !config.has_kafka {
            // Topics are names in a table then; gateway and processor must use the same.
            config.ingest.kafka.topic_prefix.clear();
            config.processor.kafka = None;
            config.query.announces.kafka = false;
        }
        for http in [
            &mut config.ingest.http,
            &mut config.processor.http,
            &mut config.query.http,
        ] {
            http.clone_from(&config.http);
        }
        Ok(config)
    }

    /// The database of all services.
    pub(crate) fn database(&self) -> &store::DatabaseConfig {
        &self.processor.database
    }

    /// Checks that the services can listen on their address.
    ///
    /// # Errors
    /// Another process listens there, or the address is not of this machine.
    pub(crate) fn can_listen(&self) -> anyhow::Result<()> {
        can_listen(&self.http.host, self.http.port, "TIDEGATE_PORT")
    }
}

/// The running services.
pub(crate) struct Server {
    /// The address they listen on.
    pub(crate) address: SocketAddr,
    grace: Duration,
    handle: Handle,
    server: JoinHandle<std::io::Result<()>>,
    gateway: Gateway,
    processor: Processor,
    query: Query,
}

impl Server {
    /// Starts the services; waits for no dependency.
    ///
    /// # Errors
    /// The address cannot be bound, or a client refuses its settings.
    pub(crate) fn start(config: Config) -> anyhow::Result<Self> {
        let process = service::metrics::registry()?;
        let [for_ingest, for_processor, for_query] = [(); 3].map(|()| Registry::new());
        let registries = Registries::default()
            .with(None, &process)
            .with(Some("ingest"), &for_ingest)
            .with(Some("processor"), &for_processor)
            .with(Some("query"), &for_query);

        let channels: Arc<dyn Channels> = if config.has_redis {
            Arc::new(RedisChannels::new(config.query.redis.clone())?)
        } else {
            Arc::new(LocalChannels::new(config.query.redis.retention))
        };
        let logs = logs(&config, &for_ingest)?;
        let keys = Database::new(&config.database().alone())?;
        let http = config.http;
        let auth = Authenticator::start(&http.auth, &http.host, &process)?;
        auth.follow_database(move || store::api_keys::known(keys.clone()));
        let gateway = Gateway::new(config.ingest, &for_ingest, logs)?;
        let deps = Deps {
            channels: Some(Arc::clone(&channels)),
            local: !config.has_redis,
            ..Deps::default()
        };
        let processor = Processor::new(config.processor, &for_processor, deps)?;
        let query = Query::new(&config.query, &for_query, channels)?;

        let health = query.health(gateway.health(Health::new(&http.service_name)));
        // While Kafka is down the process still accepts events and answers queries, so it must stay
        // in the balancer's list.
        let part = processor.health(Health::new(&http.service_name));
        let health = health.advisory(part, &OWN_TASKS);
        let ingest = gateway.configure();
        let (bridge, reads) = (processor.configure(), query.configure());
        // Slow clients must leave half of the grace period to storing.
        let http_config = HttpConfig {
            grace: Duration::from_secs(http.grace.as_secs().div_ceil(2)),
            ..http.clone()
        };
        let bound = service::http::bind(&http_config, &auth, registries, &health, move |app| {
            router::routes(app, &ingest, &bridge, &reads);
        })?;
        Ok(Self {
            address: bound.address,
            grace: http.grace,
            handle: bound.handle,
            server: tokio::spawn(bound.server),
            gateway,
            processor,
            query,
        })
    }

    /// Returns when the HTTP server has ended by itself.
    pub(crate) async fn ended(&mut self) -> anyhow::Result<()> {
        Ok((&mut self.server)
            .await
            .context("the HTTP server's task")??)
    }

    /// Stops as [`Self::stop`] does, but at most until `cut_short` completes: what is not stored then
    /// is stored after the next start.
    pub(crate) async fn stop_unless(self, cut_short: impl Future) {
        tokio::select! {
            () = self.stop() => {}
            _ = cut_short => tracing::warn!("stopped before the drain was complete"),
        }
    }

    /// Stops listening, answers the open requests and stores what was accepted, all within one grace
    /// period. What is not stored then is on the log.
    pub(crate) async fn stop(self) {
        let began = Instant::now();
        let left = || self.grace.saturating_sub(began.elapsed());
        self.handle.leave().await;
        // Live streams do not end by themselves.
        self.query.drain().await;
        self.gateway.drain();
        // Half of the time at most, see `start`.
        self.handle.stop(true).await;
        self.gateway.stop(left()).await;
        self.processor.stop_within(left()).await;
        self.query.stop().await;
        match self.server.await {
            Ok(Ok(())) => tracing::info!("stopped"),
            Ok(Err(error)) => tracing::error!(%error, "the HTTP server failed"),
            Err(error) => tracing::error!(%error, "the HTTP server failed"),
        }
    }
}

fn logs(config: &Config, registry: &Registry) -> anyhow::Result<Logs> {
    let postgres = |database: &store::DatabaseConfig| -> anyhow::Result<Arc<PostgresLog>> {
        let db = Database::new(database)?;
        let config = config.ingest.postgres_log();
        Ok(Arc::new(PostgresLog::new(&db, config, registry)?))
    };
    if !config.has_kafka {
        return Ok(Logs::postgres(postgres(config.database())?));
    }
    let logs = Logs::kafka(&config.ingest.kafka, registry)?;
    Ok(match &config.ingest.spill.database {
        Some(database) => logs.with_spill(postgres(database)?),
        None => logs,
    })
}

/// Checks that an address can be listened on, before anything else is begun. `setting` names the
/// port in the error.
///
/// # Errors
/// Another process listens there, or the address is not of this machine.
pub(crate) fn can_listen(host: &str, port: u16, setting: &str) -> anyhow::Result<()> {
    match TcpListener::bind((host, port)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => bail!(
            "port {port} of {host} is taken: stop what listens there (`tidegate status` tells \
             whether it is Tidegate), or name another with {setting}"
        ),
        Err(error) => Err(error).with_context(|| format!("cannot listen on {host}:{port}")),
    }
}
