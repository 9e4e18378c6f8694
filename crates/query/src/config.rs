//! The query service's settings.

use std::time::Duration;

use service::config::HttpConfig;
use service::{ConfigError, Env};
use store::DatabaseConfig;

/// Everything the query service reads from its environment.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens.
    pub http: HttpConfig,
    /// The database.
    pub database: DatabaseConfig,
    /// Bring the schema up to date at start.
    pub migrate_on_start: bool,
    /// How long one statement may take.
    pub query_timeout: Duration,
    /// Bytes of events one answer may hold.
    pub max_response_bytes: usize,
    /// Variables that were set and mean nothing here.
    pub ignored: Vec<String>,
}

impl Config {
    /// Reads the environment.
    ///
    /// # Errors
    /// Every variable that is wrong, by name.
    pub fn from_env(env: &Env) -> Result<Self, ConfigError> {
        let config = Self {
            http: HttpConfig::from_env(env, "QUERY_PORT", 8208),
            database: DatabaseConfig::from_env(env, "tidegate-query"),
            migrate_on_start: env.get_bool(
                &["MIGRATE_ON_START"],
                true,
                "Bring the schema up to date at start.",
            ),
            query_timeout: Duration::from_secs(env.get_in(
                &["QUERY_TIMEOUT_SECONDS"],
                15,
                1..=600,
                "Seconds one statement may take; then the answer is 503.",
            )),
            max_response_bytes: env.get_in(
                &["MAX_RESPONSE_BYTES"],
                32 * 1024 * 1024,
                1024 * 1024..=1024 * 1024 * 1024,
                "Bytes of events one answer may hold; a larger page is refused with 422.",
            ),
            ignored: env.ignored(),
        };
        env.finish()?;
        Ok(config)
    }
}
