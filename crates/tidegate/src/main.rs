//! The `tidegate` binary.

use std::process::ExitCode;

use clap::Parser;

mod all_in_one;
mod client;
mod commands;
mod output;
mod postgres;
mod style;

use commands::{config, dev, migrate, send, serve, status, stream, tail};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(version, about = commands::ABOUT, long_about = None, after_help = commands::EXAMPLES, styles = style::HELP)]
enum Command {
    Dev(dev::Options),
    Serve(serve::Options),
    Migrate(migrate::Options),
    Send(send::Options),
    Tail(tail::Options),
    Stream(stream::Options),
    Status(status::Options),
    Config(config::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Command::parse() {
        Command::Dev(options) => dev::run(options).await,
        Command::Serve(options) => serve::run(options).await,
        Command::Migrate(options) => migrate::run(options).await,
        Command::Send(options) => send::run(options).await,
        Command::Tail(options) => tail::run(options).await,
        Command::Stream(options) => stream::run(options).await,
        Command::Status(options) => status::run(options).await,
        Command::Config(options) => config::run(options),
    };
    outcome.unwrap_or_else(|error| {
        output::notice(format_args!("tidegate: {error:#}"));
        ExitCode::FAILURE
    })
}
