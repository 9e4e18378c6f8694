//! The circuit breaker between the bridge and Redis (S2-24 … S2-30, C33, C34).
//!
//! One lock holds the state and the number of messages dropped since listeners were last sent a gap.
//! So no message is dropped once the probe that sends the gap has begun, and a gap covers every
//! dropped message.

mod window;

use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use config::Env;
use live::{Channels, LiveError};
use tokio::sync::watch;
use tokio::time::Instant;

use super::metrics::Metrics;
use window::Window;

/// Pauses between attempts to publish while the breaker is closed.
const PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(50))
    .with_max_delay(Duration::from_secs(1))
    .without_max_times();

/// What happens to messages while the breaker is open (C34).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnOpen {
    /// Messages are dropped and counted; listeners are sent a gap afterwards.
    Drop,
    /// Messages wait in Kafka.
    Pause,
}

/// When the breaker opens, for how long, and what happens meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct BreakerConfig {
    /// Failures within the window that open it (S2-43).
    pub failure_threshold: u32,
    /// Share of failed attempts within the window, 0 to 1, that opens it too …
    pub failure_rate: f64,
    /// … once the window has this many attempts.
    pub min_samples: u32,
    /// How long an outcome counts.
    pub window: Duration,
    /// How long it stays open before the probe (S2-44).
    pub recovery_timeout: Duration,
    /// What happens to messages meanwhile.
    pub on_open: OnOpen,
}

impl BreakerConfig {
    /// Reads the settings.
    #[must_use]
    pub fn from_env(env: &Env) -> Self {
        Self {
            failure_threshold: env.get_in(
                &["BREAKER_FAILURE_THRESHOLD"],
                5,
                1..=1_000_000,
                "Failures of Redis within the window that open the breaker.",
            ),
            failure_rate: env.get_in(
                &["BREAKER_FAILURE_RATE"],
                0.5,
                0.01..=1.0,
                "Share of failed attempts within the window that opens the breaker too.",
            ),
            min_samples: env.get_in(
                &["BREAKER_MIN_SAMPLES"],
                20,
                1..=1_000_000,
                "Attempts within the window before that share counts.",
            ),
            window: Duration::from_secs(env.get_in(
                &["BREAKER_WINDOW_SECONDS"],
                60,
                1..=3_600,
                "Seconds an outcome counts.",
            )),
            recovery_timeout: Duration::from_secs(env.get_in(
                &["BREAKER_RECOVERY_TIMEOUT"],
                60,
                1..=3_600,
                "Seconds until an open breaker is probed.",
            )),
            on_open: env.get_one_of(
                "BRIDGE_ON_OPEN",
                [("drop", OnOpen::Drop), ("pause", OnOpen::Pause)],
                "While the breaker is open: drop messages (listeners get a `reset` afterwards) or pause.",
            ),
        }
    }

    /// Whether a window has too many failures (C33).
    fn opens_at(&self, window: &Window) -> bool {
        let (attempts, failures) = window.totals();
        let often = window.failure_rate() >= self.failure_rate;
        failures >= self.failure_threshold || (attempts >= self.min_samples && often)
    }
}

/// The three states of a circuit breaker, with their numbers in metrics (S2-55).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Every message is tried.
    Closed = 0,
    /// None is tried.
    Open = 1,
    /// One probe is under way.
    HalfOpen = 2,
}

impl BreakerState {
    /// The word in metrics, health and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// What to do with a batch now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// Publish it, and record the outcome.
    Publish,
    /// Drop it; the breaker has counted its messages.
    Drop,
    /// Leave it to the next process, because this one stops.
    Stop,
}

/// How publishing through the breaker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishOutcome<T> {
    /// It was published.
    Published(T),
    /// It was dropped because the breaker is open; listeners will be sent a gap.
    Dropped,
    /// Nothing was done, because the bridge stops.
    Stopped,
}

/// The breaker with all that share it: those that publish, and the timer that probes.
#[derive(Debug)]
pub struct Breaker {
    inner: watch::Sender<Inner>,
    config: BreakerConfig,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Inner {
    state: BreakerState,
    /// When an open breaker is to be probed.
    probe_at: Instant,
    window: Window,
    /// Messages dropped since listeners were last sent a gap.
    unreported_drops: u64,
    stopping: bool,
}

impl Breaker {
    /// A closed breaker (S2-25).
    #[must_use]
    pub fn new(config: BreakerConfig, metrics: Arc<Metrics>) -> Self {
        let inner = Inner {
            state: BreakerState::Closed,
            probe_at: Instant::now(),
            window: Window::new(config.window),
            unreported_drops: 0,
            stopping: false,
        };
        Self {
            inner: watch::Sender::new(inner),
            config,
            metrics,
        }
    }

    /// The current state.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.inner.borrow().state
    }

    /// Share of failures among the attempts of the window, 0 to 1; 1 unless closed.
    #[must_use]
    pub fn failure_rate(&self) -> f64 {
        let inner = self.inner.borrow();
        if inner.state == BreakerState::Closed {
            inner.window.failure_rate()
        } else {
            1.0
        }
    }

    /// Time until an open breaker is probed.
    #[must_use]
    pub fn probe_in(&self) -> Option<Duration> {
        let inner = self.inner.borrow();
        (inner.state == BreakerState::Open)
            .then(|| inner.probe_at.saturating_duration_since(Instant::now()))
    }

    /// Messages dropped since listeners were last sent a gap.
    #[must_use]
    pub fn unreported_drops(&self) -> u64 {
        self.inner.borrow().unreported_drops
    }

    /// Waits until listeners were sent a gap for every dropped message.
    pub async fn drops_reported(&self) {
        let mut changes = self.inner.subscribe();
        // An error means that the sender is gone, which is borrowed here.
        let _ = changes.wait_for(|inner| inner.unreported_drops == 0).await;
    }

    /// Ends all waiting; failures are not retried any more.
    pub fn stop(&self) {
        self.inner.send_modify(|inner| inner.stopping = true);
    }

    /// Whether messages may be tried now (S2-24).
    #[must_use]
    pub fn can_attempt(&self) -> bool {
        self.state() == BreakerState::Closed
    }

    /// Decides about a batch of so many messages: at once while the breaker is closed; after the
    /// probe while it is half-open; and at once again while it is open, if `may_drop` or the
    /// settings say so.
    pub async fn acquire(&self, messages: usize, may_drop: bool) -> Permit {
        let drops = may_drop || self.config.on_open == OnOpen::Drop;
        let mut changes = self.inner.subscribe();
        loop {
            let mut permit = None;
            self.inner.send_if_modified(|inner| {
                permit = match inner.state {
                    BreakerState::Closed => Some(Permit::Publish),
                    BreakerState::Open if drops => {
                        inner.unreported_drops += messages as u64;
                        Some(Permit::Drop)
                    }
                    _ => inner.stopping.then_some(Permit::Stop),
                };
                false
            });
            if let Some(permit) = permit {
                return permit;
            }
            if changes.changed().await.is_err() {
                return Permit::Stop;
            }
        }
    }

    /// Publishes with a permit, again after each failure, until it works, the breaker opens or the
    /// bridge stops. `messages` and `may_drop` are those of [`Self::acquire`].
    pub async fn run<T, F>(
        &self,
        messages: usize,
        may_drop: bool,
        publish: impl Fn() -> F,
    ) -> PublishOutcome<T>
    where
        F: Future<Output = Result<T, LiveError>>,
    {
        let attempt = async || match self.acquire(messages, may_drop).await {
            Permit::Drop => Ok(PublishOutcome::Dropped),
            Permit::Stop => Ok(PublishOutcome::Stopped),
            Permit::Publish => {
                let result = publish().await;
                self.record(&result);
                result.map(PublishOutcome::Published)
            }
        };
        attempt
            .retry(PAUSES)
            .when(|_| !self.inner.borrow().stopping)
            .await
            .unwrap_or(PublishOutcome::Stopped)
    }

    /// Records the result of an attempt (S2-24). Counts only while the breaker is closed, and opens it
    /// if there were too many failures.
    pub fn record<T>(&self, result: &Result<T, LiveError>) {
        let error = result.as_ref().err();
        let opened = self.change(|inner| {
            if inner.state == BreakerState::Closed {
                inner.window.record(error.is_some());
                if error.is_some() && self.config.opens_at(&inner.window) {
                    inner.open(self.config.recovery_timeout);
                }
            }
        });
        let Some(error) = error else { return };
        self.count_error(error);
        if opened {
            tracing::warn!(%error, on_open = ?self.config.on_open, "the breaker opened: live delivery pauses, nothing else does");
        } else {
            tracing::debug!(%error, "publishing to Redis failed");
        }
    }

    /// Probes an open breaker when it is due (S2-27), until dropped. Only one task may run this.
    pub async fn probe_when_due(&self, channels: &dyn Channels) {
        let mut changes = self.inner.subscribe();
        loop {
            let open = changes.wait_for(|inner| inner.state != BreakerState::Closed);
            let Ok(at) = open.await.map(|inner| inner.probe_at) else {
                return;
            };
            tokio::time::sleep_until(at).await;
            self.probe(channels).await;
        }
    }

    /// The one probe: marks the gap if messages were dropped, a write that has to be made anyway and
    /// that reaches every listener before what is published afterwards. A probe that was cancelled
    /// leaves the breaker half-open, and the next one begins at once.
    async fn probe(&self, channels: &dyn Channels) {
        let mut drops = 0;
        self.change(|inner| {
            inner.state = BreakerState::HalfOpen;
            drops = inner.unreported_drops;
        });
        let outcome = if drops > 0 {
            channels.mark_gap().await.map(drop)
        } else {
            channels.publish(&[]).await.map(drop)
        };
        match outcome {
            Ok(()) => {
                if drops > 0 {
                    self.metrics.collectors.gaps.inc();
                }
                self.change(|inner| {
                    inner.state = BreakerState::Closed;
                    inner.window.clear();
                    inner.unreported_drops = inner.unreported_drops.saturating_sub(drops);
                });
                tracing::info!(
                    messages.dropped = drops,
                    "the breaker closed: live delivery goes on"
                );
            }
            Err(error) => {
                self.count_error(&error);
                self.change(|inner| inner.open(self.config.recovery_timeout));
                tracing::info!(%error, "the probe failed: the breaker stays open");
            }
        }
    }

    /// Changes the breaker, and wakes all that wait if it enters another state; true if it does.
    fn change(&self, act: impl FnOnce(&mut Inner)) -> bool {
        self.inner.send_if_modified(|inner| {
            let before = inner.state;
            act(inner);
            let changed = inner.state != before;
            if changed {
                self.count_state(inner.state);
            }
            changed
        })
    }

    fn count_state(&self, state: BreakerState) {
        let collectors = &self.metrics.collectors;
        collectors.breaker_state.set(state as i64);
        let transitions = &collectors.breaker_transitions;
        transitions.with_label_values(&[state.as_str()]).inc();
    }

    fn count_error(&self, error: &LiveError) {
        self.metrics.error(match error {
            LiveError::Unavailable(_) => "redis_unavailable",
            LiveError::Refused(_) => "redis_refused",
        });
    }
}

impl Inner {
    fn open(&mut self, recovery_timeout: Duration) {
        self.state = BreakerState::Open;
        self.probe_at = Instant::now() + recovery_timeout;
    }
}

#[cfg(test)]
mod tests;
