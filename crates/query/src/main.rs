//! The `query` binary.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use query::config::Config;
use service::consul::Part;

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

#[derive(Subcommand)]
enum Command {
    /// Answer, until SIGTERM (the default).
    Serve,
    /// Print the reference of all settings as Markdown.
    Config,
}

#[actix_web::main]
async fn main() -> ExitCode {
    match Arguments::parse().command.unwrap_or(Command::Serve) {
        Command::Serve => {
            let needed = [Part::Postgres, Part::Redis];
            service::main("query", &needed, Config::from_env, query::run).await
        }
        Command::Config => service::print_settings("query", Config::from_env),
    }
}
