//! What the person sees meanwhile and at the end.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::checkpoint::Place;
use crate::output;
use crate::style::{RED, YELLOW};

/// So many bad lines are shown; all are counted.
const SHOWN: u64 = 20;

/// How the message begins while nothing moves.
const WAITING: &str = "waiting:";

/// What helps after an interruption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// The command knows its file, and how far it came.
    SameCommand,
    /// The input has a name, so its lines keep their ids.
    SameInput,
    /// Every run gives its lines other ids.
    Doubles,
}

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
    /// Trying again is no use.
    is_hopeless: AtomicBool,
    /// The last line up to which all are settled, and the last that was sent.
    settled: AtomicU64,
    given: AtomicU64,
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
                is_hopeless: AtomicBool::new(false),
                settled: AtomicU64::new(begin.lines),
                given: AtomicU64::new(begin.lines),
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
        self.shared.bar.suspend(|| output::notice(text));
    }

    /// Why nothing moves, or that it moves again.
    pub(super) fn waiting(&self, reason: Option<&str>) {
        let bar = &self.shared.bar;
        let was_waiting = self.is_waiting();
        match reason {
            Some(reason) => {
                let message = format!("{WAITING} {reason}");
                if bar.is_hidden() && !was_waiting {
                    output::notice(format_args!("{YELLOW}{message}{YELLOW:#}"));
                }
                bar.set_message(message);
            }
            None if was_waiting => bar.set_message(""),
            None => {}
        }
    }

    /// Whether nothing moves.
    pub(super) fn is_waiting(&self) -> bool {
        self.shared.bar.message().starts_with(WAITING)
    }

    /// Everything before `place` is sent, or about to be.
    pub(super) fn given(&self, place: Place) {
        self.shared.given.store(place.lines, Ordering::Relaxed);
    }

    /// Everything before `place` is settled.
    pub(super) fn settled(&self, place: Place, taken: u64) {
        let taken = self.shared.taken.fetch_add(taken, Ordering::Relaxed) + taken;
        self.shared.settled.store(place.lines, Ordering::Relaxed);
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

    /// It ends early, and another try would as well.
    pub(super) fn hopeless(&self, reason: &str) {
        self.shared.is_hopeless.store(true, Ordering::Relaxed);
        self.fail(reason);
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

    fn advice(&self, again: Again) -> String {
        let shared = &self.shared;
        advice(
            again,
            shared.is_hopeless.load(Ordering::Relaxed),
            shared.settled.load(Ordering::Relaxed),
            shared.given.load(Ordering::Relaxed),
        )
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.shared.bar.finish_and_clear();
    }

    /// The last line, and how the process ends.
    pub(super) fn summary(&self, again: Again) -> ExitCode {
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
        output::line(text);
        if let Some(reason) = self.failure() {
            let advice = self.advice(again);
            output::notice(format_args!(
                "{RED}not all was sent{RED:#}: {reason}{advice}"
            ));
            return ExitCode::FAILURE;
        }
        if self.problems() > 0 {
            return ExitCode::FAILURE;
        }
        ExitCode::SUCCESS
    }
}

/// What to do now, as the end of a sentence.
fn advice(again: Again, is_hopeless: bool, settled: u64, given: u64) -> String {
    match again {
        Again::SameCommand | Again::SameInput if is_hopeless => String::new(),
        Again::SameCommand => "; run the same command again to go on".to_owned(),
        Again::SameInput => {
            "; send the same input again under the same --name, nothing is stored twice".to_owned()
        }
        Again::Doubles if given == 0 || (is_hopeless && settled == 0) => String::new(),
        Again::Doubles => {
            let mut text = match settled {
                0 => String::new(),
                settled => format!("; everything up to line {settled} was dealt with"),
            };
            if given > settled && !is_hopeless {
                let first = settled + 1;
                text.push_str(&format!(
                    "; lines {first} to {given} may have been taken or not"
                ));
            }
            text.push_str(
                "; lines sent again are stored again, unless their events have ids of their own or                  the input was given a --name",
            );
            text
        }
    }
}

/// A template that is known to be good.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_never_makes_doubles() {
        let same = advice(Again::SameCommand, false, 500, 1_000);
        assert!(same.contains("the same command again"), "{same}");
        let named = advice(Again::SameInput, false, 500, 1_000);
        assert!(named.contains("the same --name"), "{named}");
        let pipe = advice(Again::Doubles, false, 500, 1_000);
        for words in ["up to line 500", "lines 501 to 1000", "stored again"] {
            assert!(pipe.contains(words), "{words}: {pipe}");
        }
        assert!(!pipe.contains("command again"), "{pipe}");
        // Nothing was begun, or nothing ever helps.
        assert_eq!(advice(Again::Doubles, false, 0, 0), "");
        for again in [Again::SameCommand, Again::SameInput, Again::Doubles] {
            assert_eq!(advice(again, true, 0, 500), "");
        }
    }
}
