//! Creating the topics that are missing, and how long they keep records.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::config::KafkaConfig;

/// How long one request to Kafka may take.
const REQUEST: Duration = Duration::from_secs(5);

const BACKOFF: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(50))
    .with_max_delay(Duration::from_secs(2))
    .without_max_times();

/// A topic this service needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// Full name, prefix included ([`KafkaConfig::topic`]).
    pub name: Arc<str>,
    /// Partitions if it has to be created.
    pub partitions: i32,
    /// Topic settings if it has to be created, such as `retention.ms`.
    pub settings: Vec<(String, String)>,
}

impl TopicSpec {
    /// The topic `prefix + name` with the configured partitions and record size.
    pub fn new(config: &KafkaConfig, name: &str) -> Self {
        Self {
            name: config.topic(name),
            partitions: config.partitions,
            settings: vec![(
                "max.message.bytes".to_owned(),
                config.max_message_bytes.to_string(),
            )],
        }
    }
}

/// Why the topics are not there.
#[derive(Debug, thiserror::Error)]
pub enum EnsureError {
    /// Kafka did not answer, or a topic got no leader, before the time was up.
    #[error("the topics are not ready after {waited:?}: {last}")]
    Timeout {
        /// How long it was tried.
        waited: Duration,
        /// What went wrong last.
        last: String,
    },
    /// Kafka refused for a reason that waiting does not change.
    #[error("cannot create topic {topic}: {code}")]
    Refused {
        /// Full name of the topic.
        topic: String,
        /// Kafka's error code.
        code: RDKafkaErrorCode,
    },
    /// librdkafka refused the settings.
    #[error("cannot create the Kafka admin client: {0}")]
    Client(KafkaError),
}

/// Creates what is missing and waits until every partition has a leader, retrying while Kafka is
/// down. A topic that exists is left as it is; another partition count than asked for is logged.
///
/// # Errors
/// [`EnsureError::Refused`] at once when Kafka forbids or rejects a topic, [`EnsureError::Timeout`]
/// when `timeout` passed first.
pub async fn ensure(
    config: &KafkaConfig,
    topics: &[TopicSpec],
    timeout: Duration,
) -> Result<(), EnsureError> {
    let admin: Admin = config.admin().create().map_err(EnsureError::Client)?;
    let admin = Arc::new(admin);
    let topics: Arc<[TopicSpec]> = topics.into();
    let started = Instant::now();
    let mut backoff = BACKOFF.build();
    loop {
        let last = match missing(&admin, &topics).await {
            Ok(missing) if missing.is_empty() => return Ok(()),
            Ok(missing) => match create(&admin, config, missing).await? {
                None => "waiting for partition leaders".to_owned(),
                Some(error) => error,
            },
            Err(error) => error,
        };
        let pause = backoff.next().unwrap_or(timeout);
        if started.elapsed() + pause >= timeout {
            return Err(EnsureError::Timeout {
                waited: started.elapsed(),
                last,
            });
        }
        tracing::debug!(last, "topics not ready, trying again");
        tokio::time::sleep(pause).await;
    }
}

/// For how long a topic keeps records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRetention {
    /// Full name.
    pub topic: String,
    /// The longest that a record stays; `None` is for ever (no `retention.ms`, or a compacted topic).
    pub keeps: Option<Duration>,
}

/// How long these topics keep records, of those that there are. A record stays until its segment is closed
/// (`segment.ms`), the newest record of that is too old (`retention.ms`), and the broker has looked.
///
/// # Errors
/// Kafka does not answer, or does not tell: a sentence.
pub async fn retention(
    config: &KafkaConfig,
    topics: &[Arc<str>],
) -> Result<Vec<TopicRetention>, String> {
    /// Between two looks of the broker, and until it removes a file that it has marked.
    const LOOKS: u64 = 6 * 60_000;
    let admin: Admin = config.admin().create().map_err(|e| e.to_string())?;
    let asked: Vec<_> = topics
        .iter()
        .map(|name| ResourceSpecifier::Topic(name))
        .collect();
    let options = AdminOptions::new().request_timeout(Some(REQUEST));
    let described = admin.describe_configs(&asked, &options).await;
    let mut found = vec![];
    for (name, resource) in topics
        .iter()
        .zip(described.map_err(|error| error.to_string())?)
    {
        let resource = match resource {
            Ok(resource) => resource,
            Err(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                continue;
            }
            Err(code) => return Err(format!("{name}: {code}")),
        };
        let setting = |name: &str| resource.get(name).and_then(|entry| entry.value.clone());
        let ms = |name: &str| setting(name).and_then(|value| value.parse::<u64>().ok());
        let is_compacted =
            setting("cleanup.policy").is_some_and(|policy| policy.contains("compact"));
        let keeps = ms("retention.ms").filter(|_| !is_compacted);
        let keeps = keeps.map(|kept| kept.saturating_add(ms("segment.ms").unwrap_or(0)));
        found.push(TopicRetention {
            topic: name.to_string(),
            keeps: keeps.map(|kept| Duration::from_millis(kept.saturating_add(LOOKS))),
        });
    }
    Ok(found)
}

type Admin = AdminClient<DefaultClientContext>;

/// The topics that do not exist or have a partition without a leader.
async fn missing(admin: &Arc<Admin>, topics: &Arc<[TopicSpec]>) -> Result<Vec<TopicSpec>, String> {
    let (admin, topics) = (Arc::clone(admin), Arc::clone(topics));
    let look = move || {
        // All topics in one answer: asking for one by name would make librdkafka remember it as
        // unknown for a while.
        let metadata = admin
            .inner()
            .fetch_metadata(None, REQUEST)
            .map_err(|error| error.to_string())?;
        let ready = |spec: &TopicSpec| {
            let found = metadata
                .topics()
                .iter()
                .find(|topic| topic.name() == &*spec.name);
            found.is_some_and(|topic| {
                let count = topic.partitions().len();
                if count != 0 && count != spec.partitions as usize {
                    tracing::warn!(
                        topic = &*spec.name,
                        partitions = count,
                        configured = spec.partitions,
                        "the topic exists with another number of partitions",
                    );
                }
                topic.error().is_none()
                    && count > 0
                    && topic
                        .partitions()
                        .iter()
                        .all(|partition| partition.leader() >= 0)
            })
        };
        Ok(topics.iter().filter(|spec| !ready(spec)).cloned().collect())
    };
    tokio::task::spawn_blocking(look)
        .await
        .map_err(|error| error.to_string())?
}

/// Creates the topics; `Some` is a reason to try again.
async fn create(
    admin: &Admin,
    config: &KafkaConfig,
    topics: Vec<TopicSpec>,
) -> Result<Option<String>, EnsureError> {
    let new = topics.iter().map(|spec| {
        let topic = NewTopic::new(
            &spec.name,
            spec.partitions,
            TopicReplication::Fixed(config.replication_factor),
        );
        spec.settings
            .iter()
            .fold(topic, |topic, (name, value)| topic.set(name, value))
    });
    let new: Vec<_> = new.collect();
    let options = AdminOptions::new()
        .request_timeout(Some(REQUEST))
        .operation_timeout(Some(REQUEST));
    let results = match admin.create_topics(&new, &options).await {
        Ok(results) => results,
        Err(error) => return Ok(Some(error.to_string())),
    };
    let mut again = None;
    for result in results {
        match result {
            Ok(topic) => tracing::info!(topic, "created kafka topic"),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) if refused(code) => {
                return Err(EnsureError::Refused { topic, code });
            }
            Err((topic, code)) => again = Some(format!("{topic}: {code}")),
        }
    }
    Ok(again)
}

fn refused(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::InvalidTopic
            | Code::InvalidPartitions
            | Code::InvalidConfig
            | Code::InvalidRequest
            | Code::PolicyViolation
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
    )
}
