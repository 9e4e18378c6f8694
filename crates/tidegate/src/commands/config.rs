//! `tidegate config`: the reference of the settings.

use std::process::ExitCode;

use clap::Args;
use service::Env;

use crate::all_in_one::Config;

/// Print the reference of all settings of `serve` as Markdown
#[derive(Debug, Args)]
pub(crate) struct Options {}

/// Prints it.
///
/// # Errors
/// Never; the commands have errors in common.
pub(crate) fn run(_: Options) -> anyhow::Result<ExitCode> {
    let env = Env::from_process();
    if let Err(error) = Config::from_env(&env) {
        eprintln!("tidegate: {error}");
        return Ok(ExitCode::from(2));
    }
    println!("{}", env.reference_markdown());
    Ok(ExitCode::SUCCESS)
}
