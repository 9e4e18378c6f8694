//! The `processor` binary.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use config::Env;
use processor::config::Config;

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

#[derive(Subcommand)]
enum Command {
    /// Consume, store, announce, until SIGTERM (the default).
    Serve,
    /// Bring the database schema up to date, then exit.
    Migrate,
    /// Look into the bridge.
    Bridge {
        #[command(subcommand)]
        command: BridgeCommand,
    },
    /// Print the reference of all settings as Markdown.
    Config,
}

#[derive(Subcommand)]
enum BridgeCommand {
    /// Feed one event through the bridge and print each stage's verdict. Ends with 1 if it would
    /// not be published.
    TestEvent {
        /// The event's JSON in any envelope; `-` reads standard input.
        #[arg(default_value = "-")]
        file: PathBuf,
        /// Really publish it.
        #[arg(long)]
        publish: bool,
    },
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
        Command::Bridge {
            command: BridgeCommand::TestEvent { file, publish },
        } => match test_event(&config, &file, publish).await {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::FAILURE,
            Err(error) => Err(error),
        },
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

async fn test_event(config: &Config, file: &Path, publish: bool) -> anyhow::Result<bool> {
    let mut body = vec![];
    if file.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut body)?;
    } else {
        body = std::fs::read(file).with_context(|| file.display().to_string())?;
    }
    let verdict = processor::test_event(config, &body, publish).await?;
    println!("{:#}", verdict.stages);
    Ok(verdict.passed)
}
