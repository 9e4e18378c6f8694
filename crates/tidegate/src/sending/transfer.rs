//! Sends batches, several at a time, and records how far all are settled.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tidegate_client::SendError;
use tokio::signal::unix::{SignalKind, signal};

use super::batch::Batches;
use super::checkpoint_file::CheckpointFile;
use super::post::Sender;
use super::report::Report;

/// How long the requests under way may take after Ctrl-C.
const ENDING: Duration = Duration::from_secs(5);

/// Keeps up to `concurrency` batches under way and records up to where all are settled.
///
/// # Errors
/// Ctrl-C cannot be waited for.
pub(crate) async fn send(
    mut batches: Batches,
    sender: &Sender,
    report: &Report,
    mut checkpoint: CheckpointFile,
    concurrency: usize,
) -> anyhow::Result<()> {
    let mut interrupts = signal(SignalKind::interrupt())?;
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
            Ok(accepted) => {
                done.insert(number, (end, accepted));
            }
            Err(SendError::GaveUp(reason)) => {
                report.fail(&reason, false);
                stopping = true;
            }
            Err(SendError::Hopeless(reason)) => {
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
    Ok(())
}
