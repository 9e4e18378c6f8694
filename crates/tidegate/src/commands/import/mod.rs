//! `tidegate import`: brings the events of another system here, with their times and ids.

mod csv;
mod dry_run;
mod files;
mod options;
mod records;

use std::process::ExitCode;

use anyhow::Context as _;

use crate::sending::batch::Batches;
use crate::sending::checkpoint_file::CheckpointFile;
use crate::sending::post::Sender;
use crate::sending::rejects::Rejects;
use crate::sending::report::{Repetition, Report};
use crate::sending::transfer;
pub(crate) use options::Options;
use records::Records;

/// Imports everything, or says what it would do.
///
/// # Errors
/// A file cannot be read, or its columns do not make events.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let inputs = files::list(&options.paths, options.name.as_deref(), options.format)?;
    let mapping = options.mapping()?;
    let name = format!("{} {mapping:?}", files::fingerprint(&inputs));
    let path = (!options.dry_run).then(|| options.checkpoint());
    let checkpoint = CheckpointFile::open(path, None, options.instance.shown(), name)?;
    let begin = checkpoint.begin();
    let rejects = options.rejects();
    let rejects = Rejects::new(&rejects, begin.files + begin.lines > 0)
        .with_context(|| format!("{} cannot be replaced", rejects.display()))?;
    let bytes = inputs.iter().map(|input| input.bytes).sum();
    let report = Report::new(Some(bytes), options.quiet, begin, Some(rejects));
    let records = Records::new(inputs, mapping, begin, report.clone());
    if options.dry_run {
        return dry_run::run(records, &report);
    }
    let sender = Sender::new(&options.instance, options.patience, report.clone())?;
    let batches = Batches::new(records, options.batch as usize, false);
    transfer::send(
        batches,
        &sender,
        &report,
        checkpoint,
        options.concurrency as usize,
    )
    .await?;
    Ok(report.finish(Repetition::Resumes))
}
