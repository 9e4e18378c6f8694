//! `tidegate migrate`: brings the database schema up to date.

use std::process::ExitCode;

use clap::Args;
use store::{Database, DatabaseConfig, migrate};

use crate::{environment, output};

/// Bring the database schema up to date, then exit
///
/// `serve` does the same at its start unless MIGRATE_ON_START=false. The database is the one of
/// DATABASE_URL or the POSTGRES_ variables, the schema that of DB_SCHEMA.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  DATABASE_URL=postgresql://user:password@host/database tidegate migrate")]
pub(crate) struct Options {}

/// Applies the missing migrations.
///
/// # Errors
/// The settings are wrong, the database cannot be reached, or a migration fails.
pub(crate) async fn run(_: Options) -> anyhow::Result<ExitCode> {
    let env = environment::read().await?;
    if !DatabaseConfig::is_named(&env) {
        output::notice(
            "tidegate: DATABASE_URL is not set: name the PostgreSQL whose schema is to be brought \
             up to date",
        );
        return Ok(ExitCode::from(2));
    }
    let config = DatabaseConfig::from_env(&env, "tidegate-migrate");
    if let Err(error) = env.finish() {
        output::notice(format_args!("tidegate: {error}"));
        return Ok(ExitCode::from(2));
    }
    let database = Database::new(&config)?;
    let migrated = migrate::run(&database).await.map_err(|error| {
        anyhow::anyhow!(
            "the schema of DATABASE_URL ({}) could not be brought up to date: {error}",
            database.address()
        )
    });
    match &migrated?[..] {
        [] => output::line("the schema is up to date"),
        applied => {
            for name in applied {
                output::line(format_args!("applied {name}"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
