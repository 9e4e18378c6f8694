//! What the person sees meanwhile and at the end.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::checkpoint::Place;
use crate::style::{RED, YELLOW};

/// So many bad lines are shown; all are counted.
const SHOWN: u64 = 20;

/// How the message begins while nothing moves.
const WAITING: &str = "waiting:";

/// Counts and a progress bar; clones share them.
#[derive(Clone)]
pub(super) struct Report {
    shared: Arc<Shared>,
}

struct Shared {
    bar: ProgressBar,
    taken: AtomicU64,
    refused: AtomicU64,
    bad: AtomicU64,
    failed: Mutex<Option<String>>,
    began: Instant,
}

impl Report {
    /// `length` is that of the source in bytes, `begin` where this run begins.
    pub(super) fn new(length: Option<u64>, quiet: bool, begin: Place) -> Self {
        let bar = match length {
            Some(length) => ProgressBar::new(length).with_style(style(
                "{bar:30} {percent}% {bytes}/{total_bytes}  {msg}  {eta} left",
            )),
            None => ProgressBar::new_spinner().with_style(style("{spinner} {bytes}  {msg}")),
        };
        if quiet || !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        bar.set_position(begin.offset);
        bar.reset_eta();
        Self {
            shared: Arc::new(Shared {
                bar,
                taken: AtomicU64::new(0),
                refused: AtomicU64::new(0),
                bad: AtomicU64::new(0),
                failed: Mutex::new(None),
                began: Instant::now(),
            }),
        }
    }

    /// A line that is no event.
    pub(super) fn bad(&self, line: u64, reason: &str) {
        self.shared.bad.fetch_add(1, Ordering::Relaxed);
        self.show(line, reason);
    }

    /// An event the service did not take.
    pub(super) fn refused(&self, line: u64, reason: &str) {
        self.shared.refused.fetch_add(1, Ordering::Relaxed);
        self.show(line, reason);
    }

    fn problems(&self) -> u64 {
        self.shared.bad.load(Ordering::Relaxed) + self.shared.refused.load(Ordering::Relaxed)
    }

    fn show(&self, line: u64, reason: &str) {
        let shown = self.problems();
        if shown <= SHOWN {
            self.say(&format!("{RED}line {line}{RED:#}: {reason}"));
        } else if shown == SHOWN + 1 {
            self.say("further bad lines are only counted");
        }
    }

    fn say(&self, text: &str) {
        self.shared.bar.suspend(|| anstream::eprintln!("{text}"));
    }

    /// Why nothing moves, or that it moves again.
    pub(super) fn waiting(&self, reason: Option<&str>) {
        let bar = &self.shared.bar;
        let was_waiting = bar.message().starts_with(WAITING);
        match reason {
            Some(reason) => {
                let message = format!("{WAITING} {reason}");
                if bar.is_hidden() && !was_waiting {
                    anstream::eprintln!("{YELLOW}{message}{YELLOW:#}");
                }
                bar.set_message(message);
            }
            None if was_waiting => bar.set_message(""),
            None => {}
        }
    }

    /// Everything before `place` is settled.
    pub(super) fn settled(&self, place: Place, taken: u64) {
        let taken = self.shared.taken.fetch_add(taken, Ordering::Relaxed) + taken;
        self.passed(place);
        let seconds = self.shared.began.elapsed().as_secs_f64().max(0.001);
        self.shared
            .bar
            .set_message(format!("{taken} events, {:.0}/s", taken as f64 / seconds));
    }

    /// The source was read up to here.
    pub(super) fn passed(&self, place: Place) {
        self.shared.bar.set_position(place.offset);
    }

    /// It ends early.
    pub(super) fn fail(&self, reason: &str) {
        *self
            .shared
            .failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
    }

    /// Whether it does.
    pub(super) fn has_failed(&self) -> bool {
        self.failure().is_some()
    }

    fn failure(&self) -> Option<String> {
        self.shared
            .failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.shared.bar.finish_and_clear();
    }

    /// The last line, and how the process ends.
    pub(super) fn summary(&self) -> ExitCode {
        let taken = self.shared.taken.load(Ordering::Relaxed);
        let seconds = self.shared.began.elapsed().as_secs_f64();
        let rate = taken as f64 / seconds.max(0.001);
        let mut text = format!("{taken} events taken in {seconds:.1} s ({rate:.0}/s)");
        for (count, what) in [
            (&self.shared.refused, "refused"),
            (&self.shared.bad, "bad lines"),
        ] {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        println!("{text}");
        if let Some(reason) = self.failure() {
            anstream::eprintln!(
                "{RED}not all was sent{RED:#}: {reason}; run the same command again to go on"
            );
            return ExitCode::FAILURE;
        }
        if self.problems() > 0 {
            return ExitCode::FAILURE;
        }
        ExitCode::SUCCESS
    }
}

/// A template that is known to be good.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
