//! The processor's settings.

use std::time::Duration;

use config::{ConfigError, Env};
use domain::Limits;
use domain::cloudevent::Format;
use eventlog::kafka::KafkaConfig;
use eventlog::nats::{self, ServerAddr};
use live::redis::RedisConfig;
use search::SearchConfig;
use service::config::{HttpConfig, limits};
use store::DatabaseConfig;
use store::partitions::Policy;
use time::Time;
use webhook::WebhookConfig;

use crate::bridge::config::{BridgeConfig, stored_topics};
use crate::pipeline::batch::BatchLimits;

/// Everything the processor reads from its environment.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where probes and metrics listen.
    pub http: HttpConfig,
    /// What this process does.
    pub roles: Roles,
    /// Kafka; a composition that has none sets `None`.
    pub kafka: Option<KafkaConfig>,
    /// Topics consumed besides the four of the specification, without prefix (C15).
    pub domain_topics: Vec<String>,
    /// How long `event-stream` keeps its records, where this process creates it.
    pub event_stream_retention: Duration,
    /// How announcements are written.
    pub announcements_format: Format,
    /// The servers and the stream of NATS that is announced to beside Kafka, if any.
    pub nats: Option<(Vec<ServerAddr>, String)>,
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
    /// Types that a tenant's day is counted by.
    pub types_a_day: usize,
    /// How often it is looked for what is to be done with stored events and what a crash left.
    pub sweep: Duration,
    /// What is sent to subscribers.
    pub webhooks: WebhookLimits,
    /// How anomalies are looked for.
    pub anomalies: AnomalyConfig,
    /// When each day, UTC, an audit is done by itself.
    pub audit_at: Option<Time>,
    /// Bytes of records between the log and the database, of all writers together.
    pub buffer_bytes: usize,
    /// The time partitions of `events`.
    pub partitions: Policy,
    /// What events are searched with.
    pub search: SearchConfig,
    /// Live delivery.
    pub bridge: BridgeConfig,
    /// Where live messages go, unless the composition brings channels of its own.
    pub redis: RedisConfig,
    /// Redis is named, rather than looked for where it usually is.
    pub has_redis: bool,
}

/// How anomalies are looked for.
#[derive(Debug, Clone, Copy)]
pub struct AnomalyConfig {
    /// How often; never if there is none.
    pub interval: Option<Duration>,
    /// How long counts by the minute are kept.
    pub history: Duration,
}

impl AnomalyConfig {
    fn from_env(env: &Env) -> Self {
        let seconds = env.get_in(
            &["ANOMALY_INTERVAL"],
            5,
            0..=60,
            "Seconds between two looks for anomalies in what is stored; 0 never looks.",
        );
        let days = env.get_in(
            &["ANOMALY_HISTORY_DAYS"],
            35,
            1..=400,
            "Days that counts by the minute are kept, which rules can be tried on.",
        );
        Self {
            interval: (seconds > 0).then(|| Duration::from_secs(seconds)),
            history: Duration::from_secs(86_400 * days),
        }
    }
}

fn audit_at(env: &Env) -> Option<Time> {
    const NAME: &str = "AUDIT_AT";
    let text: String = env.get(
        &[NAME],
        "",
        "Time of day, UTC, such as 03:30, at which everything is recomputed from the rows; empty for never.",
    );
    let read = text.split_once(':').and_then(|(hour, minute)| {
        Time::from_hms(hour.parse().ok()?, minute.parse().ok()?, 0).ok()
    });
    if read.is_none() && !text.is_empty() {
        env.complain(NAME, &text, "a time of day such as 03:30");
    }
    read
}

/// How webhooks are delivered.
#[derive(Debug, Clone)]
pub struct WebhookLimits {
    /// How endpoints are reached.
    pub http: WebhookConfig,
    /// Messages under way to one endpoint.
    pub concurrency: usize,
    /// How long deliveries may fail before a subscription is disabled.
    pub disable_after: Duration,
    /// How long attempts are kept in the log.
    pub log: Duration,
}

impl WebhookLimits {
    fn from_env(env: &Env) -> Self {
        let days = |names, default, doc| {
            Duration::from_secs(86_400 * env.get_in(names, default, 1..=3_650, doc))
        };
        Self {
            http: WebhookConfig::from_env(env),
            concurrency: env.get_in(
                &["WEBHOOK_CONCURRENCY"],
                8,
                1..=256,
                "Messages under way to one endpoint at a time, in each processor.",
            ),
            disable_after: days(
                &["WEBHOOK_DISABLE_AFTER_DAYS"],
                5,
                "Days without a successful delivery after which a subscription is disabled.",
            ),
            log: days(
                &["WEBHOOK_LOG_DAYS"],
                30,
                "Days that attempts to deliver are kept in the log.",
            ),
        }
    }
}

/// What a processor does: every role can run alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// Events → PostgreSQL.
    pub store: bool,
    /// Events → live channels. Alone it never touches PostgreSQL.
    pub bridge: bool,
}

impl Roles {
    fn from_env(env: &Env) -> Self {
        const NAME: &str = "PROCESSOR_ROLES";
        let mut roles = Self {
            store: false,
            bridge: false,
        };
        let words = env.get_list(
            &[NAME],
            "store,bridge",
            "What this process does, by commas: store (events to PostgreSQL), bridge (events to live channels).",
        );
        for word in &words {
            match word.as_str() {
                "store" => roles.store = true,
                "bridge" => roles.bridge = true,
                _ => env.complain(NAME, word, "store, bridge or both, by commas"),
            }
        }
        roles
    }
}

/// The stream for announcements, and its servers; `None` where none is named.
fn nats(env: &Env) -> Option<(Vec<ServerAddr>, String)> {
    let servers = nats::servers(
        env,
        "Servers of NATS that announcements are sent to (NATS_ANNOUNCEMENTS), such as nats://user:password@host:4222, separated by commas.",
    );
    let stream = announcements(env)?;
    if servers.is_empty() {
        env.complain("NATS_ANNOUNCEMENTS", &stream, "empty, or NATS_URL set");
    }
    (!servers.is_empty()).then_some((servers, stream))
}

/// NATS_ANNOUNCEMENTS.
fn announcements(env: &Env) -> Option<String> {
    const NAME: &str = "NATS_ANNOUNCEMENTS";
    let stream: String = env.get(
        &[NAME],
        "",
        "The JetStream stream that announcements are sent to beside Kafka, under subjects such as NAME.event.stored; made where there is none. Empty: none. Set the same for query.",
    );
    let illegal = |c: char| c.is_whitespace() || c.is_control() || ".*>/\\".contains(c);
    if stream.contains(illegal) {
        env.complain(NAME, &stream, "a name without spaces and . * > / \\");
    }
    (!stream.is_empty()).then_some(stream)
}

impl Config {
    /// Reads the environment.
    ///
    /// # Errors
    /// Every variable that is wrong, by name.
    pub fn from_env(env: &Env) -> Result<Self, ConfigError> {
        let http = HttpConfig::from_env(env, "PROCESSOR_PORT", 8231);
        let roles = Roles::from_env(env);
        let limits = limits(env);
        let kafka = KafkaConfig::from_env(env).with_consumer_env(env);
        let domain_topics = env.get_list(
            &["KAFKA_DOMAIN_TOPICS"],
            "",
            "Topics consumed besides the specification's four, by commas.",
        );
        let writers = env.get_in(
            &["WRITERS"],
            std::thread::available_parallelism().map_or(2, usize::from),
            1..=64,
            "Writers, each with a connection of its own; the default is the number of cores.",
        );
        let config = Self {
            http,
            roles,
            bridge: BridgeConfig::from_env(env, &kafka, &stored_topics(&domain_topics)),
            redis: RedisConfig::from_env(env),
            has_redis: env.is_set("REDIS_URL"),
            kafka: Some(kafka),
            domain_topics,
            event_stream_retention: Duration::from_secs(3_600 * env.get_in(
                &["EVENT_STREAM_RETENTION_HOURS"],
                168,
                1..=100 * 366 * 24,
                "Hours that event-stream keeps its records; set where the topic is created.",
            )),
            announcements_format: env.get_one_of(
                "ANNOUNCEMENTS_FORMAT",
                Format::ALL.map(|format| (format.as_str(), format)),
                "How event-stream is written: json, or cloudevents, which adds the headers of CloudEvents' binary mode for Kafka.",
            ),
            nats: nats(env),
            database: DatabaseConfig::from_env(env, "tidegate-processor"),
            migrate_on_start: env.get_bool(
                &["MIGRATE_ON_START"],
                true,
                "Bring the schema up to date at start.",
            ),
            limits,
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
            writers,
            // One writer needs room for what is decoded beside its transaction, as two do.
            buffer_bytes: writers.max(2)
                * env.get_in(
                    &["BUFFER_BYTES"],
                    8 * 1024 * 1024,
                    512 * 1024..=1024 * 1024 * 1024,
                    "Bytes of records between the log and the database for each writer; one has those of two.",
                ),
            webhooks: WebhookLimits::from_env(env),
            anomalies: AnomalyConfig::from_env(env),
            audit_at: audit_at(env),
            sweep: Duration::from_secs(env.get_in(
                &["PROCESSING_INTERVAL"],
                5,
                1..=3_600,
                "Seconds between two looks for what processors and webhooks have still to do.",
            )),
            types_a_day: env.get_in(
                &["EVENT_TYPES_PER_DAY"],
                1_000,
                1..=100_000,
                "Event types that a tenant's day is counted by; events of more are counted as other.",
            ),
            search: SearchConfig::from_env(env),
            partitions: Policy::from_env(env, time::Duration::seconds(limits.max_future_seconds)),
        };
        env.finish()?;
        Ok(config)
    }
}
