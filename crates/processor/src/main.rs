//! The `processor` binary.

mod command;

use std::process::ExitCode;

use clap::Parser;

use command::Command;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Stores events from Kafka in PostgreSQL, exactly once, keeps the counts, and brings events live to
/// browsers through Redis.
///
/// All settings come from the environment; `processor config` lists them.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[tokio::main]
async fn main() -> ExitCode {
    command::run(Arguments::parse().command.unwrap_or(Command::Serve)).await
}
