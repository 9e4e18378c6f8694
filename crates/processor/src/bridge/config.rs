//! The bridge's settings.

mod allow_list;

use std::sync::Arc;
use std::time::Duration;

use config::Env;
use domain::subject;
use eventlog::kafka::{Commit, KafkaConfig, OffsetReset};

use super::breaker::BreakerConfig;
use super::filter::FilterConfig;
use super::profile::owned;
pub use super::profile::{GENESIS_TOPIC, Profile};
use super::transform::TransformConfig;

/// What happens to messages while Redis is given up (C34).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnOpen {
    /// They are dropped and counted, and listeners are told afterwards.
    Drop,
    /// They wait in Kafka.
    Pause,
}

/// Everything the bridge reads from its environment.
#[derive(Debug, Clone)]
pub struct BridgeConfig {
    /// The profile that gave the defaults.
    pub profile: Profile,
    /// Topics consumed, without prefix.
    pub topics: Vec<String>,
    /// Its consumer group, complete.
    pub group_id: String,
    /// Records are worked on in that many places at once.
    pub lanes: usize,
    /// Bytes of records between Kafka and Redis.
    pub buffer_bytes: usize,
    /// When the offsets of what is done are committed (S2-11).
    pub commit: Commit,
    /// Where a group without offsets begins (S2-42).
    pub offset_reset: OffsetReset,
    /// What the filter asks.
    pub filter: FilterConfig,
    /// What a message holds.
    pub transform: TransformConfig,
    /// When Redis is given up.
    pub breaker: BreakerConfig,
    /// What happens then.
    pub on_open: OnOpen,
    /// Lines of S2-63 a second at level INFO; the others are at DEBUG.
    pub logged_per_second: u32,
    /// How often the figures are taken and logged (S2-46).
    pub collect_interval: Duration,
    /// Whether they stand in /metrics too (S2-47).
    pub prometheus: bool,
}

impl BridgeConfig {
    /// Reads it. `topics` are those the processor stores, the default of the generic profile.
    #[must_use]
    pub fn from_env(env: &Env, kafka: &KafkaConfig, topics: &[String]) -> Self {
        let profile = profile(env);
        let topics = env
            .get_opt(
                &["BRIDGE_TOPICS"],
                "Topics of the bridge, by commas. Profile generic: those that are stored; genesis: `genesis.domain.events`.",
            )
            .map_or_else(
                || match profile {
                    Profile::Generic => topics.to_vec(),
                    Profile::Genesis => vec![GENESIS_TOPIC.to_owned()],
                },
                |text| parts(&text),
            );
        let group: String = env.get(
            &["BRIDGE_GROUP_ID"],
            "eventbridge-consumer",
            "Consumer group of the bridge; KAFKA_TOPIC_PREFIX is put before it.",
        );
        Self {
            profile,
            topics,
            group_id: format!("{}{group}", kafka.topic_prefix),
            lanes: env.get_in(
                &["BRIDGE_LANES"],
                2,
                1..=64,
                "Records are worked on in that many places at once.",
            ),
            buffer_bytes: env.get_in(
                &["BRIDGE_BUFFER_BYTES"],
                4 * 1024 * 1024,
                256 * 1024..=1024 * 1024 * 1024,
                "Bytes of records between Kafka and Redis.",
            ),
            commit: commit(env),
            offset_reset: offset_reset(env),
            filter: filter(env, profile),
            transform: transform(env, profile),
            breaker: breaker(env),
            on_open: on_open(env),
            logged_per_second: env.get_in(
                &["BRIDGE_LOG_EVENTS_PER_SECOND"],
                20,
                0..=1_000_000,
                "Published events a second that are logged at INFO; the others are at DEBUG (target `eventbridge`).",
            ),
            collect_interval: Duration::from_secs(env.get_in(
                &["BRIDGE_COLLECT_INTERVAL_SECONDS"],
                30,
                1..=3_600,
                "How often the bridge's rates are taken anew and logged.",
            )),
            prometheus: env.get_bool(
                &["BRIDGE_PROMETHEUS_ENABLED"],
                true,
                "Whether /metrics has the bridge's metrics.",
            ),
        }
    }

    /// What its consumer has besides: a group of its own, and its own rules about offsets.
    #[must_use]
    pub fn consumer(&self, kafka: &KafkaConfig) -> KafkaConfig {
        KafkaConfig {
            group_id: self.group_id.clone(),
            commit: self.commit,
            offset_reset: self.offset_reset,
            ..kafka.clone()
        }
    }

    /// The full names of its topics.
    #[must_use]
    pub fn topic_names(&self, kafka: &KafkaConfig) -> Vec<Arc<str>> {
        self.topics.iter().map(|name| kafka.topic(name)).collect()
    }
}

/// The topics that are stored: the specification's four and the configured ones.
#[must_use]
pub fn stored_topics(domain_topics: &[String]) -> Vec<String> {
    let mut topics = owned(&subject::EVENT_TOPICS);
    topics.extend(domain_topics.iter().cloned());
    topics
}

fn profile(env: &Env) -> Profile {
    word(
        env,
        "BRIDGE_PROFILE",
        [("generic", Profile::Generic), ("genesis", Profile::Genesis)],
        "Defaults of the bridge's rules: generic (every type, any id) or genesis (the specification's).",
    )
}

fn on_open(env: &Env) -> OnOpen {
    word(
        env,
        "BRIDGE_ON_OPEN",
        [("drop", OnOpen::Drop), ("pause", OnOpen::Pause)],
        "While Redis is down: drop messages (listeners are told afterwards) or pause.",
    )
}

fn offset_reset(env: &Env) -> OffsetReset {
    word(
        env,
        "BRIDGE_AUTO_OFFSET_RESET",
        [
            ("earliest", OffsetReset::Earliest),
            ("latest", OffsetReset::Latest),
        ],
        "Where the bridge begins while its group has no offsets, as at its first start: earliest (all that is retained is pushed) or latest.",
    )
}

/// One of two words, the first of which is the default.
fn word<T: Copy>(env: &Env, name: &'static str, words: [(&str, T); 2], doc: &str) -> T {
    let [(default, value), (other, other_value)] = words;
    let text: String = env.get(&[name], default, doc);
    if text == other {
        return other_value;
    }
    if text != default {
        env.complain(name, &text, &format!("{default} or {other}"));
    }
    value
}

fn commit(env: &Env) -> Commit {
    Commit {
        records: Some(env.get_in(
            &["BRIDGE_COMMIT_RECORDS"],
            100,
            1..=1_000_000,
            "Records done, filtered ones included, after which the bridge commits its offsets.",
        )),
        interval: Duration::from_secs(env.get_in(
            &["BRIDGE_COMMIT_INTERVAL_SECONDS"],
            5,
            1..=3_600,
            "The same after so many seconds, whichever comes first; at a stop always.",
        )),
    }
}

fn filter(env: &Env, profile: Profile) -> FilterConfig {
    let own = profile.filter();
    FilterConfig {
        required: list(
            env,
            "BRIDGE_REQUIRED_FIELDS",
            own.required,
            "Fields an event must have, by commas, or `none`. Generic: event_type; genesis: event_id, event_type, aggregate_id, payload.",
        ),
        type_prefixes: list(
            env,
            "BRIDGE_TYPE_PREFIXES",
            own.type_prefixes,
            "What an event type may begin with, by commas, or `none`. Genesis: `Genesis.Session.`.",
        ),
        allowed: allow_list::from_env(env, own.allowed),
        uuids: list(
            env,
            "BRIDGE_UUID_FIELDS",
            own.uuids,
            "Fields that must be UUIDs where given, by commas, or `none`. Generic: event_id. Genesis: event_id, aggregate_id, user_id, session_id, correlation_id.",
        ),
        payload_timestamp: own.payload_timestamp,
    }
}

fn transform(env: &Env, profile: Profile) -> TransformConfig {
    let default = TransformConfig::default();
    let pass_through = list(
        env,
        "BRIDGE_PASS_THROUGH",
        profile.pass_through(),
        "Fields passed on beside the payload, by commas, or `none`. Generic: correlation_id; genesis: correlation_id, novel_id, trace_id.",
    );
    for name in &pass_through {
        if TransformConfig::OWN.contains(&name.as_str()) {
            env.complain(
                "BRIDGE_PASS_THROUGH",
                name,
                "a field that no message has yet",
            );
        }
    }
    TransformConfig {
        pass_through,
        internal: list(
            env,
            "BRIDGE_INTERNAL_FIELDS",
            default.internal,
            "Fields left out of the payload, by commas, or `none`, besides those that begin with `internal_`. Default: user_id, session_id, timestamp, novel_id.",
        ),
        max_bytes: env.get_in(
            &["BRIDGE_MAX_MESSAGE_BYTES"],
            default.max_bytes,
            256..=8 * 1024 * 1024,
            "Bytes of one message; larger ones are dropped and counted.",
        ),
    }
}

fn breaker(env: &Env) -> BreakerConfig {
    let default = BreakerConfig::default();
    BreakerConfig {
        failure_threshold: env.get_in(
            &["BREAKER_FAILURE_THRESHOLD"],
            default.failure_threshold,
            1..=1_000_000,
            "Failures of Redis within the window that open the breaker.",
        ),
        failure_rate: env.get_in(
            &["BREAKER_FAILURE_RATE"],
            default.failure_rate,
            0.01..=1.0,
            "Share of failed attempts within the window that opens it too.",
        ),
        min_samples: env.get_in(
            &["BREAKER_MIN_SAMPLES"],
            default.min_samples,
            1..=1_000_000,
            "Attempts within the window before that share counts.",
        ),
        window: Duration::from_secs(env.get_in(
            &["BREAKER_WINDOW_SECONDS"],
            default.window.as_secs(),
            1..=3_600,
            "Seconds an outcome counts.",
        )),
        recovery_timeout: Duration::from_secs(env.get_in(
            &["BREAKER_RECOVERY_TIMEOUT"],
            default.recovery_timeout.as_secs(),
            1..=3_600,
            "Seconds until an open breaker is tried again.",
        )),
    }
}

/// A list with a default of the profile's; `none` empties it.
fn list(env: &Env, name: &'static str, default: Vec<String>, doc: &str) -> Vec<String> {
    match env.get_opt(&[name], doc) {
        None => default,
        Some(text) if text.eq_ignore_ascii_case("none") => vec![],
        Some(text) => parts(&text),
    }
}

fn parts(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn read(values: &[(&str, &str)]) -> (Env, BridgeConfig) {
        let owned = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        let env = Env::from_map(values.iter().map(owned).collect::<HashMap<_, _>>());
        let kafka = KafkaConfig {
            topic_prefix: "p.".to_owned(),
            ..KafkaConfig::default()
        };
        let config = BridgeConfig::from_env(&env, &kafka, &stored_topics(&["orders".to_owned()]));
        (env, config)
    }

    #[test]
    fn a_profile_is_a_set_of_defaults() {
        let (env, generic) = read(&[]);
        assert_eq!(env.finish(), Ok(()));
        assert_eq!(generic.topics.len(), 5);
        let consumer = generic.consumer(&KafkaConfig::default());
        assert_eq!(consumer.group_id, "p.eventbridge-consumer");
        let Commit { records, interval } = consumer.commit;
        assert_eq!((records, interval.as_secs()), (Some(100), 5));
        assert_eq!(consumer.offset_reset, OffsetReset::Earliest);
        assert!(generic.filter.allowed.is_none());

        let (env, genesis) = read(&[("BRIDGE_PROFILE", "genesis")]);
        assert_eq!(env.finish(), Ok(()));
        assert_eq!(genesis.topics, [GENESIS_TOPIC]);
        assert_eq!(genesis.filter.allowed.unwrap().len(), 4);

        let (env, changed) = read(&[
            ("BRIDGE_PROFILE", "genesis"),
            ("BRIDGE_TOPICS", "a, b"),
            ("BRIDGE_UUID_FIELDS", "none"),
            ("BRIDGE_MORE_ALLOWED_TYPES", "^New$"),
            ("BRIDGE_AUTO_OFFSET_RESET", "latest"),
        ]);
        assert_eq!(env.finish(), Ok(()));
        assert_eq!(changed.offset_reset, OffsetReset::Latest);
        assert_eq!(changed.topics, ["a", "b"]);
        assert!(changed.filter.uuids.is_empty());
        let allowed = changed.filter.allowed.unwrap();
        assert!(allowed.is_match("New") && allowed.is_match("Genesis.Session.Started"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let (env, _) = read(&[
            ("BRIDGE_ALLOWED_TYPES", "^fine$,^(broken$"),
            ("BRIDGE_MORE_ALLOWED_TYPES", "*"),
            ("BRIDGE_PROFILE", "other"),
            ("BRIDGE_ON_OPEN", "stop"),
            ("BRIDGE_AUTO_OFFSET_RESET", "newest"),
            ("BRIDGE_COMMIT_RECORDS", "0"),
            ("BRIDGE_COMMIT_INTERVAL_SECONDS", "0"),
            ("BRIDGE_PASS_THROUGH", "payload"),
            ("BREAKER_FAILURE_RATE", "2"),
        ]);
        let text = env.finish().unwrap_err().to_string();
        for part in [
            "BRIDGE_ALLOWED_TYPES=\"^(broken$\": expected a regular expression (error: unclosed group",
            "BRIDGE_MORE_ALLOWED_TYPES=\"*\"",
            "BRIDGE_PROFILE=\"other\": expected generic or genesis",
            "BRIDGE_ON_OPEN=\"stop\": expected drop or pause",
            "BRIDGE_AUTO_OFFSET_RESET=\"newest\": expected earliest or latest",
            "BRIDGE_COMMIT_RECORDS=\"0\"",
            "BRIDGE_COMMIT_INTERVAL_SECONDS=\"0\"",
            "BRIDGE_PASS_THROUGH=\"payload\"",
            "BREAKER_FAILURE_RATE=\"2\"",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
