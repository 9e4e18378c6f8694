//! The commands, one module each.

use std::process::ExitCode;

use clap::Parser;

use crate::style::HELP;

mod anomalies;
mod audit;
mod config;
mod dead_letters;
mod dev;
mod erase;
mod import;
mod key;
mod listen;
mod migrate;
mod projection;
mod receipt;
mod replay;
mod report;
mod retention;
mod search;
mod send;
mod serve;
mod status;
mod stream;
mod tail;
mod tenant;
mod webhook;

/// The description in `--help`.
const ABOUT: &str = "\
Tidegate keeps every event exactly once, counts it, and pushes it live.

`tidegate dev` needs nothing else on the machine; `tidegate serve` runs on your PostgreSQL, and on \
Kafka and Redis if you name them.";

/// The examples in `--help`.
const EXAMPLES: &str = "\
Examples:
  tidegate dev                          everything, in one process, on a database of its own
  tidegate send events.jsonl            send a file of events, one JSON object a line
  tidegate import segment-logs/         bring the events of another system here
  tidegate tail                         show events as they arrive
  tidegate tail --user u-1 --type 'order.*'
  tidegate search 'refund data.amount:>=10'
                                        find events by what they say
  tidegate stream order:7               show the history of an aggregate
  tidegate projection show order 7      show what its events are folded into
  tidegate replay start --stream order:7 --dry-run
  tidegate dead-letters counts          count what could not be stored
  tidegate anomalies                    show what is unusual
  tidegate report                       show how events are named and built
  tidegate audit                        recompute from the rows what is kept beside them
  tidegate receipt ID                   show what happened to an event
  tidegate erase --user u-1             show what there is of a user; --yes erases it everywhere
  tidegate key create shop --write      make a key that may send events
  tidegate listen --forward-to localhost:3000/hook
                                        bring events to a local port, signed as webhooks
  tidegate status                       show the state of a running instance
  DATABASE_URL=postgresql://… AUTH_MODE=keys tidegate serve

`tidegate COMMAND --help` describes a command.";

/// What the command line asks for.
#[derive(Parser)]
#[command(version, about = ABOUT, long_about = None, after_help = EXAMPLES, styles = HELP)]
pub(crate) enum Command {
    Dev(dev::Options),
    Serve(serve::Options),
    Migrate(migrate::Options),
    Send(send::Options),
    Import(import::Options),
    Tail(tail::Options),
    Search(search::Options),
    Stream(stream::Options),
    Projection(projection::Options),
    Replay(replay::Options),
    DeadLetters(dead_letters::Options),
    Receipt(receipt::Options),
    Anomalies(anomalies::Options),
    Audit(audit::Options),
    Report(report::Options),
    Webhook(webhook::Options),
    Listen(listen::Options),
    Retention(retention::Options),
    Erase(erase::Options),
    Key(key::Options),
    Tenant(tenant::Options),
    Status(status::Options),
    Config(config::Options),
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    /// As the command says.
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Dev(options) => dev::run(options).await,
            Self::Serve(options) => serve::run(options).await,
            Self::Migrate(options) => migrate::run(options).await,
            Self::Send(options) => send::run(options).await,
            Self::Import(options) => import::run(options).await,
            Self::Tail(options) => tail::run(options).await,
            Self::Search(options) => search::run(options).await,
            Self::Stream(options) => stream::run(options).await,
            Self::Projection(options) => projection::run(options).await,
            Self::Replay(options) => replay::run(options).await,
            Self::DeadLetters(options) => dead_letters::run(options).await,
            Self::Receipt(options) => receipt::run(options).await,
            Self::Key(options) => key::run(options).await,
            Self::Anomalies(options) => anomalies::run(options).await,
            Self::Report(options) => report::run(options).await,
            Self::Audit(options) => audit::run(options).await,
            Self::Tenant(options) => tenant::run(options).await,
            Self::Webhook(options) => webhook::run(options).await,
            Self::Listen(options) => listen::run(options).await,
            Self::Retention(options) => retention::run(options).await,
            Self::Erase(options) => erase::run(options).await,
            Self::Status(options) => status::run(options).await,
            Self::Config(options) => config::run(options),
        }
    }
}
