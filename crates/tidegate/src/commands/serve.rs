//! `tidegate serve`: runs everything in one process, on the parts that the environment names.

use std::process::ExitCode;

use clap::Args;
use store::DatabaseConfig;

use crate::all_in_one::{Config, Server};
use crate::{environment, output};

/// Run everything in one process, on your PostgreSQL
///
/// All settings come from the environment; `tidegate config` lists them. DATABASE_URL is the one
/// that must be set. With KAFKA_BROKERS the log is Kafka (and PostgreSQL while Kafka is down), else
/// PostgreSQL; with REDIS_URL live messages go through Redis, else they stay in the process.
///
/// Several processes may serve one database; for live messages they then need Redis.
///
/// SIGTERM drains it: every event that was acknowledged is stored or on the log. A second one ends it
/// at once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  DATABASE_URL=postgresql://user:password@host/database EVENT_SERVICE_HOST=127.0.0.1 tidegate serve
  DATABASE_URL=… AUTH_MODE=keys KAFKA_BROKERS=kafka:9092 REDIS_URL=redis://redis:6379 tidegate serve")]
pub(crate) struct Options {}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// The address cannot be bound, or a client refuses its settings. A dependency that is down is no
/// error: the services wait for it.
pub(crate) async fn run(_: Options) -> anyhow::Result<ExitCode> {
    let env = environment::read().await?;
    if !DatabaseConfig::is_named(&env) {
        output::notice(
            "tidegate: DATABASE_URL is not set: name the PostgreSQL to serve from, or run \
             `tidegate dev`, which brings one of its own",
        );
        return Ok(ExitCode::from(2));
    }
    let config = match Config::from_env(&env) {
        Ok(config) => config,
        Err(error) => {
            output::notice(format_args!("tidegate: {error}"));
            return Ok(ExitCode::from(2));
        }
    };
    service::telemetry::init();
    service::report_environment(&env);
    // Before the first answer, after which a signal may come at any moment.
    let mut signal = tokio::spawn(service::shutdown::requested());
    let (kafka, redis) = (config.has_kafka, config.has_redis);
    config.can_listen()?;
    let mut server = Server::start(config)?;
    tracing::info!(address = %server.address, kafka, redis, "tidegate listens");
    tokio::select! {
        signal = &mut signal => {
            tracing::info!(signal = signal??, "draining");
            server.stop_unless(service::shutdown::requested()).await;
        }
        ended = server.ended() => ended?,
    }
    Ok(ExitCode::SUCCESS)
}
