//! `tidegate send`: sends a file of JSON lines as events.

mod lines;
mod options;

use std::process::ExitCode;

use crate::sending::batch::Batches;
use crate::sending::checkpoint_file::CheckpointFile;
use crate::sending::post::Sender;
use crate::sending::transfer;
use lines::Lines;
pub(crate) use options::Options;

/// Sends everything.
///
/// # Errors
/// The file cannot be read.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let (name, shown) = (options.identity(), options.instance.shown());
    let path = options.checkpoint_path();
    let checkpoint = CheckpointFile::open(path, Some(&options.file), shown, name.clone())?;
    let lines = Lines::open(&options.file, &name, checkpoint.begin(), options.quiet)?;
    let report = lines.report();
    let sender = Sender::new(&options.instance, options.patience, report.clone())?;
    let linger = !lines.is_complete();
    let batches = Batches::new(lines, options.batch as usize, linger);
    transfer::send(
        batches,
        &sender,
        &report,
        checkpoint,
        options.concurrency as usize,
    )
    .await?;
    Ok(report.finish(options.repetition()))
}
