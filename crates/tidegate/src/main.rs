//! The `tidegate` binary.

use std::process::ExitCode;

use clap::Parser;

mod all_in_one;
mod client;
mod commands;
mod environment;
mod output;
mod postgres;
mod sending;
mod style;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = commands::Command::parse().run().await;
    outcome.unwrap_or_else(|error| {
        output::notice(format_args!("tidegate: {error:#}"));
        ExitCode::FAILURE
    })
}
