//! The outcomes of the last while.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// A window moves in this many steps.
pub(super) const STEPS: u32 = 20;

/// Counts attempts and failures within a time that moves along.
#[derive(Debug)]
pub(super) struct Window {
    length: Duration,
    pub(super) steps: VecDeque<Step>,
}

#[derive(Debug)]
pub(super) struct Step {
    begun: Instant,
    attempts: u32,
    failures: u32,
}

impl Window {
    pub(super) fn new(length: Duration) -> Self {
        Self {
            length,
            steps: VecDeque::new(),
        }
    }

    pub(super) fn record(&mut self, failed: bool) {
        let (now, failures) = (Instant::now(), u32::from(failed));
        self.steps.retain(|step| now - step.begun < self.length);
        match self.steps.back_mut() {
            Some(step) if now - step.begun < self.length / STEPS => {
                step.attempts += 1;
                step.failures += failures;
            }
            _ => self.steps.push_back(Step {
                begun: now,
                attempts: 1,
                failures,
            }),
        }
    }

    /// Attempts and failures.
    pub(super) fn totals(&self) -> (u32, u32) {
        let mut totals = (0, 0);
        for step in &self.steps {
            if step.begun.elapsed() < self.length {
                totals.0 += step.attempts;
                totals.1 += step.failures;
            }
        }
        totals
    }

    /// Share of failures among the attempts, 0 to 1.
    pub(super) fn failure_rate(&self) -> f64 {
        let (attempts, failures) = self.totals();
        f64::from(failures) / f64::from(attempts.max(1))
    }

    pub(super) fn clear(&mut self) {
        self.steps.clear();
    }
}
