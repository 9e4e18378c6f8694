//! Runs replays: hands the selected events to a service once more, on a topic of its own, has processors run
//! with them again, shows them to the users who listen, or has the projections of their entities refolded.
//! Nothing is stored or counted by it, and no live channel keeps anything of it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use domain::fold::Extensions;
use domain::{Event, stream, subject, timestamp};
use eventlog::kafka::{KafkaConfig, TopicSpec, topics};
use eventlog::{Headers, Outgoing, PublishError, Publisher};
use serde_json::{Value, json};
use store::outbox::{Announce, Message, Sinks};
use store::pool::Connection;
use store::projections::{definitions, refold};
use store::replays::{self, Replay};
use store::{Database, Error, replays_to_processors};
use tokio::time::Instant;
use uuid::Uuid;

use crate::bridge::DirectInput;

/// How often it is looked for a replay.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The pause after a failure.
const RETRY: Duration = Duration::from_secs(2);
/// Events handed over together; below a second's worth, so that a pause or a cancel is heard soon.
const SLICE: i64 = 100;
/// How long Kafka may take to acknowledge them.
const WITHIN: Duration = Duration::from_secs(30);
/// How long the topic of a service may take to be made.
const TOPIC: Duration = Duration::from_secs(10);

/// Where events are handed over.
#[derive(Clone)]
pub(crate) struct Kafka {
    /// Its settings.
    pub(crate) config: KafkaConfig,
    /// Publishes.
    pub(crate) producer: Arc<dyn Publisher>,
    /// The topics that the processor reads, by their full names.
    pub(crate) read: Vec<Arc<str>>,
}

/// The task that runs replays, one after the other.
pub(crate) struct Replays {
    pub(crate) db: Database,
    pub(crate) extensions: Arc<Extensions>,
    pub(crate) kafka: Option<Kafka>,
    /// Where listeners are told; none without live channels.
    pub(crate) live: Option<DirectInput>,
    pub(crate) announces: Sinks,
    pub(crate) owner: Uuid,
}

/// What keeps a replay from going on.
enum Stopped {
    /// For good: a sentence.
    Failed(String),
    /// For the moment: a sentence.
    Later(String),
    /// The database.
    Store(Error),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl Replays {
    /// Runs whatever is to be replayed, until dropped. What it had begun another goes on with.
    pub(crate) async fn run(self) {
        loop {
            if let Err(error) = self.connected().await {
                tracing::debug!(%error, "no replays now");
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    fn announce(&self, as_message: fn(&Replay) -> Message) -> Announce<Replay> {
        Announce {
            to: self.announces,
            as_message,
        }
    }

    async fn connected(&self) -> Result<(), Error> {
        let mut client = self.db.connect().await?;
        loop {
            let started = self.announce(started);
            let Some(mut replay) = replays::claim(&mut client, self.owner, started).await? else {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            };
            match self.replay(&mut client, &mut replay).await {
                Ok(()) => {}
                Err(Stopped::Failed(problem)) => {
                    tracing::warn!(replay = %replay.id, problem, "a replay has failed");
                    replays::fail(&client, &replay, &problem).await?;
                }
                Err(Stopped::Later(problem)) => {
                    tracing::warn!(replay = %replay.id, problem, "a replay waits");
                    replay.problem = Some(problem);
                    let completed = self.announce(completed);
                    replays::advance(&mut client, self.owner, &replay, completed).await?;
                    tokio::time::sleep(RETRY).await;
                }
                Err(Stopped::Store(error)) => return Err(error),
            }
        }
    }

    async fn replay(&self, client: &mut Connection, replay: &mut Replay) -> Result<(), Stopped> {
        let topic = match &replay.target_service {
            Some(service) => Some(self.topic(service).await?),
            None => None,
        };
        let completed = self.announce(completed);
        let mut folded = HashSet::new();
        let limit = i64::from(replay.rate).min(SLICE);
        let began = Instant::now();
        let before = replay.done();
        while replay.done() < replay.events {
            let (count, stored) = replays::next(client, replay, limit).await?;
            let events = stored.into_iter().map(|one| one.event);
            let (events, failed) = if topic.is_some() || replay.live {
                self.current(events)
            } else {
                (events.collect(), 0)
            };
            let refused = match (&topic, &self.kafka, &replay.processors) {
                _ if replay.live => self.send_live(replay, &events).await?,
                (Some(topic), Some(kafka), _) => hand_over(kafka, topic, replay, &events).await?,
                (_, _, Some(names)) => {
                    if !replays_to_processors::hand_over(client, replay, names, &events).await? {
                        let problem = "none of these processors is there any more";
                        return Err(Stopped::Failed(problem.to_owned()));
                    }
                    0
                }
                _ => self.fold(client, replay, &events, &mut folded).await?,
            };
            // What is not there any more has failed too.
            let gone = count - i64::try_from(events.len()).unwrap_or(0) - failed;
            replay.failed += failed + refused + gone;
            replay.replayed += count - failed - refused - gone;
            replay.problem = None;
            if count == 0 {
                replay.failed = replay.events - replay.replayed;
            }
            if !replays::advance(client, self.owner, replay, completed).await? {
                return Ok(());
            }
            let done = u32::try_from(replay.done() - before).unwrap_or(u32::MAX);
            let due = Duration::from_secs_f64(f64::from(done) / f64::from(replay.rate));
            tokio::time::sleep_until(began + due).await;
        }
        tracing::info!(replay = %replay.id, events = replay.replayed, failed = replay.failed, "replayed");
        Ok(())
    }

    /// The topic of a service, made if it is not there.
    async fn topic(&self, service: &str) -> Result<Arc<str>, Stopped> {
        let Some(kafka) = &self.kafka else {
            let problem =
                "there is no Kafka here to hand events to a service; replay for projections";
            return Err(Stopped::Failed(problem.to_owned()));
        };
        let name = subject::replay_topic(service);
        let full = kafka.config.topic(&name);
        if kafka.read.contains(&full) {
            let problem = format!("the processor reads {full}: the events would be stored again");
            return Err(Stopped::Failed(problem));
        }
        let spec = TopicSpec::new(&kafka.config, &name);
        let made = topics::ensure(&kafka.config, &[spec], TOPIC).await;
        made.map_err(|error| Stopped::Later(error.to_string()))?;
        Ok(full)
    }

    /// The events in the newest versions of their schemas, and how many cannot be brought there.
    fn current(&self, events: impl Iterator<Item = Event>) -> (Vec<Event>, i64) {
        let (mut current, mut failed) = (vec![], 0);
        for event in events {
            match self.extensions.upcasters.current(&event) {
                Ok(event) => current.push(event.into_owned()),
                Err(problem) => {
                    tracing::warn!(event = %event.event_id, problem, "not replayed");
                    failed += 1;
                }
            }
        }
        (current, failed)
    }

    /// Shows the events to those who listen; returns how many are for no listener.
    async fn send_live(&self, replay: &Replay, events: &[Event]) -> Result<i64, Stopped> {
        let Some(live) = &self.live else {
            let problem = "there are no live channels here: REDIS_URL is not set";
            return Err(Stopped::Failed(problem.to_owned()));
        };
        let sent = live.replay(replay.id, events).await;
        let sent = sent.map_err(|error| Stopped::Later(error.to_string()))?;
        Ok(i64::try_from(events.len() - sent).unwrap_or(0))
    }

    /// Refolds the states of the entities of these events, each once a replay.
    async fn fold(
        &self,
        client: &mut Connection,
        replay: &Replay,
        events: &[Event],
        folded: &mut HashSet<(i64, String)>,
    ) -> Result<i64, Stopped> {
        let wanted = |name: &String| {
            let names = replay.projections.as_ref();
            names.is_none_or(|names| names.contains(name))
        };
        for of in definitions::list(client, Some(&replay.tenant_id)).await? {
            if of.state != "live" || !wanted(&of.definition.name) {
                continue;
            }
            for event in events.iter().filter(|e| of.definition.takes(&e.event_type)) {
                if let Some(entity) = of.definition.entity(event)
                    && folded.insert((of.id, entity.clone()))
                {
                    refold(client, &self.extensions, &of, &entity).await?;
                }
            }
        }
        Ok(0)
    }
}

/// Publishes the events in their order; returns how many Kafka never takes.
async fn hand_over(
    kafka: &Kafka,
    topic: &Arc<str>,
    replay: &Replay,
    events: &[Event],
) -> Result<i64, Stopped> {
    let records: Vec<Outgoing> = (events.iter())
        .map(|event| record(topic, replay, event))
        .collect();
    match acknowledged(kafka, &records).await {
        Ok(()) => return Ok(0),
        Err(PublishError::Full | PublishError::Unavailable) => {
            return Err(Stopped::Later("Kafka does not take events now".to_owned()));
        }
        Err(PublishError::TooLarge | PublishError::Failed(_)) => {}
    }
    // One of them is at fault; the others are handed over, maybe twice.
    let mut failed = 0;
    for record in &records {
        match acknowledged(kafka, std::slice::from_ref(record)).await {
            Ok(()) => {}
            Err(error @ (PublishError::Full | PublishError::Unavailable)) => {
                return Err(Stopped::Later(error.to_string()));
            }
            Err(error) => {
                tracing::warn!(replay = %replay.id, %error, "an event is not replayed");
                failed += 1;
            }
        }
    }
    Ok(failed)
}

async fn acknowledged(kafka: &Kafka, records: &[Outgoing]) -> Result<(), PublishError> {
    let publishing = kafka.producer.publish(records)?;
    let acknowledged = tokio::time::timeout(WITHIN, publishing).await;
    acknowledged.unwrap_or(Err(PublishError::Unavailable))
}

/// The event as it was stored, under the headers that tell a replay from what is new.
fn record(topic: &Arc<str>, replay: &Replay, event: &Event) -> Outgoing {
    let service = replay.target_service.clone().unwrap_or_default();
    Outgoing {
        topic: Arc::clone(topic),
        key: stream::log_key(event).into_bytes(),
        headers: Headers::from_iter([
            (subject::HEADER_SUBJECT, subject::subject(event)),
            (subject::HEADER_TENANT, event.tenant_id.to_string()),
            (
                subject::HEADER_CONTENT_TYPE,
                subject::CONTENT_TYPE.to_owned(),
            ),
            (subject::HEADER_TARGET_SERVICE, service),
            (subject::HEADER_REPLAY_ID, replay.id.to_string()),
        ]),
        payload: event.to_canonical().into(),
    }
}

/// The announcement that a replay begins (S4-37).
fn started(replay: &Replay) -> Message {
    announcement(replay, subject::REPLAY_STARTED, json!({}))
}

/// The announcement that it has ended (S4-38).
fn completed(replay: &Replay) -> Message {
    let counts = json!({"replayed": replay.replayed, "failed": replay.failed});
    announcement(replay, subject::REPLAY_COMPLETED, counts)
}

fn announcement(replay: &Replay, subject: &str, more: Value) -> Message {
    let mut payload = json!({
        "replay_id": replay.id,
        "events_count": replay.events,
        "stream_id": replay.selection["stream_id"],
        "target_service": replay.target_service,
        "created_at": timestamp::format(replay.created_at),
    });
    if let (Some(payload), Value::Object(more)) = (payload.as_object_mut(), more) {
        payload.extend(more);
    }
    Message {
        tenant_id: replay.tenant_id.to_string(),
        subject: subject.to_owned(),
        key: replay.id.to_string().into_bytes(),
        payload: payload.to_string().into_bytes(),
    }
}
