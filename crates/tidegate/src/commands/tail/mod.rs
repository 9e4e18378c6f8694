//! `tidegate tail`: shows events in the terminal as they arrive.

mod follow;
mod live;
mod options;
mod print;
mod sse;

use std::process::ExitCode;

use serde_json::Value;
use tokio::sync::mpsc;

pub(crate) use options::Options;
use print::Printer;

use crate::client::Instance;

/// Hands over every event stored from now on, as the API shows it.
///
/// # Errors
/// `--url` is not a URL, or the service refuses the request.
pub(crate) async fn forward(instance: Instance, to: mpsc::Sender<Value>) -> anyhow::Result<()> {
    follow::run(&Options::all(instance), &Printer::to(to)).await
}

/// Shows events until it is interrupted.
///
/// # Errors
/// `--url` is not a URL, or the service refuses the request.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let printer = Printer::new(options.json);
    let showing = async {
        match &options.user {
            Some(user) => live::run(&options, user, &printer).await,
            None => follow::run(&options, &printer).await,
        }
    };
    tokio::select! {
        outcome = showing => outcome.map(|()| ExitCode::SUCCESS),
        _ = tokio::signal::ctrl_c() => Ok(ExitCode::SUCCESS),
    }
}
