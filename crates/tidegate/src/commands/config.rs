//! `tidegate config`: prints the reference of the settings.

use std::process::ExitCode;

use clap::Args;
use config::Env;

use crate::all_in_one::Config;
use crate::output;

/// Print the reference of all settings of `serve` as Markdown
#[derive(Debug, Args)]
pub(crate) struct Options {}

/// Prints the reference.
///
/// # Errors
/// None; all commands have one signature.
pub(crate) fn run(_: Options) -> anyhow::Result<ExitCode> {
    let env = Env::from_process();
    if let Err(error) = Config::from_env(&env) {
        output::notice(format_args!("tidegate: {error}"));
        return Ok(ExitCode::from(2));
    }
    output::line(env.reference_markdown());
    Ok(ExitCode::SUCCESS)
}
