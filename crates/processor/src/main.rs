//! The `processor` binary.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use processor::config::Config;
use service::Env;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Stores events from Kafka in PostgreSQL, exactly once, and keeps the counts.
///
/// All settings come from the environment; `processor config` lists them.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Consume, store, announce, until SIGTERM (the default).
    Serve,
    /// Bring the database schema up to date, then exit.
    Migrate,
    /// Print the reference of all settings as Markdown.
    Config,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    service::telemetry::init();
    let env = Env::from_process();
    let config = match Config::from_env(&env) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("processor: {error}");
            return ExitCode::from(2);
        }
    };
    for name in env.ignored() {
        tracing::warn!(variable = name, "ignored: there is no NATS connector yet");
    }
    let result = match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => processor::run(config).await,
        Command::Migrate => processor::migrate(&config)
            .await
            .map(|applied| match &applied[..] {
                [] => println!("the schema is up to date"),
                applied => applied.iter().for_each(|name| println!("applied {name}")),
            }),
        Command::Config => {
            println!("{}", env.reference_markdown());
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("processor: {error:#}");
            ExitCode::FAILURE
        }
    }
}
