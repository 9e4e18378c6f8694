//! The bridge's settings.

use std::sync::Arc;
use std::time::Duration;

use domain::subject;
use eventlog::kafka::KafkaConfig;
use regex::{Regex, RegexSet};
use service::Env;

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
    const NAME: &str = "BRIDGE_PROFILE";
    let text: String = env.get(
        &[NAME],
        "generic",
        "Defaults of the bridge's rules: generic (every type, any id) or genesis (the specification's).",
    );
    match text.as_str() {
        "generic" => Profile::Generic,
        "genesis" => Profile::Genesis,
        _ => {
            env.complain(NAME, &text, "generic or genesis");
            Profile::Generic
        }
    }
}

fn on_open(env: &Env) -> OnOpen {
    const NAME: &str = "BRIDGE_ON_OPEN";
    let text: String = env.get(
        &[NAME],
        "drop",
        "While Redis is down: drop messages (listeners are told afterwards) or pause.",
    );
    match text.as_str() {
        "drop" => OnOpen::Drop,
        "pause" => OnOpen::Pause,
        _ => {
            env.complain(NAME, &text, "drop or pause");
            OnOpen::Drop
        }
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
        allowed: allowed(env, own.allowed),
        uuids: list(
            env,
            "BRIDGE_UUID_FIELDS",
            own.uuids,
            "Fields that must be UUIDs where given, by commas, or `none`. Generic: event_id. Genesis: event_id, aggregate_id, user_id, session_id, correlation_id.",
        ),
        payload_timestamp: own.payload_timestamp,
    }
}

fn allowed(env: &Env, own: Option<RegexSet>) -> Option<RegexSet> {
    let only = env.get_opt(
        &["BRIDGE_ALLOWED_TYPES"],
        "Regular expressions of the event types that are published, by commas or line breaks; replaces the profile's.",
    );
    let more = env.get_opt(
        &["BRIDGE_MORE_ALLOWED_TYPES"],
        "More such expressions, added to the others; without others every type is published anyway.",
    );
    let patterns = match &only {
        Some(text) => parsed(env, "BRIDGE_ALLOWED_TYPES", text),
        None => own?.patterns().to_vec(),
    };
    let more = more.map_or_else(Vec::new, |text| {
        parsed(env, "BRIDGE_MORE_ALLOWED_TYPES", &text)
    });
    // Each has been compiled alone; together they may still be too large.
    match RegexSet::new(patterns.iter().chain(&more)) {
        Ok(set) => Some(set),
        Err(error) => {
            env.complain(
                "BRIDGE_ALLOWED_TYPES",
                &patterns.join(","),
                &format!("fewer or smaller expressions ({error})"),
            );
            None
        }
    }
}

/// The patterns that are expressions; of the others the environment is told.
fn parsed(env: &Env, name: &str, text: &str) -> Vec<String> {
    let mut patterns = split(text);
    patterns.retain(|pattern| match Regex::new(pattern) {
        Ok(_) => true,
        Err(error) => {
            // The last line says what is wrong; those before it point at the place.
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim().to_owned();
            env.complain(name, pattern, &format!("a regular expression ({reason})"));
            false
        }
    });
    patterns
}

/// By line breaks if there is one, else by the commas outside of brackets.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let lines = text.contains('\n');
    let (mut depth, mut escaped) = (0_usize, false);
    for c in text.chars() {
        let ends = match c {
            '\n' => true,
            ',' => !lines && depth == 0,
            _ => false,
        };
        if ends {
            parts.push(String::new());
            depth = 0;
        } else if let Some(part) = parts.last_mut() {
            part.push(c);
        }
        match c {
            '(' | '[' | '{' if !escaped => depth += 1,
            ')' | ']' | '}' if !escaped => depth = depth.saturating_sub(1),
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    parts
        .into_iter()
        .map(|part| part.trim().to_owned())
        .filter(|part| !part.is_empty())
        .collect()
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
        assert_eq!(generic.group_id, "p.eventbridge-consumer");
        assert_eq!(generic.topics.len(), 5);
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
        ]);
        assert_eq!(env.finish(), Ok(()));
        assert_eq!(changed.topics, ["a", "b"]);
        assert!(changed.filter.uuids.is_empty());
        let allowed = changed.filter.allowed.unwrap();
        assert!(allowed.is_match("New") && allowed.is_match("Genesis.Session.Started"));
    }

    #[test]
    fn patterns_are_split_outside_of_brackets() {
        assert_eq!(split("^a{1,2}$, b[,]\\(,c"), ["^a{1,2}$", "b[,]\\(", "c"]);
        assert_eq!(split("^a,b$\n ^c$ \n"), ["^a,b$", "^c$"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let (env, _) = read(&[
            ("BRIDGE_ALLOWED_TYPES", "^fine$,^(broken$"),
            ("BRIDGE_MORE_ALLOWED_TYPES", "*"),
            ("BRIDGE_PROFILE", "other"),
            ("BRIDGE_ON_OPEN", "stop"),
            ("BRIDGE_PASS_THROUGH", "payload"),
            ("BREAKER_FAILURE_RATE", "2"),
        ]);
        let text = env.finish().unwrap_err().to_string();
        for part in [
            "BRIDGE_ALLOWED_TYPES=\"^(broken$\": expected a regular expression (error: unclosed group",
            "BRIDGE_MORE_ALLOWED_TYPES=\"*\"",
            "BRIDGE_PROFILE=\"other\": expected generic or genesis",
            "BRIDGE_ON_OPEN=\"stop\": expected drop or pause",
            "BRIDGE_PASS_THROUGH=\"payload\"",
            "BREAKER_FAILURE_RATE=\"2\"",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
