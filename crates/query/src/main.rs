//! The `query` binary.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use config::Env;
use query::config::Config;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Answers questions about the events stored in PostgreSQL, over HTTP.
///
/// All settings come from the environment; `query config` lists them.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand, PartialEq)]
enum Command {
    /// Answer, until SIGTERM (the default).
    Serve,
    /// Print the reference of all settings as Markdown.
    Config,
}

#[actix_web::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let env = Env::from_process();
    let config = match Config::from_env(&env) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("query: {error}");
            return ExitCode::from(2);
        }
    };
    if arguments.command == Some(Command::Config) {
        println!("{}", env.reference_markdown());
        return ExitCode::SUCCESS;
    }
    service::telemetry::init();
    if let Err(error) = query::run(config).await {
        eprintln!("query: {error:#}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
