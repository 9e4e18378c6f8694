//! What the binary of a service does around its work: settings, logs, exit status.

use std::fmt::Display;
use std::io::Write as _;
use std::process::{ExitCode, Termination};

use config::{ConfigError, Env};

use crate::consul;

/// The exit status for settings that cannot be used.
const USAGE: u8 = 2;

/// Reads the settings with `read`, of the environment and of Consul for the parts that are `needed`, turns
/// logging on and runs `command`. Returns the exit status: 2
/// for wrong settings, 1 for an error of the command, which goes to standard error after `name`.
pub async fn main<C, T: Termination, E: Display>(
    name: &str,
    needed: &[consul::Part],
    read: impl FnOnce(&Env) -> Result<C, ConfigError>,
    command: impl AsyncFnOnce(C) -> Result<T, E>,
) -> ExitCode {
    let env = match consul::environment(name, needed).await {
        Ok(env) => env,
        Err(error) => {
            eprintln!("{name}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let config = match read(&env) {
        Ok(config) => config,
        Err(error) => return wrong_settings(name, &error),
    };
    crate::telemetry::init();
    report_environment(&env);
    match command(config).await {
        Ok(outcome) => outcome.report(),
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the reference of all settings that `read` asks for, as Markdown. Returns the exit status.
pub fn print_settings<C>(
    name: &str,
    read: impl FnOnce(&Env) -> Result<C, ConfigError>,
) -> ExitCode {
    let env = Env::from_process();
    if let Err(error) = read(&env) {
        return wrong_settings(name, &error);
    }
    match writeln!(std::io::stdout(), "{}", env.reference_markdown()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Logs the variables that are set and have no effect, and those that were looked for elsewhere.
pub fn report_environment(env: &Env) {
    for (variable, value) in env.filled() {
        tracing::info!(variable, value, "found by Consul");
    }
    for variable in env.ignored() {
        tracing::warn!(variable, "ignored: no setting of NATS that Tidegate reads");
    }
}

fn wrong_settings(name: &str, error: &ConfigError) -> ExitCode {
    eprintln!("{name}: {error}");
    ExitCode::from(USAGE)
}
