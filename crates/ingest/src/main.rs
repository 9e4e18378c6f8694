//! The `ingest` binary.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use config::Env;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Takes events over HTTP and puts them onto the event log.
///
/// All settings come from the environment; `ingest config` lists them.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve, until SIGTERM (the default).
    Serve,
    /// Print the reference of all settings as Markdown.
    Config,
}

#[actix_web::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let env = Env::from_process();
    let config = match ingest::Config::from_env(&env) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("ingest: {error}");
            return ExitCode::from(2);
        }
    };
    if matches!(arguments.command, Some(Command::Config)) {
        println!("{}", env.reference_markdown());
        return ExitCode::SUCCESS;
    }
    service::telemetry::init();
    match ingest::run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ingest: {error:#}");
            ExitCode::FAILURE
        }
    }
}
