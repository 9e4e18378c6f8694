//! The processor's settings.

use domain::Limits;
use eventlog::kafka::KafkaConfig;
use service::config::{HttpConfig, limits};
use service::{ConfigError, Env};
use store::DatabaseConfig;
use store::partitions::Interval;

use crate::pipeline::batch::BatchLimits;

/// Everything the processor reads from its environment.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where probes and metrics listen.
    pub http: HttpConfig,
    /// The log.
    pub kafka: KafkaConfig,
    /// Topics consumed besides the four of the specification, without prefix (C15).
    pub domain_topics: Vec<String>,
    /// The database.
    pub database: DatabaseConfig,
    /// Bring the schema up to date at start.
    pub migrate_on_start: bool,
    /// What one event may be.
    pub limits: Limits,
    /// What one transaction may be.
    pub batch: BatchLimits,
    /// Lines from the log to the database, each with a connection of its own.
    pub writers: usize,
    /// Bytes of records between the log and the database.
    pub buffer_bytes: usize,
    /// Time held by one partition of `events`.
    pub partition_interval: Interval,
    /// Partitions made ahead.
    pub partitions_ahead: usize,
}

impl Config {
    /// Reads the environment.
    ///
    /// # Errors
    /// Every variable that is wrong, by name.
    pub fn from_env(env: &Env) -> Result<Self, ConfigError> {
        let config = Self {
            http: HttpConfig::from_env(env, "PROCESSOR_PORT", 8231),
            kafka: KafkaConfig::from_env(env).with_consumer_env(env),
            domain_topics: env.get_list(
                &["KAFKA_DOMAIN_TOPICS"],
                "",
                "Topics consumed besides the specification's four, by commas.",
            ),
            database: DatabaseConfig::from_env(env, "tidegate-processor"),
            migrate_on_start: env.get_bool(
                &["MIGRATE_ON_START"],
                true,
                "Bring the schema up to date at start.",
            ),
            limits: limits(env),
            batch: BatchLimits {
                records: env.get_in(
                    &["BATCH_SIZE"],
                    5_000,
                    1..=100_000,
                    "Records of one storing transaction at most.",
                ),
                bytes: env.get_in(
                    &["BATCH_BYTES"],
                    4 * 1024 * 1024,
                    64 * 1024..=256 * 1024 * 1024,
                    "Bytes of one storing transaction at most.",
                ),
            },
            writers: env.get_in(
                &["WRITERS"],
                std::thread::available_parallelism().map_or(2, usize::from),
                1..=64,
                "Writers, each with a connection of its own; the default is the number of cores.",
            ),
            buffer_bytes: env.get_in(
                &["BUFFER_BYTES"],
                16 * 1024 * 1024,
                1024 * 1024..=4 * 1024 * 1024 * 1024,
                "Bytes of records between the log and the database.",
            ),
            partition_interval: env.get(
                &["PARTITION_INTERVAL"],
                "month",
                "Time held by one partition of the events table: month or day.",
            ),
            partitions_ahead: env.get_in(
                &["PARTITIONS_AHEAD"],
                3,
                1..=60,
                "Partitions made ahead of time.",
            ),
        };
        env.finish()?;
        Ok(config)
    }
}
