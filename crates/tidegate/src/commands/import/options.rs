//! The options of `tidegate import`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::csv::Mapping;
use crate::client::Instance;

/// Import events from files of another system, with their original times and ids
///
/// Files of JSON lines or CSV, plain or gzipped, and directories of them, such as the archive that
/// Segment or RudderStack writes to a bucket. What is no event is passed over, and kept with its place
/// and the reason in a file of its own.
///
/// A JSON line is an event in any form the service accepts: its own, a domain event, a CloudEvent, a
/// message of Segment's or RudderStack's. A row of CSV becomes one by the names of its columns:
/// `event_type`, `event_id`, `timestamp`, `user_id` and the other fields of an event are these; `data`,
/// `metadata`, `context` and `properties` are JSON objects; any other column goes into `data`. With
/// --map a column is another field. Times may also be seconds or milliseconds since 1970.
///
/// Nothing is stored twice: an event keeps the id it has, and one without gets one made of the file's
/// path, the line's number and its text. A checkpoint beside the files (PATH.import) records the
/// progress: run the same command again after an interruption and it continues from there.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidegate import --dry-run segment-logs/        what it would send, and what is wrong; sends nothing
  tidegate import segment-logs/
  tidegate import --event-type order.placed --map id=event_id --map created_at=timestamp \\
      --map customer=user_id orders.csv
  tidegate import --concurrency 4 2023.jsonl.gz 2024.jsonl.gz

Exit status: 0 when every event was accepted, 1 when some were not or could not be sent.")]
pub(crate) struct Options {
    /// Files, and directories of them
    #[arg(value_name = "PATH", required = true)]
    pub(super) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) instance: Instance,
    /// What the files are [default: CSV where the name ends in .csv or .tsv, else JSON lines]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(super) format: Option<Format>,
    /// A column of CSV and what it is: a field of an event, data.NAME (or metadata., context.,
    /// properties.), or - to leave it out
    #[arg(long = "map", value_name = "COLUMN=FIELD")]
    maps: Vec<String>,
    /// The type of all events from CSV without a column for it
    #[arg(long, value_name = "TYPE")]
    event_type: Option<String>,
    /// Keep every value of CSV as text; without it 12.5, true and {"a":1} are what they are in JSON
    #[arg(long)]
    text: bool,
    /// Read and check everything, and send nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Where to keep what was not accepted, as JSON lines [default: PATH.rejects]
    #[arg(long, value_name = "PATH")]
    rejects: Option<PathBuf>,
    /// Where to record the progress [default: PATH.import]
    #[arg(long, value_name = "PATH")]
    checkpoint: Option<PathBuf>,
    /// What stands for the paths in the ids of events without one, where files are moved between runs
    #[arg(long, value_name = "TEXT")]
    pub(super) name: Option<String>,
    /// Events in one request; the service accepts 500 by default
    #[arg(long, default_value_t = 500, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) batch: u32,
    /// Requests at a time; more than one does not keep the order between batches
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(super) concurrency: u32,
    /// How long to retry while the service is down or overloaded, in seconds
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    pub(super) patience: u64,
    /// No progress bar
    #[arg(long, short)]
    pub(super) quiet: bool,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One JSON object a line.
    Jsonl,
    /// Fields separated by commas, with a header.
    Csv,
    /// Fields separated by tabs, with a header.
    Tsv,
}

impl Options {
    /// What the columns of CSV are.
    ///
    /// # Errors
    /// `--map` names no field.
    pub(super) fn mapping(&self) -> anyhow::Result<Mapping> {
        Mapping::new(&self.maps, self.event_type.clone(), self.text)
            .map_err(|why| anyhow::anyhow!("--map {why}"))
    }

    /// Where the progress is recorded.
    pub(super) fn checkpoint(&self) -> PathBuf {
        self.checkpoint
            .clone()
            .unwrap_or_else(|| self.beside("import"))
    }

    /// Where what was not accepted is kept.
    pub(super) fn rejects(&self) -> PathBuf {
        self.rejects
            .clone()
            .unwrap_or_else(|| self.beside("rejects"))
    }

    fn beside(&self, extension: &str) -> PathBuf {
        let first = self.paths.first().cloned().unwrap_or_default();
        // Of `.` too there is a name.
        let first = first.canonicalize().unwrap_or(first);
        first.with_added_extension(extension)
    }
}
