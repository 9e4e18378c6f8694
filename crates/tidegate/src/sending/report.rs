//! The progress of a run and its result, for the person at the terminal.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::checkpoint::Checkpoint;
use super::event::{Event, FileLine};
use super::rejects::Rejects;
use crate::output;
use crate::style::{RED, YELLOW};

/// How many bad lines are shown; all are counted.
const SHOWN: u64 = 20;

/// What sending the input again does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repetition {
    /// The command knows its file, and how far it came.
    Resumes,
    /// The input has a name, so its lines keep their ids.
    Harmless,
    /// Each run gives the lines other ids.
    Duplicates,
}

/// Counts and a progress bar; clones share them.
#[derive(Clone)]
pub(crate) struct Report {
    bar: ProgressBar,
    began: Instant,
    counts: Arc<Mutex<Counts>>,
    rejects: Option<Rejects>,
}

#[derive(Default)]
struct Counts {
    accepted: u64,
    refused: u64,
    bad: u64,
    /// The line up to which all are settled.
    settled: u64,
    /// The line up to which all were read for sending.
    read: u64,
    is_waiting: bool,
    failure: Option<String>,
    /// Another run would fail too.
    is_permanent: bool,
}

impl Report {
    /// `length` is that of the source in bytes, `begin` where this run begins; `rejects` keeps what is
    /// no event.
    pub(crate) fn new(
        length: Option<u64>,
        quiet: bool,
        begin: Checkpoint,
        rejects: Option<Rejects>,
    ) -> Self {
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
        let counts = Counts {
            settled: begin.lines,
            read: begin.lines,
            ..Counts::default()
        };
        Self {
            bar,
            began: Instant::now(),
            counts: Arc::new(Mutex::new(counts)),
            rejects,
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a line that is no event.
    pub(crate) fn bad(&self, place: &FileLine, reason: &str, text: &str) {
        self.counts().bad += 1;
        self.show(place, reason, text);
    }

    /// Counts an event that the service refused.
    pub(crate) fn refused(&self, event: &Event, reason: &str) {
        self.counts().refused += 1;
        self.show(&event.place, reason, &event.json);
    }

    fn show(&self, place: &FileLine, reason: &str, text: &str) {
        if let Some(rejects) = &self.rejects
            && let Err(error) = rejects.keep(place, reason, text)
        {
            self.fail(&format!("a rejected line cannot be kept: {error}"), false);
        }
        let count = self.counts().problems();
        if count <= SHOWN {
            self.say(&format!("{RED}{place}{RED:#}: {reason}"));
        } else if count == SHOWN + 1 {
            self.say("further bad lines are only counted");
        }
    }

    fn say(&self, text: &str) {
        self.bar.suspend(|| output::notice(text));
    }

    /// Shows why the next request is delayed; `None` ends the delay.
    pub(crate) fn waiting(&self, reason: Option<&str>) {
        let was_waiting = std::mem::replace(&mut self.counts().is_waiting, reason.is_some());
        match reason {
            Some(reason) => {
                let message = format!("waiting: {reason}");
                if self.bar.is_hidden() && !was_waiting {
                    output::notice(format_args!("{YELLOW}{message}{YELLOW:#}"));
                }
                self.bar.set_message(message);
            }
            None if was_waiting => self.bar.set_message(""),
            None => {}
        }
    }

    /// Whether the next request is delayed.
    pub(crate) fn is_waiting(&self) -> bool {
        self.counts().is_waiting
    }

    /// Everything before `checkpoint` is sent, or about to be.
    pub(crate) fn read(&self, checkpoint: Checkpoint) {
        self.counts().read = checkpoint.lines;
    }

    /// Everything before `checkpoint` is settled; `accepted` more events were accepted.
    pub(crate) fn settled(&self, checkpoint: Checkpoint, accepted: u64) {
        let total = {
            let mut counts = self.counts();
            counts.accepted += accepted;
            counts.settled = checkpoint.lines;
            counts.accepted
        };
        self.passed(checkpoint);
        self.bar
            .set_message(format!("{total} events, {:.0}/s", self.rate(total)));
    }

    fn rate(&self, events: u64) -> f64 {
        events as f64 / self.began.elapsed().as_secs_f64().max(0.001)
    }

    /// The source was read up to `checkpoint`.
    pub(crate) fn passed(&self, checkpoint: Checkpoint) {
        self.bar.set_position(checkpoint.offset);
    }

    /// The run ends early. `is_permanent`: another run would fail too.
    pub(crate) fn fail(&self, reason: &str, is_permanent: bool) {
        let mut counts = self.counts();
        counts.failure = Some(reason.to_owned());
        counts.is_permanent |= is_permanent;
    }

    /// Whether the run ends early.
    pub(crate) fn has_failed(&self) -> bool {
        self.counts().failure.is_some()
    }

    /// Removes the bar, and says where the rejects are.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
        if let Some(path) = self
            .rejects
            .as_ref()
            .filter(|_| self.counts().problems() > 0)
        {
            output::notice(format_args!("what was not accepted is in {path}"));
        }
    }

    /// How many were not accepted, as the end of a sentence.
    pub(crate) fn problems(&self) -> String {
        let counts = self.counts();
        [(counts.refused, "refused"), (counts.bad, "bad lines")]
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!(", {count} {what}"))
            .collect()
    }

    /// The exit status: whether all was accepted.
    pub(crate) fn status(&self) -> ExitCode {
        let counts = self.counts();
        if counts.failure.is_some() || counts.problems() > 0 {
            return ExitCode::FAILURE;
        }
        ExitCode::SUCCESS
    }

    /// Removes the bar and prints the last line; returns the exit status.
    pub(crate) fn finish(&self, repetition: Repetition) -> ExitCode {
        self.clear();
        let problems = self.problems();
        let counts = self.counts();
        let (accepted, seconds) = (counts.accepted, self.began.elapsed().as_secs_f64());
        let rate = self.rate(accepted);
        output::line(format_args!(
            "{accepted} events accepted in {seconds:.1} s ({rate:.0}/s){problems}"
        ));
        if let Some(reason) = &counts.failure {
            let advice = counts.advice(repetition);
            output::notice(format_args!(
                "{RED}not all was sent{RED:#}: {reason}{advice}"
            ));
        }
        drop(counts);
        self.status()
    }
}

impl Counts {
    fn problems(&self) -> u64 {
        self.bad + self.refused
    }

    /// What to do now, as the end of a sentence.
    fn advice(&self, repetition: Repetition) -> String {
        let (settled, read, is_permanent) = (self.settled, self.read, self.is_permanent);
        match repetition {
            Repetition::Resumes | Repetition::Harmless if is_permanent => String::new(),
            Repetition::Resumes => "; run the same command again to go on".to_owned(),
            Repetition::Harmless => {
                "; send the same input again under the same --name, nothing is \
                                     stored twice"
                    .to_owned()
            }
            Repetition::Duplicates if read == 0 || (is_permanent && settled == 0) => String::new(),
            Repetition::Duplicates => {
                let mut text = String::new();
                if settled > 0 {
                    text = format!("; everything up to line {settled} was dealt with");
                }
                if read > settled && !is_permanent {
                    let first = settled + 1;
                    text.push_str(&format!(
                        "; lines {first} to {read} may have been accepted or not"
                    ));
                }
                text + "; lines sent again are stored again, unless their events have ids of their \
                        own or the input was given a --name"
            }
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

    fn advice(repetition: Repetition, is_permanent: bool, settled: u64, read: u64) -> String {
        let counts = Counts {
            settled,
            read,
            is_permanent,
            ..Counts::default()
        };
        counts.advice(repetition)
    }

    #[test]
    fn the_advice_never_makes_duplicates() {
        let same = advice(Repetition::Resumes, false, 500, 1_000);
        assert!(same.contains("the same command again"), "{same}");
        let named = advice(Repetition::Harmless, false, 500, 1_000);
        assert!(named.contains("the same --name"), "{named}");
        let pipe = advice(Repetition::Duplicates, false, 500, 1_000);
        for words in [
            "up to line 500",
            "lines 501 to 1000",
            "stored again",
            "own or the input",
        ] {
            assert!(pipe.contains(words), "{words}: {pipe}");
        }
        assert!(!pipe.contains("command again"), "{pipe}");
        // Nothing was begun, or no further run can help.
        assert_eq!(advice(Repetition::Duplicates, false, 0, 0), "");
        for repetition in [
            Repetition::Resumes,
            Repetition::Harmless,
            Repetition::Duplicates,
        ] {
            assert_eq!(advice(repetition, true, 0, 500), "");
        }
    }
}
