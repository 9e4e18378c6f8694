//! `tidegate send`: a file of JSON lines, as events.

mod batch;
mod checkpoint;
mod lines;
mod post;
mod report;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::client::{self, Instance};
use batch::{Batch, Batches};
use checkpoint::{Checkpoint, Place};
use lines::Lines;
use post::{Outcome, Sender};
use report::{Again, Report};

/// How long after Ctrl-C what is under way may take.
const ENDING: Duration = Duration::from_secs(5);

/// Send events from a file of JSON lines, or from standard input
///
/// Every line is one event, in any form the service takes: its own JSON, a domain event, the bus
/// map, a CloudEvent. Only `event_type` is needed.
///
/// Nothing is stored twice: an event without an id of its own (`event_id`, `id`) gets
/// one made of the file's path, the line's number and its text, so a file can be sent again, whole
/// or in part, as often as you like. Standard input and other pipes have no path of their own; with
/// --name they can be sent again as well.
///
/// What comes through a pipe is sent as it comes, so `tail -f FILE | tidegate send -` follows a file.
///
/// How far it came stands in a checkpoint beside the file (FILE.checkpoint): run the same command
/// again after an interruption and it goes on from there. When all is sent the checkpoint goes.
///
/// The order of the lines is kept, unless --concurrency allows several batches at a time.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidegate send events.jsonl
  tidegate send --url https://events.example.com --concurrency 8 events.jsonl
  zcat events.jsonl.gz | tidegate send --name events.jsonl -
  echo '{\"event_type\":\"user.logout\",\"user_id\":\"u-1\"}' | tidegate send -

Exit status: 0 when every event was taken, 1 when some were refused or could not be sent.")]
pub(crate) struct Options {
    /// The file; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    instance: Instance,
    /// Events in one request; the service takes 500 unless it was told otherwise
    #[arg(long, default_value_t = 500, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch: u32,
    /// Requests at a time; more than one does not keep the order between batches
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    concurrency: u32,
    /// What the lines are called, for the ids of events without one [default: the file's path]
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Where to keep how far it came [default: FILE.checkpoint]
    #[arg(long, value_name = "PATH", conflicts_with = "no_checkpoint")]
    checkpoint: Option<PathBuf>,
    /// Begin at the first line, and keep no checkpoint
    #[arg(long)]
    no_checkpoint: bool,
    /// How long to try while the service is away or overloaded, in seconds
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    patience: u64,
    /// No progress bar
    #[arg(long, short)]
    quiet: bool,
}

impl Options {
    /// Whether every run reads something else: standard input, and what the shell makes of `<(…)`.
    fn is_pipe(&self) -> bool {
        let about = std::fs::metadata(&self.file);
        self.file.as_os_str() == "-" || about.is_ok_and(|it| !it.is_file() && !it.is_dir())
    }

    /// What stands for the source in the ids: the same file is the same whatever the directory it
    /// is named from, and two runs of standard input are two sources.
    fn identity(&self) -> String {
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

    /// What to do after an interruption.
    fn again(&self) -> Again {
        match (self.is_pipe(), &self.name) {
            (false, _) => Again::SameCommand,
            (true, Some(_)) => Again::SameInput,
            (true, None) => Again::Doubles,
        }
    }
}

/// Sends everything.
///
/// # Errors
/// The file cannot be read.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let url = options.instance.at("/api/v1/events/batch?partial=true")?;
    let checkpoint = Checkpoint::of(&options)?;
    let begin = checkpoint.begin();
    let lines = Lines::open(&options.file, &options.identity(), begin, options.quiet)?;
    let report = lines.report();
    let sender = Sender::new(
        client::client()?,
        url,
        Duration::from_secs(options.patience),
        report.clone(),
    );
    let batches = Batches::of(lines, options.batch as usize);
    let interrupts = signal(SignalKind::interrupt())?;
    send(batches, &sender, &report, checkpoint, &options, interrupts).await;
    report.finish();
    Ok(report.summary(options.again()))
}

/// Keeps so many batches under way and notes up to where all are done.
async fn send(
    mut batches: Batches,
    sender: &Sender,
    report: &Report,
    mut checkpoint: Checkpoint,
    options: &Options,
    mut interrupts: Signal,
) {
    let mut under_way = FuturesUnordered::new();
    let mut ended: BTreeMap<u64, (Place, u64)> = BTreeMap::new();
    let (mut given, mut settled) = (0_u64, 0_u64);
    // Nothing new begins; what was begun ends.
    let mut stopping = false;
    let mut interrupted = false;
    let late = tokio::time::sleep(Duration::MAX);
    tokio::pin!(late);
    while !stopping || !under_way.is_empty() {
        let has_room = under_way.len() < options.concurrency as usize;
        let (number, end, outcome) = tokio::select! {
            batch = batches.next(), if !stopping && has_room => {
                match batch {
                    Ok(Some(batch)) => {
                        report.given(batch.end);
                        under_way.push(deliver(sender, given, batch));
                        given += 1;
                    }
                    Ok(None) => stopping = true,
                    Err(error) => {
                        report.fail(&format!("{error:#}"));
                        stopping = true;
                    }
                }
                continue;
            }
            Some(done) = under_way.next() => done,
            // Twice, or with nobody there to answer: at once.
            _ = interrupts.recv() => {
                report.fail("interrupted");
                if interrupted || report.is_waiting() {
                    break;
                }
                (stopping, interrupted) = (true, true);
                late.as_mut().reset(tokio::time::Instant::now() + ENDING);
                continue;
            }
            () = &mut late, if interrupted => break,
        };
        match outcome {
            Outcome::Done { taken } => {
                ended.insert(number, (end, taken));
            }
            Outcome::GaveUp(reason) => {
                report.fail(&reason);
                stopping = true;
            }
            Outcome::Hopeless(reason) => {
                report.hopeless(&reason);
                stopping = true;
            }
        }
        while let Some((place, taken)) = ended.remove(&settled) {
            settled += 1;
            report.settled(place, taken);
            checkpoint.note(place);
        }
    }
    if report.has_failed() {
        checkpoint.save();
    } else {
        checkpoint.remove();
    }
}

async fn deliver(sender: &Sender, number: u64, batch: Batch) -> (u64, Place, Outcome) {
    let outcome = sender.send(&batch.events).await;
    (number, batch.end, outcome)
}
