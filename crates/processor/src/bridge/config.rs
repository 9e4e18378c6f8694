//! The bridge's settings.

use std::sync::Arc;
use std::time::Duration;

use config::Env;
use domain::personal::PersonalData;
use domain::subject;
use eventlog::kafka::{Commit, KafkaConfig, OffsetReset};

use super::breaker::BreakerConfig;
use super::filter::FilterConfig;
use super::profile::{GENESIS_TOPIC, Profile, split};
use super::transform::TransformConfig;
use crate::tenant_topics::TenantTopics;

/// Everything the bridge reads from its environment.
#[derive(Debug, Clone)]
pub struct BridgeConfig {
    /// The profile that gave the defaults.
    pub profile: Profile,
    /// Topics consumed, without prefix.
    pub topics: Vec<String>,
    /// Whose records are believed the tenant they name; the same where events are stored.
    pub tenants: TenantTopics,
    /// What is done with personal data; the same where events are stored.
    pub personal: Arc<PersonalData>,
    /// Its consumer group, with prefix.
    pub group_id: String,
    /// Workers that publish side by side.
    pub workers: usize,
    /// Bytes of records between Kafka and Redis.
    pub buffer_bytes: usize,
    /// How long a broker may hold a fetch; zero: until the first record is there.
    pub fetch_wait: Duration,
    /// When the offsets of what is done are committed (S2-11).
    pub commit: Commit,
    /// Where a group without offsets begins (S2-42).
    pub offset_reset: OffsetReset,
    /// Which events pass.
    pub filter: FilterConfig,
    /// What a message holds.
    pub transform: TransformConfig,
    /// When publishing pauses.
    pub breaker: BreakerConfig,
    /// How often the rates are computed and logged (S2-46).
    pub collect_interval: Duration,
    /// Whether /metrics has the bridge's metrics (S2-47).
    pub prometheus: bool,
}

impl BridgeConfig {
    /// Reads the settings. `topics` are those the processor stores, the default of the generic profile.
    #[must_use]
    pub fn from_env(env: &Env, kafka: &KafkaConfig, topics: &[String]) -> Self {
        let profile = Profile::from_env(env);
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
                |text| split(&text),
            );
        let group: String = env.get(
            &["BRIDGE_GROUP_ID"],
            "eventbridge-consumer",
            "Consumer group of the bridge; KAFKA_TOPIC_PREFIX is put before it.",
        );
        Self {
            profile,
            topics,
            tenants: TenantTopics::from_env(env),
            personal: service::personal_data::from_env(env),
            group_id: format!("{}{group}", kafka.topic_prefix),
            workers: env.get_in(
                &["BRIDGE_WORKERS"],
                2,
                1..=64,
                "Workers that publish side by side, each with partitions of its own.",
            ),
            buffer_bytes: env.get_in(
                &["BRIDGE_BUFFER_BYTES"],
                4 * 1024 * 1024,
                256 * 1024..=1024 * 1024 * 1024,
                "Bytes of records between Kafka and Redis.",
            ),
            fetch_wait: Duration::from_millis(env.get_in(
                &["BRIDGE_FETCH_WAIT_MS"],
                3,
                0..=500,
                "Milliseconds for which a broker may hold a fetch of the bridge, so that events share one; 0: a fetch is answered at the first event, and costs nothing while none comes.",
            )),
            commit: Commit {
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
            },
            offset_reset: env.get_one_of(
                "BRIDGE_AUTO_OFFSET_RESET",
                [
                    ("earliest", OffsetReset::Earliest),
                    ("latest", OffsetReset::Latest),
                ],
                "Where the bridge begins while its group has no offsets, as at its first start: earliest (all that is retained is pushed) or latest.",
            ),
            filter: FilterConfig::from_env(env, profile),
            transform: TransformConfig::from_env(env, profile),
            breaker: BreakerConfig::from_env(env),
            collect_interval: Duration::from_secs(env.get_in(
                &["BRIDGE_COLLECT_INTERVAL_SECONDS"],
                30,
                1..=3_600,
                "How often the bridge's rates are computed and logged.",
            )),
            prometheus: env.get_bool(
                &["BRIDGE_PROMETHEUS_ENABLED"],
                true,
                "Whether /metrics has the bridge's metrics.",
            ),
        }
    }

    /// The settings of the bridge's consumer: a group and rules about offsets of its own.
    #[must_use]
    pub fn consumer(&self, kafka: &KafkaConfig) -> KafkaConfig {
        KafkaConfig {
            group_id: self.group_id.clone(),
            commit: self.commit,
            offset_reset: self.offset_reset,
            fetch_wait: self.fetch_wait,
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
    let fixed = subject::EVENT_TOPICS.iter().map(ToString::to_string);
    fixed.chain(domain_topics.iter().cloned()).collect()
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
