//! The `ingest` binary.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ingest::Config;
use service::consul::Part;

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
    match Arguments::parse().command.unwrap_or(Command::Serve) {
        Command::Serve => {
            service::main("ingest", &[Part::Kafka], Config::from_env, ingest::run).await
        }
        Command::Config => service::print_settings("ingest", Config::from_env),
    }
}
