//! Where events go: the primary log, or the Postgres log while Kafka is down (the spill).
//!
//! A backend's event is worth a database transaction, a browser's click is not (C03): the backend
//! routes may spill, the frontend routes only with `SPILL_FRONTEND`. An event that timed out in Kafka
//! is spilled under the same id, so it is stored once even if Kafka has it too.
//!
//! The client knows when Kafka is unreachable and when it is back. A broker that takes connections
//! but acknowledges nothing shows by the first timeout: from then on one request a second tries it,
//! and the others spill at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use eventlog::kafka::{KafkaConfig, Producer, ProducerError};
use eventlog::{Outgoing, PublishError, Publisher};
use prometheus::Registry;
use service::health::Check;

/// How often a request tries a primary that is connected but does not acknowledge.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// How long after the start the primary may take to be reached before /ready calls that an outage.
const CONNECTING: Duration = Duration::from_secs(5);

/// The logs a gateway writes to.
#[derive(Clone)]
pub struct Logs {
    primary: Arc<dyn Publisher>,
    kind: Kind,
    spill: Option<Arc<dyn Publisher>>,
}

/// What the primary log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Kafka, whose topics the gateway creates.
    Kafka,
    /// The Postgres log.
    Postgres,
}

impl Kind {
    /// Its name in /ready.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Postgres => "log",
        }
    }
}

impl Logs {
    /// Kafka; does not wait for it.
    ///
    /// # Errors
    /// librdkafka refuses the settings.
    pub fn kafka(config: &KafkaConfig, registry: &Registry) -> Result<Self, ProducerError> {
        Ok(Self {
            primary: Arc::new(Producer::low_latency(config, registry)?),
            kind: Kind::Kafka,
            spill: None,
        })
    }

    /// The Postgres log alone.
    #[must_use]
    pub fn postgres(log: Arc<dyn Publisher>) -> Self {
        Self {
            primary: log,
            kind: Kind::Postgres,
            spill: None,
        }
    }

    /// The same, with a log for the times when the primary is down.
    #[must_use]
    pub fn with_spill(self, log: Arc<dyn Publisher>) -> Self {
        Self {
            spill: Some(log),
            ..self
        }
    }
}

service::metrics! {
    /// What is counted of the spill.
    struct SpillMetrics {
        /// Events written to the Postgres log because Kafka could not take them.
        spilled: IntCounter("tidegate_ingest_spilled_events_total"),
        /// Requests that the Postgres log could not take either, by reason.
        failures: IntCounterVec("tidegate_ingest_spill_failures_total", ["reason"]),
    }
}

/// Publishes to the primary log or to the spill.
pub struct Writer {
    primary: Arc<dyn Publisher>,
    kind: Kind,
    spill: Option<Spill>,
    started: Instant,
    /// 0, or, while the primary is connected but does not acknowledge, the milliseconds after the
    /// start at which a request may try it again.
    retry_at: AtomicU64,
    /// Whether the primary has acknowledged anything yet.
    reached: AtomicBool,
    /// Whether the last event that could be spilled was; only for the log lines.
    spilling: AtomicBool,
}

struct Spill {
    log: Arc<dyn Publisher>,
    /// Whether the frontend routes spill as well.
    frontend: bool,
    metrics: SpillMetrics,
}

impl Writer {
    /// Creates the writer; `frontend` lets the frontend routes spill as well.
    ///
    /// # Errors
    /// A metric is registered twice.
    pub fn new(logs: Logs, frontend: bool, registry: &Registry) -> Result<Self, prometheus::Error> {
        let spill = |log| {
            let metrics = SpillMetrics::register(registry)?;
            Ok::<_, prometheus::Error>(Spill {
                log,
                frontend,
                metrics,
            })
        };
        Ok(Self {
            primary: logs.primary,
            kind: logs.kind,
            spill: logs.spill.map(spill).transpose()?,
            started: Instant::now(),
            retry_at: AtomicU64::new(0),
            reached: AtomicBool::new(false),
            spilling: AtomicBool::new(false),
        })
    }

    /// What the primary log is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether the primary log can be reached, as far as is known.
    #[must_use]
    pub fn connected(&self) -> bool {
        self.primary.connected()
    }

    /// Whether a log is reachable for a request of such a route, as far as is known.
    #[must_use]
    pub fn admits(&self, is_frontend: bool) -> bool {
        let spill = self.spill_for(is_frontend);
        self.connected() || spill.is_some_and(|spill| spill.log.connected())
    }

    fn spill_for(&self, is_frontend: bool) -> Option<&Spill> {
        let spill = self.spill.as_ref();
        spill.filter(|spill| spill.frontend || !is_frontend)
    }

    /// Publishes the records and waits until one of the logs has made them durable.
    ///
    /// # Errors
    /// No log took them; some may have been written all the same, so a retry must carry the same
    /// event ids.
    pub async fn publish(
        &self,
        records: Vec<Outgoing>,
        is_frontend: bool,
    ) -> Result<(), PublishError> {
        let Some(spill) = self.spill_for(is_frontend) else {
            let acknowledged = self.primary.publish(&records)?;
            drop(records);
            return acknowledged.await;
        };
        let mut reason = PublishError::Unavailable;
        if self.tries_primary() || !spill.log.connected() {
            let outcome = publish(&*self.primary, &records).await;
            self.observe(&outcome);
            match outcome {
                Ok(()) => {
                    self.log_change(None);
                    return Ok(());
                }
                // What is too large for one log is too large for the other, and a full queue is no
                // outage: the answer tells the client to retry.
                Err(error @ (PublishError::TooLarge | PublishError::Full)) => return Err(error),
                Err(error) => reason = error,
            }
        }
        let outcome = publish(&*spill.log, &records).await;
        match &outcome {
            Ok(()) => {
                spill.metrics.spilled.inc_by(records.len() as u64);
                self.log_change(Some(&reason));
            }
            Err(error) => {
                let failures = &spill.metrics.failures;
                failures.with_label_values(&[error.reason()]).inc();
            }
        }
        outcome
    }

    /// Whether this request goes to the primary first.
    fn tries_primary(&self) -> bool {
        let retry_at = self.retry_at.load(Ordering::Relaxed);
        let is_retry = || {
            let (now, relaxed) = (self.millis(), Ordering::Relaxed);
            let next = now + millis(RETRY_EVERY);
            now >= retry_at
                && self
                    .retry_at
                    .compare_exchange(retry_at, next, relaxed, relaxed)
                    .is_ok()
        };
        self.connected() && (retry_at == 0 || is_retry())
    }

    /// Notes whether the primary acknowledges.
    fn observe(&self, outcome: &Result<(), PublishError>) {
        match outcome {
            Ok(()) => {
                // Looked at first: a write to what all requests read costs more than a look.
                if !self.reached.load(Ordering::Relaxed) {
                    self.reached.store(true, Ordering::Relaxed);
                }
                if self.retry_at.load(Ordering::Relaxed) != 0 {
                    self.retry_at.store(0, Ordering::Relaxed);
                }
            }
            Err(PublishError::Unavailable) => {
                let next = self.millis() + millis(RETRY_EVERY);
                self.retry_at.store(next, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// Logs when events begin or cease to be spilled.
    fn log_change(&self, spilled_because: Option<&PublishError>) {
        let spilled = spilled_because.is_some();
        if self.spilling.load(Ordering::Relaxed) != spilled
            && self.spilling.swap(spilled, Ordering::Relaxed) != spilled
        {
            if let Some(reason) = spilled_because {
                tracing::warn!(%reason, "kafka takes no events, spilling them to PostgreSQL");
            } else {
                tracing::info!("kafka takes events again, spilling has ended");
            }
        }
    }

    fn millis(&self) -> u64 {
        millis(self.started.elapsed())
    }

    /// Whether there is another log to spill to.
    #[must_use]
    pub fn can_spill(&self) -> bool {
        self.spill.is_some()
    }

    /// Whether events that may be spilled are.
    #[must_use]
    pub fn is_spilling(&self) -> bool {
        self.can_spill() && (!self.connected() || self.retry_at.load(Ordering::Relaxed) != 0)
    }

    /// Whether the primary may still be about to be reached for the first time.
    fn is_starting(&self) -> bool {
        !self.reached.load(Ordering::Relaxed) && self.started.elapsed() < CONNECTING
    }

    /// For /ready: a gateway that spills is ready, for the backend routes are answered. `topics` says
    /// whether Kafka's topics exist.
    #[must_use]
    pub fn check(&self, topics: bool) -> Check {
        let connected = self.connected();
        if self.kind == Kind::Postgres {
            return if connected {
                Check::ok("connected")
            } else {
                Check::failed("PostgreSQL cannot be reached")
            };
        }
        if connected && !self.is_spilling() {
            return if topics {
                Check::ok("connected")
            } else {
                Check::failed("the topics are not there yet")
            };
        }
        match &self.spill {
            None => Check::failed("no broker is reachable"),
            Some(_) if !connected && self.is_starting() => Check::failed("connecting"),
            Some(spill) if spill.log.connected() => Check::ok("down, spilling to PostgreSQL"),
            Some(_) => Check::failed("down, and PostgreSQL cannot be reached"),
        }
    }

    /// Waits until everything enqueued is acknowledged or failed.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`] if records are still in flight after `limit`.
    pub async fn flush(&self, limit: Duration) -> Result<(), PublishError> {
        // Both at once: a primary that is down must not use up the time of the spill.
        let spill = async {
            match &self.spill {
                Some(spill) => spill.log.flush(limit).await,
                None => Ok(()),
            }
        };
        let (primary, spill) = tokio::join!(self.primary.flush(limit), spill);
        primary.and(spill)
    }
}

async fn publish(log: &dyn Publisher, records: &[Outgoing]) -> Result<(), PublishError> {
    log.publish(records)?.await
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
