//! When the breaker opens and closes, and what is dropped meanwhile. Time stands still, and passes
//! only where a test lets it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use live::{BoxFuture, Channel, Outcome, Publication, Resume, StreamId, Subscription};
use tokio::sync::Semaphore;
use tokio::time::{advance, sleep};
use uuid::Uuid;

use super::*;

const RECOVERY: Duration = Duration::from_secs(60);
const MILLISECOND: Duration = Duration::from_millis(1);

/// Channels that answer probes when a test lets them, well or badly.
struct Probed {
    begun: Semaphore,
    answers: Semaphore,
    good: AtomicBool,
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
            Err(away())
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

    fn send_transient<'a>(
        &'a self,
        _: &'a [(Channel, live::Message)],
    ) -> BoxFuture<'a, Result<usize, LiveError>> {
        unreachable!("nobody is told anything here")
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

    fn erase<'a>(&'a self, _: &'a Channel, _: &'a [Uuid]) -> BoxFuture<'a, Result<u64, LiveError>> {
        unreachable!("nobody is erased here")
    }

    fn kept_bytes(&self) -> BoxFuture<'_, Option<u64>> {
        Box::pin(std::future::ready(None))
    }

    fn connected(&self) -> bool {
        true
    }
}

fn away() -> LiveError {
    LiveError::Unavailable("away".to_owned())
}

fn defaults() -> BreakerConfig {
    BreakerConfig::from_env(&Env::from_map(HashMap::new()))
}

fn breaker(config: BreakerConfig) -> Arc<Breaker> {
    Arc::new(Breaker::new(config, Arc::new(Metrics::new(None).unwrap())))
}

fn fail(breaker: &Breaker, times: u32) {
    (0..times).for_each(|_| breaker.record(&Err::<(), _>(away())));
}

fn succeed(breaker: &Breaker, times: u32) {
    (0..times).for_each(|_| breaker.record(&Ok(())));
}

fn opened(on_open: OnOpen) -> Arc<Breaker> {
    let breaker = breaker(BreakerConfig {
        on_open,
        ..defaults()
    });
    fail(&breaker, 5);
    assert_eq!(breaker.state(), BreakerState::Open);
    breaker
}

/// Probes the breaker when it is due.
fn prober(breaker: &Arc<Breaker>, channels: &Arc<Probed>) -> tokio::task::JoinHandle<()> {
    let (breaker, channels) = (Arc::clone(breaker), Arc::clone(channels));
    tokio::spawn(async move { breaker.probe_when_due(&*channels).await })
}

fn acquire(breaker: &Arc<Breaker>, messages: usize) -> tokio::task::JoinHandle<Permit> {
    let breaker = Arc::clone(breaker);
    tokio::spawn(async move { breaker.acquire(messages, false).await })
}

/// Whether it is still waiting after everything that can happen now has happened.
async fn waits<T>(task: &tokio::task::JoinHandle<T>) -> bool {
    sleep(MILLISECOND).await;
    !task.is_finished()
}

fn is_zero(rate: f64) -> bool {
    rate.abs() < 1e-9
}

#[tokio::test(start_paused = true)]
async fn opens_at_the_count_of_failures_within_the_window() {
    let breaker = breaker(defaults());
    assert_eq!(breaker.state(), BreakerState::Closed);
    fail(&breaker, 4);
    assert_eq!(breaker.state(), BreakerState::Closed);
    // The four are out of the window by then.
    advance(Duration::from_secs(61)).await;
    fail(&breaker, 1);
    assert_eq!(breaker.state(), BreakerState::Closed);
    fail(&breaker, 4);
    assert_eq!(breaker.state(), BreakerState::Open);
    assert!(!breaker.can_attempt());
}

#[tokio::test(start_paused = true)]
async fn opens_at_the_rate_once_there_are_enough_samples() {
    let config = BreakerConfig {
        failure_threshold: u32::MAX,
        ..defaults()
    };
    let few = breaker(config);
    fail(&few, 19);
    assert_eq!(few.state(), BreakerState::Closed, "19 samples");
    fail(&few, 1);
    assert_eq!(few.state(), BreakerState::Open, "20 samples");

    let half = breaker(config);
    succeed(&half, 30);
    fail(&half, 29);
    assert_eq!(half.state(), BreakerState::Closed, "29 of 59");
    assert!(is_zero(half.failure_rate() - 29.0 / 59.0));
    fail(&half, 1);
    assert_eq!(half.state(), BreakerState::Open, "30 of 60");
}

#[tokio::test(start_paused = true)]
async fn one_probe_after_the_cool_down_decides() {
    let breaker = opened(OnOpen::Drop);
    let channels = Arc::new(Probed::new(false));
    let prober = prober(&breaker, &channels);
    sleep(RECOVERY - MILLISECOND).await;
    assert_eq!(breaker.state(), BreakerState::Open);
    assert_eq!(breaker.probe_in(), Some(MILLISECOND));
    channels.begun().await;
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    assert!(!breaker.can_attempt());
    channels.answers.add_permits(1);
    sleep(MILLISECOND).await;
    assert_eq!(breaker.state(), BreakerState::Open);
    assert_eq!(breaker.probe_in(), Some(RECOVERY - MILLISECOND));

    channels.good.store(true, Ordering::SeqCst);
    channels.answers.add_permits(1);
    sleep(RECOVERY).await;
    assert_eq!(breaker.state(), BreakerState::Closed);
    assert!(is_zero(breaker.failure_rate()), "the window is empty");
    assert_eq!(channels.begun.available_permits(), 1, "no third probe");
    prober.abort();
}

#[tokio::test(start_paused = true)]
async fn a_late_outcome_decides_nothing_unless_the_breaker_is_closed() {
    let breaker = opened(OnOpen::Drop);
    let channels = Arc::new(Probed::new(true));
    let prober = prober(&breaker, &channels);
    succeed(&breaker, 1);
    assert_eq!(breaker.state(), BreakerState::Open);
    advance(Duration::from_secs(9)).await;
    fail(&breaker, 1);
    assert_eq!(breaker.probe_in(), Some(Duration::from_secs(51)));
    channels.begun().await;
    fail(&breaker, 1);
    succeed(&breaker, 1);
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    channels.answers.add_permits(1);
    sleep(MILLISECOND).await;
    assert_eq!(breaker.state(), BreakerState::Closed);
    assert!(is_zero(breaker.failure_rate()));
    prober.abort();
}

#[tokio::test(start_paused = true)]
async fn permits_given_at_once_all_count() {
    let breaker = breaker(defaults());
    for _ in 0..5 {
        assert_eq!(breaker.acquire(1, false).await, Permit::Publish);
    }
    fail(&breaker, 5);
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn the_window_holds_few_steps_however_many_outcomes() {
    let breaker = breaker(defaults());
    for _ in 0..10_000 {
        succeed(&breaker, 1);
        advance(Duration::from_millis(100)).await;
    }
    assert!(breaker.inner.borrow().window.steps.len() <= window::STEPS as usize + 1);
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_dropped_once_the_gap_is_being_marked() {
    let breaker = opened(OnOpen::Drop);
    let channels = Arc::new(Probed::new(false));
    assert_eq!(breaker.acquire(7, false).await, Permit::Drop);
    assert_eq!(breaker.unreported_drops(), 7);
    let prober = prober(&breaker, &channels);
    // A first probe fails; the drops remain unreported.
    channels.begun().await;
    channels.answers.add_permits(1);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(breaker.acquire(3, false).await, Permit::Drop);

    channels.begun().await;
    channels.good.store(true, Ordering::SeqCst);
    let permit = acquire(&breaker, 5);
    let reported = {
        let breaker = Arc::clone(&breaker);
        tokio::spawn(async move { breaker.drops_reported().await })
    };
    assert!(waits(&permit).await && !reported.is_finished());
    assert_eq!(breaker.unreported_drops(), 10);
    channels.answers.add_permits(1);
    assert_eq!(permit.await.unwrap(), Permit::Publish);
    reported.await.unwrap();
    let (drops, state) = (breaker.unreported_drops(), breaker.state());
    assert_eq!((drops, state), (0, BreakerState::Closed));
    assert_eq!(channels.gaps.load(Ordering::SeqCst), 1);
    prober.abort();
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_probe_is_repeated_at_once() {
    let breaker = opened(OnOpen::Drop);
    let channels = Probed::new(true);
    tokio::select! {
        () = breaker.probe_when_due(&channels) => unreachable!(),
        () = channels.begun() => {}
    }
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    let before = Instant::now();
    channels.answers.add_permits(1);
    let closed = async {
        let mut changes = breaker.inner.subscribe();
        let closed = |inner: &Inner| inner.state == BreakerState::Closed;
        changes.wait_for(closed).await.map(drop).unwrap();
    };
    tokio::select! {
        () = breaker.probe_when_due(&channels) => unreachable!(),
        () = closed => {}
    }
    assert_eq!(Instant::now(), before);
    assert_eq!(channels.gaps.load(Ordering::SeqCst), 0, "nothing was lost");
}

#[tokio::test(start_paused = true)]
async fn pausing_waits_until_the_bridge_stops() {
    let breaker = opened(OnOpen::Pause);
    let direct = breaker.acquire(2, true).await;
    assert_eq!(direct, Permit::Drop, "direct input must not wait");
    let permit = acquire(&breaker, 5);
    assert!(waits(&permit).await);
    breaker.stop();
    assert_eq!(permit.await.unwrap(), Permit::Stop);
    assert_eq!(breaker.unreported_drops(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_retried_unless_the_bridge_stops() {
    let breaker = breaker(defaults());
    let attempts = AtomicU32::new(0);
    let publish = async |fails: u32| {
        let outcome = breaker.run(1, false, async || {
            let attempt = attempts.fetch_add(1, Ordering::SeqCst);
            if attempt < fails {
                Err(away())
            } else {
                Ok(attempt)
            }
        });
        outcome.await
    };
    assert_eq!(publish(2).await, PublishOutcome::Published(2));
    breaker.stop();
    attempts.store(0, Ordering::SeqCst);
    assert_eq!(publish(1).await, PublishOutcome::Stopped);
    assert_eq!(attempts.load(Ordering::SeqCst), 1);
    assert_eq!(publish(1).await, PublishOutcome::Published(1));
}
