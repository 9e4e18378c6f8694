//! Erases users: their events with all that hangs on them, what else names them, and their live channels;
//! then says in the receipt what remains elsewhere, and until when.

use std::sync::Arc;
use std::time::Duration;

use domain::fold::Extensions;
use domain::{subject, timestamp};
use eventlog::kafka::topics::TopicRetention;
use eventlog::kafka::{KafkaConfig, topics};
use live::{Channel, Channels};
use serde_json::{Value, json};
use store::erasures::{self, Erasure, Left};
use store::pool::Connection;
use store::projections::refold_late;
use store::{Database, Error};
use tokio::time::Instant;
use uuid::Uuid;

/// How often it is looked for something to do.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The pause after a failure.
const RETRY: Duration = Duration::from_secs(2);
/// The pause before it is looked again whether what is waited for has come.
const AGAIN: Duration = Duration::from_millis(200);

/// How long it counts what Kafka said of its topics: asking takes longer than erasing a user.
const RETENTION_KNOWN_FOR: Duration = Duration::from_secs(10);

/// The task that erases, one user after the other.
pub(crate) struct Erasures {
    pub(crate) db: Database,
    pub(crate) extensions: Arc<Extensions>,
    /// Where users listen; none if this process cannot reach that.
    pub(crate) channels: Option<Arc<dyn Channels>>,
    /// Kafka, and the topics that the processor reads and writes, without the deployment's prefix.
    pub(crate) kafka: Option<(KafkaConfig, Vec<String>)>,
    pub(crate) owner: Uuid,
    /// What Kafka said last of its topics.
    pub(crate) retention: Option<KnownRetention>,
}

/// How long topics keep records, for erasures that follow one another.
pub(crate) struct KnownRetention {
    at: Instant,
    topics: Vec<Arc<str>>,
    keeps: Vec<TopicRetention>,
}

/// What keeps an erasure from going on.
enum Stopped {
    /// For the moment: a sentence.
    Later(String),
    /// Another processor has it.
    Lost,
    /// The database.
    Store(Error),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl Erasures {
    /// Erases the users that are to be erased, until dropped. What it had begun another goes on with.
    pub(crate) async fn run(mut self) {
        loop {
            if let Err(error) = self.connected().await {
                tracing::debug!(%error, "no erasures now");
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn connected(&mut self) -> Result<(), Error> {
        let mut client = self.db.connect().await?;
        loop {
            let Some(mut erasure) = erasures::claim(&client, self.owner).await? else {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            };
            loop {
                match self.erase(&mut client, &mut erasure).await {
                    Ok(()) => {
                        let rows: u64 = erasure.places.values().sum();
                        tracing::info!(erasure = %erasure.id, tenant = %erasure.tenant, rows, "a user is erased");
                    }
                    Err(Stopped::Lost) => {}
                    Err(Stopped::Later(problem)) => {
                        erasures::wait(&client, self.owner, &erasure, &problem).await?;
                        tokio::time::sleep(AGAIN).await;
                        continue;
                    }
                    Err(Stopped::Store(error)) => {
                        tracing::warn!(erasure = %erasure.id, %error, "a user is not erased yet, it will be tried again");
                        let problem = error.to_string();
                        erasures::wait(&client, self.owner, &erasure, &problem).await?;
                        return Err(error);
                    }
                }
                break;
            }
        }
    }

    /// Every step finds out by itself what is left of it, so it is begun again, whatever ended it.
    async fn erase(&mut self, client: &mut Connection, of: &mut Erasure) -> Result<(), Stopped> {
        let channel = Channel::new(of.tenant.clone(), of.user());
        loop {
            let page = erasures::events(client, self.owner, of).await?;
            let ids = page.ok_or(Stopped::Lost)?;
            if ids.is_empty() {
                break;
            }
            self.silence(&channel, &ids, of).await?;
        }
        if erasures::log_waits(client, of).await? {
            let problem =
                "records that were accepted before wait in the PostgreSQL log for their turn";
            return Err(Stopped::Later(problem.to_owned()));
        }
        if !erasures::remains(client, self.owner, of).await? {
            return Err(Stopped::Lost);
        }
        while refold_late(client, &self.extensions).await? > 0 {}
        self.silence(&channel, &[], of).await?;
        let kafka = self.kafka(client, of).await?;
        let Left {
            subscriptions,
            projections,
        } = erasures::left(client, of).await?;
        of.remains = json!({
            "kafka": kafka, "subscriptions": subscriptions, "projections": projections,
            "live_reached": self.channels.is_some(),
        });
        if erasures::complete(client, self.owner, of).await? {
            Ok(())
        } else {
            Err(Stopped::Lost)
        }
    }

    /// Removes what the user's live channel keeps.
    async fn silence(
        &self,
        channel: &Channel,
        ids: &[Uuid],
        of: &mut Erasure,
    ) -> Result<(), Stopped> {
        let Some(channels) = &self.channels else {
            return Ok(());
        };
        match channels.erase(channel, ids).await {
            Ok(messages) => {
                of.add("live", messages);
                Ok(())
            }
            Err(error) => Err(Stopped::Later(format!("the live channels: {error}"))),
        }
    }

    /// The topics in which records of the user can still lie, and when they are gone from there.
    async fn kafka(&mut self, client: &Connection, of: &Erasure) -> Result<Vec<Value>, Stopped> {
        let Some((config, topics)) = &self.kafka else {
            return Ok(vec![]);
        };
        let (services, forwarded) = erasures::handed_to(client, &of.tenant).await?;
        let services = services
            .iter()
            .map(|service| subject::replay_topic(service));
        let mut names: Vec<String> = topics.to_vec();
        names.extend(services.chain(forwarded));
        names.sort();
        names.dedup();
        let full: Vec<_> = names.iter().map(|name| config.topic(name)).collect();
        let is_known = |retention: &KnownRetention| {
            retention.at.elapsed() < RETENTION_KNOWN_FOR && retention.topics == full
        };
        if !self.retention.as_ref().is_some_and(is_known) {
            let keeps = topics::retention(config, &full).await;
            let keeps = keeps.map_err(|error| {
                Stopped::Later(format!(
                    "Kafka does not say how long topics keep records: {error}"
                ))
            })?;
            self.retention = Some(KnownRetention {
                at: Instant::now(),
                topics: full,
                keeps,
            });
        }
        let topic = |one: &TopicRetention| {
            let gone_by = one.keeps.map(|keeps| timestamp::format(of.until + keeps));
            json!({"topic": one.topic, "gone_by": gone_by})
        };
        let keeps = self.retention.iter().flat_map(|retention| &retention.keeps);
        Ok(keeps.map(topic).collect())
    }
}
