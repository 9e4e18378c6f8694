//! The breaker as the lanes meet it: they try, drop or wait; and the timer that probes.
//!
//! One lock holds the breaker and the number of messages dropped since listeners were last told.
//! So no message is dropped after the probe that tells them has begun, and none goes by in silence.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use live::{Channels, LiveError};
use tokio::sync::watch;

use super::breaker::{Attempt, BreakerConfig, BreakerState, CircuitBreaker};
use super::config::OnOpen;
use super::metrics::Metrics;

/// Tokio's clock, so that tests can hold it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// What to do with a batch.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission {
    /// Try, and record the outcome.
    Attempt(Attempt),
    /// Drop it. It has been noted that listeners miss it.
    Drop,
    /// The bridge stops; leave it to whoever comes next.
    Stop,
}

/// See the module.
pub struct Gate {
    inner: Mutex<Inner>,
    on_open: OnOpen,
    /// Rises with every change of state; true once the bridge stops.
    changes: watch::Sender<(u64, bool)>,
    metrics: Arc<Metrics>,
}

struct Inner {
    breaker: CircuitBreaker,
    /// Messages dropped that listeners were not told of yet.
    unreported_drops: u64,
}

impl Gate {
    /// A gate with a closed breaker.
    #[must_use]
    pub fn new(config: BreakerConfig, on_open: OnOpen, metrics: Arc<Metrics>) -> Self {
        Self {
            inner: Mutex::new(Inner {
                breaker: CircuitBreaker::new(config),
                unreported_drops: 0,
            }),
            on_open,
            changes: watch::Sender::new((0, false)),
            metrics,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the breaker stands, and its rate of failures.
    #[must_use]
    pub fn state(&self) -> (BreakerState, f64) {
        let inner = self.inner();
        (inner.breaker.state(), inner.breaker.failure_rate(now()))
    }

    /// When an open breaker is tried again.
    #[must_use]
    pub fn retry_at(&self) -> Option<Instant> {
        self.inner().breaker.retry_at()
    }

    /// Messages dropped that listeners were not told of yet.
    #[must_use]
    pub fn unreported_drops(&self) -> u64 {
        self.inner().unreported_drops
    }

    /// Says when the state changes, and when the bridge stops.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<(u64, bool)> {
        self.changes.subscribe()
    }

    /// Lets no one wait any longer.
    pub fn stop(&self) {
        self.changes.send_modify(|(_, stopping)| *stopping = true);
    }

    /// Decides about a batch of so many messages: at once while the breaker is closed; not before
    /// the probe has ended while it is half-open; and while it is open at once again, if `may_drop`
    /// or if that is what is configured.
    pub async fn admit(&self, messages: usize, may_drop: bool) -> Admission {
        let mut changes = self.changes.subscribe();
        loop {
            let stopping = changes.borrow_and_update().1;
            {
                let mut inner = self.inner();
                if let Some(attempt) = inner.breaker.can_attempt() {
                    return Admission::Attempt(attempt);
                }
                let drops = may_drop || self.on_open == OnOpen::Drop;
                if inner.breaker.state() == BreakerState::Open && drops {
                    inner.unreported_drops += messages as u64;
                    return Admission::Drop;
                }
            }
            if stopping || changes.changed().await.is_err() {
                return Admission::Stop;
            }
        }
    }

    /// The permission to try at once, if the breaker gives one.
    #[must_use]
    pub fn attempt_now(&self) -> Option<Attempt> {
        self.inner().breaker.can_attempt()
    }

    /// Publishing worked.
    pub fn succeeded(&self, attempt: Attempt) {
        self.change(|inner| inner.breaker.record_success(attempt, now()));
    }

    /// Publishing did not work. True once the bridge stops: then it is not to be tried again.
    pub fn failed(&self, attempt: Attempt, error: &LiveError) -> bool {
        self.metrics.error(match error {
            LiveError::Unavailable(_) => "redis_unavailable",
            LiveError::Refused(_) => "redis_refused",
        });
        tracing::debug!(error = %error, "publishing failed");
        if self.change(|inner| inner.breaker.record_failure(attempt, now())) {
            tracing::warn!(error = %error, on_open = ?self.on_open, "the breaker opened; live delivery pauses, nothing else does");
        }
        self.changes.borrow().1
    }

    /// Does something with the breaker, and tells everyone if its state is another then.
    fn change(&self, act: impl FnOnce(&mut Inner)) -> bool {
        let mut inner = self.inner();
        let before = inner.breaker.state();
        act(&mut inner);
        let after = inner.breaker.state();
        drop(inner);
        if before == after {
            return false;
        }
        self.metrics.breaker_state.set(after.gauge());
        self.metrics.transition(after.as_str());
        self.changes.send_modify(|(version, _)| *version += 1);
        true
    }

    /// Probes an open breaker when it is due, until dropped (S2-27). The probe is the note that
    /// messages were lost, where some were: a write that has to be made anyway, and that reaches
    /// every listener before what is published afterwards.
    pub async fn keep(&self, channels: &dyn Channels) {
        let mut changes = self.changes.subscribe();
        loop {
            changes.borrow_and_update();
            let due = self.retry_at();
            match due {
                None => {
                    if changes.changed().await.is_err() {
                        return;
                    }
                }
                Some(at) => {
                    tokio::time::sleep_until(at.into()).await;
                    self.probe(channels).await;
                }
            }
        }
    }

    /// Probes now if that is due and nobody does; cancelling it gives the permission back.
    pub async fn probe(&self, channels: &dyn Channels) {
        let (mut begun, mut unreported_drops) = (None, 0);
        self.change(|inner| {
            begun = inner.breaker.begin_probe(now());
            unreported_drops = inner.unreported_drops;
        });
        let Some(attempt) = begun else { return };
        let probe = Probe {
            gate: self,
            attempt,
        };
        let outcome = if unreported_drops > 0 {
            channels.mark_gap().await.map(drop)
        } else {
            channels.publish(&[]).await.map(drop)
        };
        match outcome {
            Ok(()) => {
                if unreported_drops > 0 {
                    self.metrics.gaps.inc();
                }
                self.change(|inner| {
                    inner.unreported_drops =
                        inner.unreported_drops.saturating_sub(unreported_drops);
                    inner.breaker.record_success(probe.attempt, now());
                });
                tracing::info!(
                    messages.dropped = unreported_drops,
                    "the breaker closed; live delivery goes on"
                );
            }
            Err(error) => {
                self.metrics.error("redis_unavailable");
                self.change(|inner| inner.breaker.record_failure(probe.attempt, now()));
                tracing::info!(error = %error, "the probe failed; the breaker stays open");
            }
        }
    }
}

/// The one probe.
struct Probe<'a> {
    gate: &'a Gate,
    attempt: Attempt,
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        // Means nothing once its outcome has been recorded.
        self.gate
            .change(|inner| inner.breaker.release(self.attempt, now()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use live::{BoxFuture, Channel, Outcome, Publication, Resume, StreamId, Subscription};
    use tokio::sync::Semaphore;

    use super::*;

    /// Channels that answer probes when they are told to, well or badly.
    struct Probed {
        begun: Semaphore,
        answers: Semaphore,
        good: std::sync::atomic::AtomicBool,
        gaps: AtomicU32,
    }

    impl Probed {
        fn new(good: bool) -> Self {
            Self {
                begun: Semaphore::new(0),
                answers: Semaphore::new(0),
                good: good.into(),
                gaps: AtomicU32::new(0),
            }
        }

        async fn answer(&self) -> Result<(), LiveError> {
            self.begun.add_permits(1);
            self.answers.acquire().await.unwrap().forget();
            if self.good.load(Ordering::SeqCst) {
                Ok(())
            } else {
                Err(LiveError::Unavailable("away".to_owned()))
            }
        }

        async fn begun(&self) {
            self.begun.acquire().await.unwrap().forget();
        }
    }

    impl Channels for Probed {
        fn publish<'a>(
            &'a self,
            publications: &'a [Publication],
        ) -> BoxFuture<'a, Result<Vec<Outcome>, LiveError>> {
            assert!(publications.is_empty());
            Box::pin(async { self.answer().await.map(|()| vec![]) })
        }

        fn mark_gap(&self) -> BoxFuture<'_, Result<StreamId, LiveError>> {
            Box::pin(async {
                self.answer().await?;
                self.gaps.fetch_add(1, Ordering::SeqCst);
                Ok(StreamId::default())
            })
        }

        fn subscribe(&self, _: Channel, _: Resume, _: usize) -> Subscription {
            unreachable!("nobody listens here")
        }

        fn connected(&self) -> bool {
            true
        }
    }

    fn gate(on_open: OnOpen) -> Arc<Gate> {
        let metrics = Arc::new(Metrics::new(None).unwrap());
        Arc::new(Gate::new(BreakerConfig::default(), on_open, metrics))
    }

    async fn open(gate: &Gate) {
        for _ in 0..5 {
            let Admission::Attempt(attempt) = gate.admit(1, false).await else {
                panic!("not closed");
            };
            gate.failed(attempt, &LiveError::Unavailable("away".to_owned()));
        }
        assert_eq!(gate.state().0, BreakerState::Open);
    }

    /// Whether it is still waiting after everything that can happen now has happened.
    async fn waits<T>(task: &tokio::task::JoinHandle<T>) -> bool {
        tokio::time::sleep(Duration::from_millis(1)).await;
        !task.is_finished()
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_dropped_once_the_gap_is_being_noted() {
        let gate = gate(OnOpen::Drop);
        let channels = Arc::new(Probed::new(false));
        open(&gate).await;
        assert_eq!(gate.admit(7, false).await, Admission::Drop);
        assert_eq!(gate.unreported_drops(), 7);
        let keeper = {
            let (gate, channels) = (Arc::clone(&gate), Arc::clone(&channels));
            tokio::spawn(async move { gate.keep(&*channels).await })
        };
        // A first probe fails; what was dropped remains to be told.
        channels.begun().await;
        channels.answers.add_permits(1);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(gate.admit(3, false).await, Admission::Drop);

        channels.begun().await;
        channels.good.store(true, Ordering::SeqCst);
        let lane = {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move { gate.admit(5, false).await })
        };
        assert!(waits(&lane).await);
        assert_eq!(gate.unreported_drops(), 10);
        channels.answers.add_permits(1);
        assert!(matches!(lane.await.unwrap(), Admission::Attempt(_)));
        assert_eq!(
            (gate.unreported_drops(), gate.state().0),
            (0, BreakerState::Closed)
        );
        assert_eq!(channels.gaps.load(Ordering::SeqCst), 1);
        keeper.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_probe_is_made_up_for_at_once() {
        let gate = gate(OnOpen::Drop);
        let channels = Probed::new(true);
        open(&gate).await;
        let under_way = async {
            channels.begun().await;
            gate.state().0
        };
        tokio::select! {
            () = gate.keep(&channels) => unreachable!(),
            state = under_way => assert_eq!(state, BreakerState::HalfOpen),
        }
        assert_eq!(gate.state().0, BreakerState::Open);
        let before = now();
        channels.answers.add_permits(1);
        gate.probe(&channels).await;
        assert_eq!((gate.state().0, before), (BreakerState::Closed, now()));
        assert_eq!(channels.gaps.load(Ordering::SeqCst), 0, "nothing was lost");
    }

    #[tokio::test(start_paused = true)]
    async fn pausing_waits_until_it_is_stopped() {
        let gate = gate(OnOpen::Pause);
        open(&gate).await;
        assert_eq!(
            gate.admit(2, true).await,
            Admission::Drop,
            "who must not wait"
        );
        let lane = {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move { gate.admit(5, false).await })
        };
        assert!(waits(&lane).await);
        gate.stop();
        assert_eq!(lane.await.unwrap(), Admission::Stop);
        assert_eq!(gate.unreported_drops(), 2);
    }
}
