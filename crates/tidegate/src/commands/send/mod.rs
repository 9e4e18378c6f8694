//! `tidegate send`: sends a file of JSON lines as events.

mod batch;
mod checkpoint;
mod checkpoint_file;
mod lines;
mod options;
mod post;
mod report;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::client;
use batch::Batches;
use checkpoint_file::CheckpointFile;
use lines::Lines;
pub(crate) use options::Options;
use post::{Outcome, Sender};

/// How long the requests under way may take after Ctrl-C.
const ENDING: Duration = Duration::from_secs(5);

/// Sends everything.
///
/// # Errors
/// The file cannot be read.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let url = options.instance.at("/api/v1/events/batch?partial=true")?;
    let (name, shown) = (options.identity(), options.instance.shown());
    let path = options.checkpoint_path();
    let checkpoint = CheckpointFile::open(path, &options.file, shown, name.clone())?;
    let lines = Lines::open(&options.file, &name, checkpoint.begin(), options.quiet)?;
    let report = lines.report();
    let sender = Sender {
        client: client::client()?,
        url,
        patience: Duration::from_secs(options.patience),
        report: report.clone(),
    };
    let batches = Batches::new(lines, options.batch as usize);
    let interrupts = signal(SignalKind::interrupt())?;
    let concurrency = options.concurrency as usize;
    send(batches, &sender, checkpoint, concurrency, interrupts).await;
    Ok(report.finish(options.repetition()))
}

/// Keeps up to `concurrency` batches under way and records up to where all are settled.
async fn send(
    mut batches: Batches,
    sender: &Sender,
    mut checkpoint: CheckpointFile,
    concurrency: usize,
    mut interrupts: Signal,
) {
    let report = &sender.report;
    let mut under_way = FuturesUnordered::new();
    let mut done = BTreeMap::new();
    let (mut begun, mut settled) = (0_u64, 0_u64);
    // No batch begins any more; those under way end.
    let mut stopping = false;
    let mut interrupted = false;
    let deadline = tokio::time::sleep(Duration::MAX);
    tokio::pin!(deadline);
    while !stopping || !under_way.is_empty() {
        let has_room = under_way.len() < concurrency;
        let (number, end, outcome) = tokio::select! {
            batch = batches.next(), if !stopping && has_room => {
                match batch {
                    Ok(Some(batch)) => {
                        report.read(batch.end);
                        let number = begun;
                        under_way.push(async move {
                            (number, batch.end, sender.send(&batch.events).await)
                        });
                        begun += 1;
                    }
                    Ok(None) => stopping = true,
                    Err(error) => {
                        report.fail(&format!("{error:#}"), false);
                        stopping = true;
                    }
                }
                continue;
            }
            Some(ended) = under_way.next() => ended,
            // The second time, or while the service does not answer: at once.
            _ = interrupts.recv() => {
                report.fail("interrupted", false);
                if interrupted || report.is_waiting() {
                    break;
                }
                (stopping, interrupted) = (true, true);
                deadline.as_mut().reset(tokio::time::Instant::now() + ENDING);
                continue;
            }
            () = &mut deadline, if interrupted => break,
        };
        match outcome {
            Outcome::Done { accepted } => {
                done.insert(number, (end, accepted));
            }
            Outcome::GaveUp(reason) => {
                report.fail(&reason, false);
                stopping = true;
            }
            Outcome::Hopeless(reason) => {
                report.fail(&reason, true);
                stopping = true;
            }
        }
        while let Some((end, accepted)) = done.remove(&settled) {
            settled += 1;
            report.settled(end, accepted);
            checkpoint.advance(end);
        }
    }
    if report.has_failed() {
        checkpoint.save();
    } else {
        checkpoint.remove();
    }
}
