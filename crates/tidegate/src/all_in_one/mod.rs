//! All services in one process, on one port: it only composes what `ingest`, `processor` and
//! `query` offer.
//!
//! The log is the Postgres log, or Kafka where `KAFKA_BROKERS` is set (and the Postgres log for the
//! times without it); live messages stay inside the process, or go through Redis where `REDIS_URL`
//! is set. More than one process on one database needs Redis for live messages, for each has but
//! its own listeners.

mod openapi;
mod router;

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use actix_web::web;
use anyhow::{Context as _, bail};
use config::{ConfigError, Env};
use eventlog::postgres::PostgresLog;
use ingest::{Gateway, Logs};
use live::Channels;
use live::local::{LocalChannels, LocalConfig};
use live::redis::RedisChannels;
use processor::{Deps, Processor};
use prometheus::Registry;
use query::Query;
use service::config::HttpConfig;
use service::health::Health;
use service::metrics::Registries;
use store::Database;
use tokio::task::JoinHandle;

/// Checks of the processor that fail only when a task of its own is dead or broken: nothing mends
/// that but another process.
const OWN_TASKS: [&str; 3] = ["postgres_log", "consumer", "bridge"];

/// The settings of all of them.
pub(crate) struct Config {
    http: HttpConfig,
    ingest: ingest::Config,
    processor: processor::config::Config,
    query: query::config::Config,
    local: LocalConfig,
    has_kafka: bool,
    has_redis: bool,
}

impl Config {
    /// Reads them.
    ///
    /// # Errors
    /// Every invalid one, named by its variable.
    pub(crate) fn from_env(env: &Env) -> Result<Self, ConfigError> {
        // First, so that the reference and the complaints begin with what is particular here.
        let http = HttpConfig::from_env(env, "TIDEGATE_PORT", 8208);
        // All are read before any complains, so that everything is named at once.
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
            local: LocalConfig::from_env(env),
            ingest: ingest?,
            processor: processor?,
            query: query?,
        };
        if !config.has_kafka {
            // The topics are but words in a table then; gateway and processor must use the same.
            config.ingest.kafka.topic_prefix.clear();
            config.processor.kafka = None;
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

    /// The database of them all.
    pub(crate) fn database(&self) -> &store::DatabaseConfig {
        &self.processor.database
    }

    /// Whether one can listen where it says, for the sentence is better before all else is begun.
    ///
    /// # Errors
    /// Somebody listens there, or the address is not of this machine.
    pub(crate) fn can_listen(&self) -> anyhow::Result<()> {
        let HttpConfig { host, port, .. } = &self.http;
        match TcpListener::bind((host.as_str(), *port)) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => bail!(
                "port {port} of {host} is taken: stop what listens there, or name another with \
                 TIDEGATE_PORT"
            ),
            Err(error) => Err(error).with_context(|| format!("cannot listen on {host}:{port}")),
        }
    }

    /// In few words what it is made of.
    pub(crate) fn shape(&self) -> String {
        let log = if self.has_kafka {
            "Kafka"
        } else {
            "PostgreSQL"
        };
        let live = if self.has_redis {
            "Redis"
        } else {
            "inside this process"
        };
        format!("log: {log}, live: {live}")
    }
}

/// The running services.
pub(crate) struct Server {
    /// Where they listen.
    pub(crate) address: SocketAddr,
    grace: Duration,
    handle: ServerHandle,
    server: JoinHandle<std::io::Result<()>>,
    gateway: Gateway,
    processor: Processor,
    query: Query,
}

impl Server {
    /// Starts everything; waits for nothing.
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
            Arc::new(LocalChannels::new(config.local))
        };
        let logs = logs(&config, &for_ingest)?;
        let http = config.http;
        let gateway = Gateway::new(config.ingest, &for_ingest, logs)?;
        let deps = Deps {
            channels: Some(Arc::clone(&channels)),
            local: !config.has_redis,
            ..Deps::default()
        };
        let processor = Processor::new(config.processor, &for_processor, deps)?;
        let query = Query::new(&config.query, &for_query, channels)?;

        let health = query.health(gateway.health(Health::new(&http.service_name)));
        // With Kafka away the processor has nothing to do but to drain the spill, and the process
        // still takes events and answers questions: it must stay in the balancer's list.
        let part = processor.health(Health::new(&http.service_name));
        let health = health.advisory(part, &OWN_TASKS);
        let openapi = web::Data::new(openapi::Text::new()?);
        let takes = gateway.configure();
        let (bridge, answers) = (processor.configure(), query.configure());
        // Clients that are slow must not use up the time that storing needs.
        let patience = HttpConfig {
            grace: Duration::from_secs(http.grace.as_secs().div_ceil(2)),
            ..http.clone()
        };
        let bound = service::http::bind(&patience, registries, &health, move |app| {
            app.app_data(openapi.clone());
            router::routes(app, &takes, &bridge, &answers);
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

    /// Returns when the server has ended by itself.
    pub(crate) async fn ended(&mut self) -> anyhow::Result<()> {
        Ok((&mut self.server)
            .await
            .context("the HTTP server's task")??)
    }

    /// The same, until somebody wants it to end at once: then what was taken but not stored is
    /// stored after the next start.
    pub(crate) async fn stop_unless(self, cut_short: impl Future) {
        tokio::select! {
            () = self.stop() => {}
            _ = cut_short => tracing::warn!("not drained"),
        }
    }

    /// Stops taking, answers what is under way, stores what was taken: all within one grace period.
    /// What is not stored then is on the log.
    pub(crate) async fn stop(self) {
        let began = Instant::now();
        let left = || self.grace.saturating_sub(began.elapsed());
        // The live streams would not end by themselves.
        self.query.drain().await;
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

/// The environment of this process, to be changed before it is read as settings.
pub(crate) fn environment() -> HashMap<String, String> {
    let mut variables = HashMap::new();
    for (name, value) in std::env::vars_os() {
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => {
                variables.insert(name, value);
            }
            (name, _) => tracing::warn!(?name, "a variable that is no UTF-8 is ignored"),
        }
    }
    variables
}
