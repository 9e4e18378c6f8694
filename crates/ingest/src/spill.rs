//! Where the events go: the primary log, and the Postgres log while the primary is down.
//!
//! A backend's event is worth a database transaction, a browser's click is not (C03): the backend
//! routes may spill, the frontend routes only with `SPILL_FRONTEND`. What was handed to Kafka and
//! timed out is spilled under the same event id, so that whatever became of it there it is stored
//! once.
//!
//! The way back needs nobody: while Kafka is unreachable the client says so, and once it is there
//! again it is used. A broker that takes connections but acknowledges nothing is noticed by the
//! first timeout; from then on one request a second tries it and the others spill at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use eventlog::kafka::{KafkaConfig, Producer, ProducerError};
use eventlog::{Outgoing, PublishError, Publisher};
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use service::health::Check;

/// How often a request tries a primary that let others wait in vain.
const PROBE_EVERY: Duration = Duration::from_secs(1);

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
    /// Kafka, whose topics the gateway makes.
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
            primary: Arc::new(Producer::eager(config, registry)?),
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

/// The logs with what decides between them.
pub struct Writer {
    logs: Logs,
    frontend: bool,
    started: Instant,
    /// The primary was reached once.
    reached: AtomicBool,
    /// The primary is connected and yet acknowledges nothing.
    silent: AtomicBool,
    /// Milliseconds after the start at which a request may try it again.
    next_probe: AtomicU64,
    /// Whether the last event that could go either way was spilled; only for the log lines.
    spilling: AtomicBool,
    spilled: IntCounter,
    failures: IntCounterVec,
}

impl Writer {
    /// `frontend` lets the frontend routes spill as well.
    ///
    /// # Errors
    /// A metric is registered twice.
    pub fn new(logs: Logs, frontend: bool, registry: &Registry) -> Result<Self, prometheus::Error> {
        let spilled = IntCounter::new(
            "tidegate_ingest_spilled_events_total",
            "Events written to the Postgres log because Kafka could not take them.",
        )?;
        let failures = IntCounterVec::new(
            Opts::new(
                "tidegate_ingest_spill_failures_total",
                "Requests that the Postgres log could not take either, by reason.",
            ),
            &["reason"],
        )?;
        if logs.spill.is_some() {
            registry.register(Box::new(spilled.clone()))?;
            registry.register(Box::new(failures.clone()))?;
        }
        Ok(Self {
            logs,
            frontend,
            started: Instant::now(),
            reached: AtomicBool::new(false),
            silent: AtomicBool::new(false),
            next_probe: AtomicU64::new(0),
            spilling: AtomicBool::new(false),
            spilled,
            failures,
        })
    }

    /// What the primary log is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.logs.kind
    }

    /// Whether the primary log can be reached, as far as is known.
    #[must_use]
    pub fn connected(&self) -> bool {
        let connected = self.logs.primary.connected();
        // Looked at first: a store per request would bounce the cache line between cores.
        if connected && !self.reached.load(Ordering::Relaxed) {
            self.reached.store(true, Ordering::Relaxed);
        }
        connected
    }

    /// Whether a request of such a route has anywhere to go, as far as is known.
    #[must_use]
    pub fn admits(&self, is_frontend: bool) -> bool {
        self.connected()
            || self
                .spill_for(is_frontend)
                .is_some_and(|log| log.connected())
    }

    fn spill_for(&self, is_frontend: bool) -> Option<&Arc<dyn Publisher>> {
        let allowed = self.frontend || !is_frontend;
        self.logs.spill.as_ref().filter(|_| allowed)
    }

    /// Publishes the records and waits until they are durable, in the one log or the other.
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
            let acknowledged = self.logs.primary.publish(&records)?;
            drop(records);
            return acknowledged.await;
        };
        let mut why = PublishError::Unavailable;
        if self.tries_primary() || !spill.connected() {
            let published = match self.logs.primary.publish(&records) {
                Ok(acknowledged) => {
                    let outcome = acknowledged.await;
                    self.heard(&outcome);
                    outcome
                }
                Err(error) => Err(error),
            };
            match published {
                // What is too large for one log is too large for the other, and a full queue is
                // no outage: the answer tells the client to come back.
                Ok(()) => {
                    self.note(None);
                    return Ok(());
                }
                Err(error @ (PublishError::TooLarge | PublishError::Full)) => return Err(error),
                Err(error) => why = error,
            }
        }
        let outcome = match spill.publish(&records) {
            Ok(acknowledged) => acknowledged.await,
            Err(error) => Err(error),
        };
        match &outcome {
            Ok(()) => {
                self.spilled.inc_by(records.len() as u64);
                self.note(Some(&why));
            }
            Err(error) => self.failures.with_label_values(&[error.reason()]).inc(),
        }
        outcome
    }

    /// Whether this request goes to the primary first.
    fn tries_primary(&self) -> bool {
        if !self.connected() {
            return false;
        }
        if !self.silent.load(Ordering::Relaxed) {
            return true;
        }
        let now = self.millis();
        let due = self.next_probe.load(Ordering::Relaxed);
        now >= due
            && self
                .next_probe
                .compare_exchange(
                    due,
                    now + millis(PROBE_EVERY),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok()
    }

    /// An acknowledgement of the primary came, or came not.
    fn heard(&self, outcome: &Result<(), PublishError>) {
        match outcome {
            Ok(()) => {
                if self.silent.load(Ordering::Relaxed) {
                    self.silent.store(false, Ordering::Relaxed);
                }
            }
            Err(PublishError::Unavailable) => {
                self.next_probe
                    .store(self.millis() + millis(PROBE_EVERY), Ordering::Relaxed);
                self.silent.store(true, Ordering::Relaxed);
            }
            Err(_) => {}
        }
    }

    /// Says so, once, when events take the other way than the ones before.
    fn note(&self, why_spilled: Option<&PublishError>) {
        let spilled = why_spilled.is_some();
        if self.spilling.load(Ordering::Relaxed) != spilled
            && self.spilling.swap(spilled, Ordering::Relaxed) != spilled
        {
            if let Some(reason) = why_spilled {
                tracing::warn!(%reason, "kafka takes no events, they are spilled to PostgreSQL");
            } else {
                tracing::info!("kafka takes events again, nothing is spilled any more");
            }
        }
    }

    fn millis(&self) -> u64 {
        millis(self.started.elapsed())
    }

    /// Whether there is another log to spill to.
    #[must_use]
    pub fn can_spill(&self) -> bool {
        self.logs.spill.is_some()
    }

    /// Whether events that may be spilled are.
    #[must_use]
    pub fn is_spilling(&self) -> bool {
        self.can_spill() && (!self.connected() || self.silent.load(Ordering::Relaxed))
    }

    fn is_connecting(&self) -> bool {
        !self.reached.load(Ordering::Relaxed) && self.started.elapsed() < CONNECTING
    }

    /// For /ready: spilling is ready, for the backend routes are answered. `topics` tells whether
    /// Kafka's topics are there.
    #[must_use]
    pub fn check(&self, topics: bool) -> Check {
        let connected = self.connected();
        if self.logs.kind == Kind::Postgres {
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
        match &self.logs.spill {
            None => Check::failed("no broker is reachable"),
            Some(_) if self.is_connecting() => Check::failed("connecting"),
            Some(spill) if spill.connected() => Check::ok("down, spilling to PostgreSQL"),
            Some(_) => Check::failed("down, and PostgreSQL cannot be reached"),
        }
    }

    /// Waits until everything enqueued is acknowledged or failed.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`] if records are still in flight after `limit`.
    pub async fn flush(&self, limit: Duration) -> Result<(), PublishError> {
        // Side by side: a primary that is down must not use up the time of the spill.
        let spill = async {
            match &self.logs.spill {
                Some(spill) => spill.flush(limit).await,
                None => Ok(()),
            }
        };
        let (primary, spill) = tokio::join!(self.logs.primary.flush(limit), spill);
        primary.and(spill)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
