//! `tidegate migrate`: the schema.

use std::process::ExitCode;

use clap::Args;
use service::Env;
use store::{Database, DatabaseConfig, migrate};

/// Bring the database schema up to date, then exit
///
/// `serve` does the same at its start unless MIGRATE_ON_START=false. The database is the one of
/// DATABASE_URL or the POSTGRES_ variables, the schema that of DB_SCHEMA.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  DATABASE_URL=postgresql://user:password@host/database tidegate migrate")]
pub(crate) struct Options {}

/// Applies what is missing.
///
/// # Errors
/// The settings are wrong, the database cannot be reached, or a migration fails.
pub(crate) async fn run(_: Options) -> anyhow::Result<ExitCode> {
    let env = Env::from_process();
    let config = DatabaseConfig::from_env(&env, "tidegate-migrate");
    if let Err(error) = env.finish() {
        eprintln!("tidegate: {error}");
        return Ok(ExitCode::from(2));
    }
    match &migrate::run(&Database::new(&config)?).await?[..] {
        [] => println!("the schema is up to date"),
        applied => applied.iter().for_each(|name| println!("applied {name}")),
    }
    Ok(ExitCode::SUCCESS)
}
