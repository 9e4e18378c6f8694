//! The query service's settings.

use std::time::Duration;

use config::{ConfigError, Env};
use domain::subject;
use live::redis::RedisConfig;
use search::SearchConfig;
use service::config::HttpConfig;
use store::DatabaseConfig;
use store::outbox::Sinks;
use webhook::WebhookConfig;

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
    /// How long counting the total of a listing may take.
    pub count_timeout: Duration,
    /// Bytes of events one answer may hold.
    pub max_response_bytes: usize,
    /// Bytes of answers being made or waiting for their clients, all together.
    pub max_inflight_bytes: usize,
    /// What events are searched with.
    pub search: SearchConfig,
    /// Answers kept for a moment.
    pub cache: CacheConfig,
    /// Streams of live events.
    pub sse: SseConfig,
    /// Where live events come from.
    pub redis: RedisConfig,
    /// Origins whose pages may listen; `None` is any.
    pub cors_origins: Option<Vec<String>>,
    /// The topics that the processor reads, without the deployment's prefix.
    pub read_topics: Vec<String>,
    /// How endpoints of subscriptions are reached.
    pub webhooks: WebhookConfig,
    /// Where it is announced that a subscription was made.
    pub announces: Sinks,
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
            count_timeout: Duration::from_millis(env.get_in(
                &["COUNT_TIMEOUT_MS"],
                1_000,
                10..=60_000,
                "Milliseconds that counting the total of a listing may take; then it is null.",
            )),
            max_response_bytes: env.get_in(
                &["MAX_RESPONSE_BYTES"],
                32 * 1024 * 1024,
                1024 * 1024..=1024 * 1024 * 1024,
                "Bytes of events one answer may hold; a larger page is refused with 422.",
            ),
            max_inflight_bytes: env.get_in(
                &["MAX_INFLIGHT_RESPONSE_BYTES"],
                256 * 1024 * 1024,
                1024 * 1024..=1 << 40,
                "Most bytes of answers being made, or not yet taken by their clients; more are refused (503). At least two answers of MAX_RESPONSE_BYTES.",
            ),
            search: SearchConfig::from_env(env),
            cache: CacheConfig::from_env(env),
            sse: SseConfig::from_env(env),
            redis: RedisConfig::from_env(env),
            cors_origins: service::cors::origins(env),
            read_topics: subject::EVENT_TOPICS
                .map(str::to_owned)
                .into_iter()
                .chain(env.get_list(
                    &["KAFKA_DOMAIN_TOPICS"],
                    "",
                    "Topics consumed besides the specification's four, by commas.",
                ))
                .collect(),
            webhooks: WebhookConfig::from_env(env),
            announces: Sinks {
                kafka: true,
                nats: !env
                    .get::<String>(
                        &["NATS_ANNOUNCEMENTS"],
                        "",
                        "The JetStream stream that processors announce to beside Kafka, as it is set for them; empty: none.",
                    )
                    .is_empty(),
            },
        };
        env.finish()?;
        Ok(config)
    }
}

/// For how long answers that many ask for are kept; zero is not at all.
#[derive(Debug, Clone)]
pub struct CacheConfig {
    /// Statistics.
    pub statistics: Duration,
    /// The newest events.
    pub recent: Duration,
    /// States of projections.
    pub projections: Duration,
    /// Bytes that one process keeps.
    pub max_bytes: usize,
    /// Keep them in Redis, for all processes.
    pub in_redis: bool,
}

impl CacheConfig {
    fn from_env(env: &Env) -> Self {
        let milliseconds = |name, default, doc| {
            Duration::from_millis(env.get_in(&[name], default, 0..=60_000, doc))
        };
        Self {
            statistics: milliseconds(
                "CACHE_STATISTICS_MS",
                1_000,
                "Milliseconds that statistics are kept for others who ask the same; 0 is not at all.",
            ),
            recent: milliseconds(
                "CACHE_RECENT_MS",
                50,
                "The same of the newest events (`/recent`).",
            ),
            projections: milliseconds(
                "CACHE_PROJECTIONS_MS",
                0,
                "The same of the state of one entity. Kept, it may be older than an event that was stored before.",
            ),
            max_bytes: env.get_in(
                &["CACHE_BYTES"],
                32 * 1024 * 1024,
                0..=1 << 40,
                "Most bytes of answers kept in one process; in Redis they end with their time.",
            ),
            in_redis: true,
        }
    }
}

/// Limits of the streams of live events.
#[derive(Debug, Clone)]
pub struct SseConfig {
    /// A heartbeat follows after that much quiet.
    pub heartbeat: Duration,
    /// Bytes of messages that wait for one slow client before it is closed.
    pub queue_bytes: usize,
    /// Open streams of this process.
    pub max_connections: usize,
    /// Open streams of one user.
    pub max_connections_per_user: usize,
    /// Open streams of one tenant; 0 is no limit.
    pub max_connections_per_tenant: usize,
}

impl SseConfig {
    fn from_env(env: &Env) -> Self {
        Self {
            heartbeat: Duration::from_secs(env.get_in(
                &["SSE_HEARTBEAT_SECONDS"],
                15,
                1..=3_600,
                "Seconds of quiet after which a live stream gets a heartbeat.",
            )),
            queue_bytes: env.get_in(
                &["SSE_QUEUE_BYTES"],
                1024 * 1024,
                1024..=1024 * 1024 * 1024,
                "Bytes of messages that wait for one slow client; one with more is closed and can resume.",
            ),
            max_connections: env.get_in(
                &["SSE_MAX_CONNECTIONS"],
                10_000,
                1..=10_000_000,
                "Open live streams of a process; more get 429.",
            ),
            max_connections_per_user: env.get_in(
                &["SSE_MAX_CONNECTIONS_PER_USER"],
                100,
                1..=10_000_000,
                "Open live streams of one user in a process; more get 429.",
            ),
            max_connections_per_tenant: env.get_in(
                &["SSE_MAX_CONNECTIONS_PER_TENANT"],
                0,
                0..=10_000_000,
                "Open live streams of one tenant in a process; more get 429. 0 is no limit. `tidegate tenant limits` says otherwise for a tenant.",
            ),
        }
    }
}
