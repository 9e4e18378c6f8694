//! The circuit breaker (S2-24 … S2-30, C33): when to stop trying Redis, and when to try again.
//!
//! Pure: the time comes in with every call. Whoever tries holds an [`Attempt`], which is worth
//! something only in the state that gave it, so that an answer that comes late decides nothing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The window moves in this many steps.
const STEPS: u32 = 20;

/// When it opens and how long it stays so.
#[derive(Debug, Clone, Copy)]
pub struct BreakerConfig {
    /// Opens at that many failures within the window (S2-43).
    pub failure_threshold: u32,
    /// Opens at that rate of failures, 0 to 1, within the window …
    pub failure_rate: f64,
    /// … once there were that many attempts in it.
    pub min_samples: u32,
    /// How long an outcome counts.
    pub window: Duration,
    /// How long it stays open before it is tried again (S2-44).
    pub recovery_timeout: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failure_threshold: 5,
            failure_rate: 0.5,
            min_samples: 20,
            window: Duration::from_secs(60),
            recovery_timeout: Duration::from_secs(60),
        }
    }
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything is tried.
    Closed,
    /// Nothing is tried.
    Open,
    /// One probe is under way.
    HalfOpen,
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

    /// The value of the gauge (S2-55): 0 closed, 1 open, 2 half-open.
    #[must_use]
    pub fn gauge(self) -> i64 {
        match self {
            Self::Closed => 0,
            Self::Open => 1,
            Self::HalfOpen => 2,
        }
    }
}

/// The permission to try once. Its outcome counts only while the breaker has not changed its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "its outcome has to be recorded"]
pub struct Attempt {
    epoch: u64,
}

/// See the module.
#[derive(Debug)]
pub struct CircuitBreaker {
    config: BreakerConfig,
    state: BreakerState,
    /// When an open breaker is to be tried again.
    retry_at: Option<Instant>,
    /// Rises with every change of state.
    epoch: u64,
    steps: VecDeque<Step>,
}

#[derive(Debug, Clone, Copy)]
struct Step {
    begun: Instant,
    successes: u32,
    failures: u32,
}

impl CircuitBreaker {
    /// A closed breaker (S2-25).
    #[must_use]
    pub fn new(config: BreakerConfig) -> Self {
        Self {
            config,
            state: BreakerState::Closed,
            retry_at: None,
            epoch: 0,
            steps: VecDeque::new(),
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// When an open breaker may be probed.
    #[must_use]
    pub fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// `Some` while closed. The probe of a half-open breaker comes from [`Self::begin_probe`].
    #[must_use]
    pub fn can_attempt(&self) -> Option<Attempt> {
        (self.state == BreakerState::Closed).then_some(Attempt { epoch: self.epoch })
    }

    /// Open and due: half-open, with the one permission to probe. `None` otherwise, in particular
    /// while a probe is under way.
    #[must_use]
    pub fn begin_probe(&mut self, now: Instant) -> Option<Attempt> {
        if self.state != BreakerState::Open || self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        self.enter(BreakerState::HalfOpen);
        Some(Attempt { epoch: self.epoch })
    }

    /// It worked: half-open closes, closed stays closed.
    pub fn record_success(&mut self, attempt: Attempt, now: Instant) {
        if attempt.epoch != self.epoch {
            return;
        }
        match self.state {
            BreakerState::HalfOpen => self.enter(BreakerState::Closed),
            _ => self.step(now).successes += 1,
        }
    }

    /// It failed: half-open opens again, closed opens when there were too many.
    pub fn record_failure(&mut self, attempt: Attempt, now: Instant) {
        if attempt.epoch != self.epoch {
            return;
        }
        if self.state == BreakerState::Closed {
            self.step(now).failures += 1;
            let (attempts, failures) = self.counts(now);
            let often = attempts >= self.config.min_samples
                && f64::from(failures) >= self.config.failure_rate * f64::from(attempts);
            if failures < self.config.failure_threshold && !often {
                return;
            }
        }
        self.enter(BreakerState::Open);
        self.retry_at = Some(now + self.config.recovery_timeout);
    }

    /// The probe ended without an outcome: another may begin at once.
    pub fn release(&mut self, attempt: Attempt, now: Instant) {
        if attempt.epoch == self.epoch && self.state == BreakerState::HalfOpen {
            self.enter(BreakerState::Open);
            self.retry_at = Some(now);
        }
    }

    /// Share of failures among the attempts of the window, 0 to 1; of an open breaker 1.
    #[must_use]
    pub fn failure_rate(&self, now: Instant) -> f64 {
        if self.state != BreakerState::Closed {
            return 1.0;
        }
        let (attempts, failures) = self.counts(now);
        f64::from(failures) / f64::from(attempts.max(1))
    }

    /// Attempts and failures of the window.
    fn counts(&self, now: Instant) -> (u32, u32) {
        let fresh = |step: &&Step| now.duration_since(step.begun) < self.config.window;
        self.steps
            .iter()
            .filter(fresh)
            .fold((0, 0), |(attempts, failures), step| {
                (
                    attempts.saturating_add(step.successes.saturating_add(step.failures)),
                    failures.saturating_add(step.failures),
                )
            })
    }

    fn step(&mut self, now: Instant) -> &mut Step {
        let (window, width) = (self.config.window, self.config.window / STEPS);
        self.steps
            .retain(|step| now.duration_since(step.begun) < window);
        let current = self
            .steps
            .back()
            .is_some_and(|step| now.duration_since(step.begun) < width);
        if !current {
            self.steps.push_back(Step {
                begun: now,
                successes: 0,
                failures: 0,
            });
        }
        let last = self.steps.len() - 1;
        &mut self.steps[last]
    }

    fn enter(&mut self, state: BreakerState) {
        self.state = state;
        self.retry_at = None;
        self.epoch += 1;
        self.steps.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOL: Duration = Duration::from_secs(60);

    fn breaker() -> (CircuitBreaker, Instant) {
        (
            CircuitBreaker::new(BreakerConfig::default()),
            Instant::now(),
        )
    }

    fn fail(breaker: &mut CircuitBreaker, now: Instant) {
        let attempt = breaker.can_attempt().unwrap();
        breaker.record_failure(attempt, now);
    }

    fn succeed(breaker: &mut CircuitBreaker, now: Instant) {
        let attempt = breaker.can_attempt().unwrap();
        breaker.record_success(attempt, now);
    }

    fn opened() -> (CircuitBreaker, Instant) {
        let (mut breaker, now) = breaker();
        (0..5).for_each(|_| fail(&mut breaker, now));
        (breaker, now)
    }

    #[test]
    fn opens_at_the_count_of_failures_within_the_window() {
        let (mut breaker, now) = breaker();
        assert_eq!(breaker.state(), BreakerState::Closed);
        (0..4).for_each(|_| fail(&mut breaker, now));
        assert_eq!(breaker.state(), BreakerState::Closed);
        // The four are out of the window by then.
        let later = now + Duration::from_secs(61);
        fail(&mut breaker, later);
        assert_eq!(breaker.state(), BreakerState::Closed);
        (0..4).for_each(|_| fail(&mut breaker, later));
        assert_eq!(breaker.state(), BreakerState::Open);
        assert!(breaker.can_attempt().is_none());
    }

    #[test]
    fn opens_at_the_rate_once_there_are_enough_samples() {
        let config = BreakerConfig {
            failure_threshold: u32::MAX,
            ..BreakerConfig::default()
        };
        let mut breaker = CircuitBreaker::new(config);
        let now = Instant::now();
        (0..19).for_each(|_| fail(&mut breaker, now));
        assert_eq!(breaker.state(), BreakerState::Closed, "19 samples");
        fail(&mut breaker, now);
        assert_eq!(breaker.state(), BreakerState::Open, "20 samples");

        let mut breaker = CircuitBreaker::new(config);
        (0..30).for_each(|_| succeed(&mut breaker, now));
        (0..29).for_each(|_| fail(&mut breaker, now));
        assert_eq!(breaker.state(), BreakerState::Closed, "29 of 59");
        assert!((breaker.failure_rate(now) - 29.0 / 59.0).abs() < 1e-9);
        fail(&mut breaker, now);
        assert_eq!(breaker.state(), BreakerState::Open, "30 of 60");
    }

    #[test]
    fn one_probe_after_the_cool_down_decides() {
        let (mut breaker, now) = opened();
        assert!(
            breaker
                .begin_probe(now + COOL - Duration::from_millis(1))
                .is_none()
        );
        let at = now + COOL;
        let probe = breaker.begin_probe(at).unwrap();
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert!(breaker.can_attempt().is_none() && breaker.begin_probe(at).is_none());
        breaker.record_failure(probe, at);
        assert_eq!(breaker.state(), BreakerState::Open);
        assert_eq!(breaker.retry_at(), Some(at + COOL));

        let probe = breaker.begin_probe(at + COOL).unwrap();
        breaker.record_success(probe, at + COOL);
        assert_eq!(breaker.state(), BreakerState::Closed);
        assert!(breaker.failure_rate(at + COOL) < 1e-9, "it begins anew");
    }

    #[test]
    fn a_probe_that_was_cancelled_gives_its_permission_back() {
        let (mut breaker, now) = opened();
        let at = now + COOL;
        let probe = breaker.begin_probe(at).unwrap();
        breaker.release(probe, at);
        assert_eq!(breaker.state(), BreakerState::Open);
        let again = breaker.begin_probe(at).unwrap();
        // The cancelled one says something after all: too late.
        breaker.record_success(probe, at);
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        breaker.record_success(again, at);
        assert_eq!(breaker.state(), BreakerState::Closed);
        breaker.release(again, at);
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn an_attempt_of_an_earlier_state_decides_nothing() {
        let (mut breaker, now) = breaker();
        let slow = breaker.can_attempt().unwrap();
        let slower = breaker.can_attempt().unwrap();
        (0..5).for_each(|_| fail(&mut breaker, now));
        breaker.record_success(slow, now);
        assert_eq!(breaker.state(), BreakerState::Open);
        let retry_at = breaker.retry_at();
        breaker.record_failure(slow, now + Duration::from_secs(9));
        assert_eq!(breaker.retry_at(), retry_at);
        let probe = breaker.begin_probe(now + COOL).unwrap();
        breaker.record_failure(slower, now + COOL);
        breaker.record_success(slower, now + COOL);
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        breaker.record_success(probe, now + COOL);
        breaker.record_failure(slower, now + COOL);
        assert!(breaker.failure_rate(now + COOL) < 1e-9);
    }

    #[test]
    fn permissions_given_at_once_all_count() {
        let (mut breaker, now) = breaker();
        let attempts: Vec<_> = (0..5).filter_map(|_| breaker.can_attempt()).collect();
        for attempt in attempts {
            breaker.record_failure(attempt, now);
        }
        assert_eq!(breaker.state(), BreakerState::Open);
    }

    #[test]
    fn the_window_holds_few_steps_however_many_outcomes() {
        let (mut breaker, now) = breaker();
        for second in 0..10_000 {
            succeed(&mut breaker, now + Duration::from_secs(second) / 10);
        }
        assert!(breaker.steps.len() <= STEPS as usize + 1);
        assert_eq!(breaker.state(), BreakerState::Closed);
    }
}
