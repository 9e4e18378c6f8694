//! `tidegate retention`: removes old events, their counts stay.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use store::partitions::{Policy, retention};
use store::{Database, DatabaseConfig};
use time::Duration;

use crate::{environment, output};

/// Show which old events would be removed, or remove them
///
/// Events go by their time, with their ids: whole partitions at once, and what is older than the first
/// of them row by row. Their counts stay, so statistics still tell of them. A processor does the same
/// by itself every hour where RETENTION_DAYS is set. The database is the one of DATABASE_URL or the
/// POSTGRES_ variables, the schema that of DB_SCHEMA.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidegate retention --days 365            show what a year's keeping would remove; removes nothing
  tidegate retention --days 365 --apply    remove it

Exit status: 0 when done, 2 for wrong settings.")]
pub(crate) struct Options {
    /// Keep the events of the last DAYS days [default: RETENTION_DAYS]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u16).range(1..=36_500))]
    days: Option<u16>,
    /// Remove them; without it they are only shown
    #[arg(long, visible_alias = "yes")]
    apply: bool,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

/// Shows what is too old, and removes it with `--apply`.
///
/// # Errors
/// The database cannot be reached, or another transaction keeps a lock.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let env = environment::read().await?;
    let config = DatabaseConfig::from_env(&env, "tidegate-retention");
    let keep = Policy::keep_from_env(&env);
    if let Err(error) = env.finish() {
        output::notice(format_args!("tidegate: {error}"));
        return Ok(ExitCode::from(2));
    }
    let days = options.days.map(|days| Duration::days(i64::from(days)));
    let Some(keep) = days.or(keep).filter(|_| DatabaseConfig::is_named(&env)) else {
        output::notice(
            "tidegate: name the database in DATABASE_URL, and how long events are kept with --days or \
             RETENTION_DAYS",
        );
        return Ok(ExitCode::from(2));
    };
    let database = Database::new(&config)?;
    let cut = retention::cut(service::clock::now(), keep);
    let plan = retention::plan(&database, cut).await?;
    let removed = if options.apply {
        Some(retention::apply(&database, cut).await?)
    } else {
        None
    };
    if options.json {
        let partitions = plan.partitions.iter().map(|(partition, rows)| {
            json!({
                "name": partition.name, "rows": rows,
                "from": partition.from.map(domain::timestamp::format),
                "to": partition.to.map(domain::timestamp::format),
            })
        });
        output::line(json!({
            "before": domain::timestamp::format(cut),
            "partitions": partitions.collect::<Vec<_>>(),
            "rows": plan.rows,
            "counts_kept": {"days": plan.counted_days, "events": plan.counted_events},
            "removed": removed.map(|removed| json!({
                "partitions": removed.partitions, "rows": removed.rows, "ids": removed.ids,
            })),
        }));
        return Ok(ExitCode::SUCCESS);
    }
    output::line(format_args!(
        "events before {}",
        domain::timestamp::format(cut)
    ));
    for (partition, rows) in &plan.partitions {
        output::line(format_args!(
            "  {:<24}{rows:>14} events, dropped",
            partition.name
        ));
    }
    if plan.rows > 0 {
        output::line(format_args!(
            "  {:<24}{:>14} events, deleted",
            "older ones", plan.rows
        ));
    }
    output::line(format_args!(
        "counts of {} events on {} days stay",
        plan.counted_events, plan.counted_days
    ));
    output::line(match removed {
        Some(removed) => format!("removed, with {} ids", removed.ids),
        None => "nothing was removed: this is what --apply would do".to_owned(),
    });
    Ok(ExitCode::SUCCESS)
}
