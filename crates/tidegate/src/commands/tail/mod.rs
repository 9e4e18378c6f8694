//! `tidegate tail`: events in the terminal, as they come.

mod follow;
mod live;
mod print;
mod sse;

use std::process::ExitCode;

use clap::Args;
use domain::pattern::TypePattern;
use serde_json::Value;

use crate::client::Instance;
use print::Printer;

/// Show events as they come
///
/// With --user it listens to that user's live channel, as a browser would: it reconnects by itself,
/// goes on where it was, and says so when something was missed.
///
/// Without a user it follows the stored events, whenever they happened, half a second late; what is
/// stored in between stands in the order in which it happened. It begins with the last lines, and
/// with patterns it searches further back for them, among the newest 100,000 events. More than
/// 100,000 new ones at a time are not all shown; it says so.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidegate tail
  tidegate tail --type 'order.*' --type user.login
  tidegate tail --user u-1
  tidegate tail --user u-1 --json | jq .payload")]
pub(crate) struct Options {
    #[command(flatten)]
    instance: Instance,
    /// Only this user's events, live
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Only events of this type: `*` stands for one segment, `**` for any number; may be repeated
    #[arg(long = "type", value_name = "PATTERN", value_parser = TypePattern::parse)]
    types: Vec<TypePattern>,
    /// Begin after this message of the channel; with --user
    #[arg(long, value_name = "ID", requires = "user")]
    last_event_id: Option<String>,
    /// How many stored events to begin with; without --user
    #[arg(
        short = 'n',
        long,
        default_value_t = 10,
        value_name = "N",
        conflicts_with = "user"
    )]
    lines: u16,
    /// One JSON object a line, whole
    #[arg(long)]
    json: bool,
}

impl Options {
    fn shows(&self, event: &Value) -> bool {
        let kind = event["event_type"].as_str().unwrap_or_default();
        self.types.is_empty() || self.types.iter().any(|pattern| pattern.matches(kind))
    }
}

/// Shows events until it is interrupted.
///
/// # Errors
/// The URL is none, or the service refuses the question.
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
