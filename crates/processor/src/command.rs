//! The subcommands of the `processor` binary.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use processor::config::Config;
use service::consul::Part;

#[derive(Subcommand)]
pub(crate) enum Command {
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
pub(crate) enum BridgeCommand {
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

/// Runs a subcommand. Returns the exit status.
pub(crate) async fn run(command: Command) -> ExitCode {
    let name = "processor";
    match command {
        Command::Serve => {
            let needed = [Part::Postgres, Part::Kafka, Part::Redis];
            service::main(name, &needed, Config::from_env, processor::run).await
        }
        Command::Migrate => service::main(name, &[Part::Postgres], Config::from_env, migrate).await,
        Command::Bridge {
            command: BridgeCommand::TestEvent { file, publish },
        } => {
            let test = async |config| test_event(&config, &file, publish).await;
            service::main(name, &[Part::Redis], Config::from_env, test).await
        }
        Command::Config => service::print_settings(name, Config::from_env),
    }
}

async fn migrate(config: Config) -> anyhow::Result<()> {
    let applied = processor::migrate(&config).await?;
    if applied.is_empty() {
        println!("the schema is up to date");
    }
    applied.iter().for_each(|name| println!("applied {name}"));
    Ok(())
}

async fn test_event(config: &Config, file: &Path, publish: bool) -> anyhow::Result<ExitCode> {
    let mut body = Vec::new();
    if file.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut body)?;
    } else {
        body = std::fs::read(file).with_context(|| file.display().to_string())?;
    }
    let verdict = processor::test_event(config, &body, publish).await?;
    println!("{:#}", verdict.stages);
    Ok(if verdict.passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
