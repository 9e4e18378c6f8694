//! The options of `tidegate send`.

use std::path::PathBuf;

use clap::Args;

use crate::client::Instance;
use crate::sending::report::Repetition;

/// Send events from a file of JSON lines, or from standard input
///
/// Each line is one event, in any form the service accepts: its own JSON, a domain event, the bus
/// map, a CloudEvent. Only `event_type` is required.
///
/// Nothing is stored twice: an event without an id where its form has it (`event_id`; `id` in a bus map
/// or CloudEvent) gets one made of the file's path, the line's number and its text, so a file can be sent again, whole or in part, as
/// often as you like. Standard input and other pipes have no path; with --name they can be sent
/// again as well.
///
/// Lines from a pipe are sent as they arrive, so `tail -f FILE | tidegate send -` follows a file.
///
/// A checkpoint beside the file (FILE.checkpoint) records the progress: run the same command again
/// after an interruption and it continues from there. The checkpoint is deleted when all is sent.
///
/// The order of the lines is kept, unless --concurrency allows several batches at a time.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidegate send events.jsonl
  tidegate send --url https://events.example.com --concurrency 8 events.jsonl
  zcat events.jsonl.gz | tidegate send --name events.jsonl -
  echo '{\"event_type\":\"user.logout\",\"user_id\":\"u-1\"}' | tidegate send -

Exit status: 0 when every event was accepted, 1 when some were refused or could not be sent.")]
pub(crate) struct Options {
    /// The file; `-` is standard input
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) instance: Instance,
    /// Events in one request; the service accepts 500 by default
    #[arg(long, default_value_t = 500, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) batch: u32,
    /// Requests at a time; more than one does not keep the order between batches
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(super) concurrency: u32,
    /// The name of the input, for the ids of events without one [default: the file's path]
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Where to record the progress [default: FILE.checkpoint]
    #[arg(long, value_name = "PATH", conflicts_with = "no_checkpoint")]
    checkpoint: Option<PathBuf>,
    /// Begin at the first line, and record no progress
    #[arg(long)]
    no_checkpoint: bool,
    /// How long to retry while the service is down or overloaded, in seconds
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    pub(super) patience: u64,
    /// No progress bar
    #[arg(long, short)]
    pub(super) quiet: bool,
}

impl Options {
    /// Whether each run reads something else: standard input, or a pipe of the shell's `<(…)`.
    fn is_pipe(&self) -> bool {
        let metadata = std::fs::metadata(&self.file);
        self.file.as_os_str() == "-" || metadata.is_ok_and(|it| !it.is_file() && !it.is_dir())
    }

    /// What stands for the source in the ids: one file is the same from every directory, and two
    /// runs of standard input are two sources.
    pub(super) fn identity(&self) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        if self.is_pipe() {
            return format!("stdin {}", uuid::Uuid::new_v4());
        }
        let path = self.file.canonicalize();
        path.unwrap_or_else(|_| self.file.clone())
            .display()
            .to_string()
    }

    /// Where the progress is recorded, if it is.
    pub(super) fn checkpoint_path(&self) -> Option<PathBuf> {
        if self.no_checkpoint || !self.file.is_file() {
            return None;
        }
        let beside = || self.file.with_added_extension("checkpoint");
        Some(self.checkpoint.clone().unwrap_or_else(beside))
    }

    /// What sending the input again does.
    pub(super) fn repetition(&self) -> Repetition {
        match (self.is_pipe(), &self.name) {
            (false, _) => Repetition::Resumes,
            (true, Some(_)) => Repetition::Harmless,
            (true, None) => Repetition::Duplicates,
        }
    }
}
