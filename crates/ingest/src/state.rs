//! What the handlers share.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use domain::subject;
use eventlog::ByteBudget;
use prometheus::Registry;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::middleware::Chain;
use crate::nats::status::Status;
use crate::spill::{Logs, Writer};
use crate::tenant_rate::TenantRate;
use crate::waiters::Waiters;

/// One for the process; every worker thread holds a reference.
pub struct State {
    /// The settings.
    pub config: Config,
    /// The log.
    pub writer: Arc<Writer>,
    /// Bytes in flight.
    pub budget: Arc<ByteBudget>,
    /// What each tenant may still send.
    pub rate: TenantRate,
    /// The metrics.
    pub metrics: Metrics,
    pub(crate) steps: OnceLock<Chain>,
    /// Clients that wait until their events are stored; `None` without a database.
    pub waiters: Option<Waiters>,
    /// The connection to NATS; `None` without one.
    pub nats: Option<Arc<Status>>,
    topics: [(&'static str, Arc<str>); subject::EVENT_TOPICS.len()],
    turn: AtomicU32,
}

impl State {
    /// Registers the metrics.
    ///
    /// # Errors
    /// A metric is registered twice, or the configuration of the database is wrong.
    pub fn new(config: Config, registry: &Registry, logs: Logs) -> anyhow::Result<Self> {
        let writer = Arc::new(Writer::new(logs, config.spill.frontend, registry)?);
        let budget = ByteBudget::new(config.max_inflight_bytes);
        Ok(Self {
            metrics: Metrics::new(registry, &writer, &budget)?,
            topics: subject::EVENT_TOPICS.map(|name| (name, config.kafka.topic(name))),
            rate: TenantRate::new(config.tenant_limits, config.max_batch_events),
            waiters: config.spill.named.as_ref().map(Waiters::new).transpose()?,
            steps: OnceLock::new(),
            turn: AtomicU32::new(0),
            nats: match config.nats {
                Some(_) => Some(Arc::new(Status::new(registry)?)),
                None => None,
            },
            config,
            writer,
            budget,
        })
    }

    /// The steps before and after publishing.
    pub(crate) fn middleware(&self) -> &Chain {
        static NONE: Chain = Chain::empty();
        self.steps.get().unwrap_or(&NONE)
    }

    /// The full name of a topic an event travels on.
    #[must_use]
    pub fn topic(&self, name: &'static str) -> Arc<str> {
        let known = self.topics.iter().find(|(known, _)| *known == name);
        known.map_or_else(
            || self.config.kafka.topic(name),
            |(_, full)| Arc::clone(full),
        )
    }

    /// Seconds for a `Retry-After`: 1 to 5 in turn, so that the refused do not all come back at once.
    #[must_use]
    pub fn retry_after(&self) -> u32 {
        1 + self.turn.fetch_add(1, Ordering::Relaxed) % 5
    }
}
