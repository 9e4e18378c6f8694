//! A service, and the channels it subscribes to.

use std::collections::HashMap;
use std::time::Duration;

use config::Env;
use domain::TenantId;
use live::redis::{RedisChannels, RedisConfig};
use live::{Channel, Channels, Message, Outcome, Publication, StreamId};
use testkit::{LIMIT, Parts, SseEvent, SseStream, TestService, eventually};
use uuid::Uuid;

use crate::world::{Answer, World};

/// A service with channels of its own, and the other end of them.
pub(crate) struct Live {
    pub(crate) world: World,
    channels: RedisChannels,
}

impl Live {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Settings of the channels are the publisher's too.
    pub(crate) async fn start_with(env: &[(&str, &str)]) -> Self {
        Self::start_on(&Parts::shared().await, env).await
    }

    /// With the Redis of these parts.
    pub(crate) async fn start_on(parts: &Parts, env: &[(&str, &str)]) -> Self {
        let prefix = format!("test:{}:", testkit::topic_prefix());
        let mut env = env.to_vec();
        env.push(("REDIS_URL", parts.redis_url.as_str()));
        env.push(("SSE_PREFIX", prefix.as_str()));
        let values: HashMap<_, _> = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        // This end waits: what is published again after a time-out might be there twice.
        let config = RedisConfig {
            timeout: Duration::from_secs(20),
            ..RedisConfig::from_env(&Env::from_map(values))
        };
        Self {
            world: World::start_with(&env).await,
            channels: RedisChannels::new(config).unwrap(),
        }
    }

    pub(crate) fn service(&self) -> &TestService {
        &self.world.service
    }

    /// The address of a user's stream.
    pub(crate) fn url(&self, user_and_query: &str) -> String {
        let path = format!("/api/v1/sse/users/{user_and_query}");
        self.service().url(&path)
    }

    pub(crate) async fn get(&self, user_and_query: &str) -> Answer {
        let path = format!("/api/v1/sse/users/{user_and_query}");
        self.world.get(&path).await
    }

    /// A stream that has begun: what is published from now on reaches it.
    pub(crate) async fn listen(&self, user_and_query: &str) -> SseStream {
        let mut stream = self.open(user_and_query, None).await;
        wait("it begins", stream.wait_cursor()).await.unwrap();
        stream
    }

    pub(crate) async fn open(&self, user_and_query: &str, last: Option<&str>) -> SseStream {
        SseStream::open(&self.url(user_and_query), last)
            .await
            .unwrap()
    }

    /// Publishes messages of these types, with the text as data; returns their ids.
    pub(crate) async fn publish_all(&self, user: &str, messages: &[(&str, String)]) -> Vec<String> {
        let publications: Vec<_> = messages
            .iter()
            .map(|(event, data)| Publication {
                channel: Channel::new(TenantId::default(), user),
                event_id: Uuid::new_v4(),
                message: Message {
                    event: (*event).to_owned(),
                    data: data.clone().into(),
                },
                position: None,
            })
            .collect();
        let outcomes = eventually("Redis takes it", LIMIT, || {
            self.channels.publish(&publications)
        })
        .await;
        let id = |outcome: &Outcome| match outcome {
            Outcome::Published(id) => id.to_string(),
            other => panic!("{other:?}"),
        };
        outcomes.iter().map(id).collect()
    }

    pub(crate) async fn publish(&self, user: &str, event: &str, data: &str) -> String {
        let message = (event, data.to_owned());
        self.publish_all(user, &[message]).await.remove(0)
    }

    pub(crate) async fn mark_gap(&self) -> StreamId {
        self.channels.mark_gap().await.unwrap()
    }

    /// The value of a metric, labels and all as it stands on the page.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let page = self.world.request("GET", "/metrics").send().await.unwrap();
        let page = page.text().await.unwrap();
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {page}"))
            .parse()
            .unwrap()
    }

    pub(crate) async fn wait_metric(&self, name: &str, expected: f64) {
        testkit::eventually_eq(name, expected, || async { Ok(self.metric(name).await) }).await;
    }
}

/// What ought to happen within a limit.
pub(crate) async fn wait<T>(what: &str, happens: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, happens)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {LIMIT:?}"))
}

pub(crate) async fn next(stream: &mut SseStream) -> SseEvent {
    let event = wait("a message", stream.next()).await.unwrap();
    event.unwrap_or_else(|| panic!("the stream has ended"))
}

/// Name, id and data of the next message.
pub(crate) async fn next_parts(stream: &mut SseStream) -> (String, String, String) {
    let SseEvent { event, id, data } = next(stream).await;
    (event, id, data)
}

/// Asserts that the next message is a reset, and returns its reason.
pub(crate) async fn next_reset(stream: &mut SseStream) -> String {
    let event = next(stream).await;
    assert_eq!(event.event, "reset", "{event:?}");
    let data: serde_json::Value = serde_json::from_str(&event.data).unwrap();
    data["reason"].as_str().unwrap().to_owned()
}

/// Reads until that holds; no message may come.
pub(crate) async fn silent_until(stream: &mut SseStream, holds: impl Fn(&SseStream) -> bool) {
    while !holds(stream) {
        let message = tokio::time::timeout(Duration::from_millis(50), stream.next()).await;
        assert!(message.is_err(), "{message:?}");
    }
}
