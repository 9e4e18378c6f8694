//! The gateway: HTTP in, events onto the log.
//!
//! A request passes [`http`] (who may come in), [`body`] (read and unpack within bounds),
//! [`accept`] (pure: body to events or to what is wrong), [`record`] (event to record), and is
//! answered when the log has acknowledged it.
//!
//! Invariants, stated as absences: no answer before the acknowledgement of all replicas; no byte of
//! a request held that the budget does not cover; no database.

pub mod accept;
pub mod body;
pub mod client_info;
pub mod config;
pub mod http;
pub mod metrics;
pub mod openapi;
pub mod record;
pub mod state;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use actix_web::web;
use domain::subject::EVENT_TOPICS;
use eventlog::kafka::{KafkaConfig, TopicSpec, topics};
use service::health::{Check, Health};
use tokio::task::JoinHandle;

pub use config::Config;
use state::State;

/// How long one round of making topics may take before the next.
const TOPIC_ROUND: Duration = Duration::from_secs(30);

/// Runs until SIGTERM or SIGINT, then drains.
///
/// # Errors
/// The address cannot be bound, librdkafka refuses the settings, or the server fails.
pub async fn run(config: Config) -> anyhow::Result<()> {
    for name in &config.ignored {
        tracing::warn!(variable = name, "ignored: there is no NATS connector yet");
    }
    let mut gateway = Gateway::start(config)?;
    tracing::info!(address = %gateway.address, "ingest listens");
    tokio::select! {
        signal = service::shutdown::requested() => {
            tracing::info!(signal = signal?, "draining");
            gateway.stop().await
        }
        ended = &mut gateway.server => Ok(ended??),
    }
}

/// The running service.
pub struct Gateway {
    /// Where it listens.
    pub address: SocketAddr,
    /// What the handlers share.
    pub state: web::Data<State>,
    server: JoinHandle<std::io::Result<()>>,
    handle: ServerHandle,
    making_topics: JoinHandle<()>,
}

impl Gateway {
    /// Builds everything and serves; port 0 takes a free one. Does not wait for Kafka.
    ///
    /// # Errors
    /// The address cannot be bound, or librdkafka refuses the settings.
    pub fn start(config: Config) -> anyhow::Result<Self> {
        let registry = service::metrics::registry()?;
        let http = config.http.clone();
        let state = web::Data::new(State::new(config, &registry)?);
        let openapi = web::Data::new(openapi::Text::new()?);
        let ready = Arc::new(AtomicBool::new(false));
        let health = Health::new(&http.service_name).check("kafka", {
            let (state, ready) = (state.clone(), Arc::clone(&ready));
            move || match (state.producer.connected(), ready.load(Ordering::Relaxed)) {
                (false, _) => Check::failed("no broker is reachable"),
                (true, false) => Check::failed("the topics are not there yet"),
                (true, true) => Check::ok("connected"),
            }
        });
        let bound = service::http::bind(&http, &registry, &health, {
            let state = state.clone();
            move |app: &mut web::ServiceConfig| {
                app.app_data(openapi.clone());
                http::routes(app, &state);
            }
        })?;
        Ok(Self {
            address: bound.address,
            server: tokio::spawn(bound.server),
            handle: bound.handle,
            making_topics: tokio::spawn(make_topics(state.config.kafka.clone(), ready)),
            state,
        })
    }

    /// Stops accepting, lets requests in flight finish and flushes the producer, all within the
    /// grace period.
    ///
    /// # Errors
    /// The server had failed.
    pub async fn stop(self) -> anyhow::Result<()> {
        let began = Instant::now();
        self.making_topics.abort();
        self.handle.stop(true).await;
        let left = self.state.config.http.grace.saturating_sub(began.elapsed());
        let left = left.max(Duration::from_millis(100));
        if let Err(error) = self.state.producer.flush(left).await {
            tracing::error!(%error, "records were not acknowledged before the end");
        }
        self.server.await??;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Makes sure of the topics while the gateway already answers; Kafka may come later than we.
async fn make_topics(kafka: KafkaConfig, ready: Arc<AtomicBool>) {
    let specs = EVENT_TOPICS.map(|name| TopicSpec::new(&kafka, name));
    loop {
        match topics::ensure(&kafka, &specs, TOPIC_ROUND).await {
            Ok(()) => {
                tracing::info!("the topics are ready");
                return ready.store(true, Ordering::Relaxed);
            }
            Err(error) => tracing::warn!(%error, "the topics are not ready, trying again"),
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}
