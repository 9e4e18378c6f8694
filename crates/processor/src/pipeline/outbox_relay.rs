//! Sends what transactions left in the outbox, to Kafka or to NATS: a relay each. Storing goes on whether
//! or not they can be reached: what waits for one waits in the outbox, and for no other.

use std::sync::Arc;
use std::time::Duration;

use domain::anomaly::EVENT_PREFIX;
use domain::{TenantId, subject};
use eventlog::{Outgoing, PublishError, Publisher};
use store::outbox::{self, Message, Outcome, Page, Sent, Sink};
use store::{Database, Error};
use tokio::sync::mpsc;

use super::announcement::{Announcements, outgoing};
use super::dead_letter::unannounced;
use super::detour::Detour;
use crate::metrics::Metrics;

/// Messages sent and acknowledged together.
const PAGE: Page = Page {
    messages: 1_000,
    bytes: 4 * 1024 * 1024,
};

/// How often the outbox is looked into without a notice.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The task that empties the outbox, at least once for each message.
pub struct OutboxRelay {
    db: Database,
    sink: Sink,
    producer: Arc<dyn Publisher>,
    to: Announcements,
    alerts: Announcements,
    detour: Option<Detour>,
    metrics: Arc<Metrics>,
}

impl OutboxRelay {
    /// Sends there what is for Kafka, and what tells of alerts to the topic beside it.
    #[must_use]
    pub fn new(
        db: Database,
        producer: Arc<dyn Publisher>,
        to: &Announcements,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            db,
            sink: Sink::Kafka,
            producer,
            to: to.clone(),
            alerts: Announcements {
                topic: beside(&to.topic),
                ..to.clone()
            },
            detour: None,
            metrics,
        }
    }

    /// Sends what is for NATS there, all of it.
    #[must_use]
    pub fn nats(
        db: Database,
        publisher: Arc<dyn Publisher>,
        to: &Announcements,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            sink: Sink::Nats,
            alerts: to.clone(),
            ..Self::new(db, publisher, to, metrics)
        }
    }

    /// The same that ends the detour when nothing is left.
    #[must_use]
    pub fn ending(self, detour: Detour) -> Self {
        Self {
            detour: Some(detour),
            ..self
        }
    }

    /// Sends whenever it gets a notice that something was stored, and every few seconds what other
    /// processes left, until all who give notice are gone: then one page more, and the rest is sent
    /// by the next process.
    pub async fn run(self, mut notices: mpsc::Receiver<()>) {
        let mut open = true;
        while open {
            if let Ok(next) = tokio::time::timeout(LOOK_EVERY, notices.recv()).await {
                open = next.is_some();
            }
            while self.producer.connected() {
                match self.send().await {
                    // The end must not wait for all that an outage left.
                    Ok(Sent::Page) if notices.is_closed() => break,
                    Ok(Sent::Page) => {}
                    Ok(Sent::Nothing) => {
                        self.detour.iter().for_each(Detour::end);
                        break;
                    }
                    Ok(Sent::Elsewhere | Sent::Later) => break,
                    Err(error) => {
                        tracing::warn!(error = %error, "the outbox must wait");
                        break;
                    }
                }
            }
        }
    }

    async fn send(&self) -> Result<Sent, Error> {
        outbox::send(&self.db, self.sink, PAGE, async |messages: Vec<Message>| {
            // Each for itself, so that none is sent again because of another.
            let sending = messages.into_iter().map(|message| async {
                let tenant = message.tenant_id.clone();
                let alert = message.subject.starts_with(EVENT_PREFIX);
                let to = if alert { &self.alerts } else { &self.to };
                let record = outgoing(to, message);
                let published = self.publish(&record).await;
                (tenant, record, published)
            });
            let sent = futures_util::future::join_all(sending).await;
            let mut outcomes = Vec::with_capacity(sent.len());
            for (tenant, record, mut published) in sent {
                // It may have been refused for those that were sent with it.
                if published == Err(PublishError::TooLarge) {
                    published = self.publish(&record).await;
                }
                outcomes.push(self.outcome(published, &record, &tenant));
            }
            outcomes
        })
        .await
    }

    async fn publish(&self, record: &Outgoing) -> Result<(), PublishError> {
        self.producer.publish(std::slice::from_ref(record))?.await
    }

    fn outcome(
        &self,
        published: Result<(), PublishError>,
        record: &Outgoing,
        tenant: &str,
    ) -> Outcome {
        match published {
            Ok(()) => {
                self.metrics.announced(self.sink, 1);
                Outcome::Sent
            }
            Err(error @ PublishError::TooLarge) => {
                tracing::error!(error = %error, bytes = record.payload.len(), "a stored event cannot be announced; its announcement is a dead letter");
                self.metrics.announcement_failed();
                let tenant = TenantId::parse(tenant).unwrap_or_default();
                Outcome::Never(Box::new(unannounced(record, tenant, &error.to_string())))
            }
            Err(_) => Outcome::Later,
        }
    }
}

/// The topic of alerts, with the prefix of that of announcements.
fn beside(announcements: &str) -> Arc<str> {
    let prefix = announcements.strip_suffix(subject::ANNOUNCEMENTS);
    format!("{}{}", prefix.unwrap_or_default(), subject::ALERTS).into()
}

#[cfg(test)]
mod tests {
    use eventlog::kafka::{KafkaConfig, Producer, TopicSpec, topics};
    use prometheus::Registry;
    use store::{DatabaseConfig, migrate};
    use testkit::{LIMIT, Parts, eventually, eventually_eq};

    use super::*;

    fn to(topic: &TopicSpec) -> Announcements {
        Announcements {
            topic: Arc::clone(&topic.name),
            format: domain::cloudevent::Format::default(),
            nats: false,
        }
    }

    /// A database, a topic whose records may have that many bytes, a producer.
    async fn world(max_bytes: usize) -> (testkit::Database, Database, TopicSpec, Arc<Producer>) {
        let parts = Parts::shared().await;
        let fresh = parts.fresh_database().await;
        let db = Database::new(&DatabaseConfig {
            url: fresh.url.clone(),
            schema: "event".to_owned(),
            pool_size: 2,
            verify_tls: false,
            application_name: "outbox tests".to_owned(),
        })
        .unwrap();
        migrate::run(&db).await.unwrap();
        let config = KafkaConfig {
            brokers: parts.kafka_brokers.clone(),
            topic_prefix: testkit::topic_prefix(),
            // What the database makes here compresses too well to be large.
            compression: "none".to_owned(),
            ..KafkaConfig::default()
        };
        let mut topic = TopicSpec::new(&config, domain::subject::ANNOUNCEMENTS);
        topic.settings = vec![("max.message.bytes".to_owned(), max_bytes.to_string())];
        topics::ensure(&config, std::slice::from_ref(&topic), LIMIT)
            .await
            .unwrap();
        let producer = Arc::new(Producer::new(&config, &Registry::new()).unwrap());
        eventually("the producer connects", LIMIT, || async {
            producer.connected().then_some(()).ok_or("not yet")
        })
        .await;
        (fresh, db, topic, producer)
    }

    #[tokio::test]
    async fn what_kafka_never_takes_is_set_aside_and_the_others_go() {
        let (fresh, db, topic, producer) = world(200_000).await;
        let client = fresh.connect().await.unwrap();
        // As after an outage: 720 of 100 KB, and amid them one that is larger than the topic takes.
        let due = "insert into outbox (tenant_id, subject, key, payload) \
            select 'default', 'event.stored', convert_to('k' || n, 'UTF8'), convert_to(repeat(md5(n::text), \
                case n when 100 then 9000 else 3125 end), 'UTF8') from generate_series(1, 720) n";
        client.batch_execute(due).await.unwrap();
        let metrics = Arc::new(Metrics::register(&Registry::new()).unwrap());
        let detour = Detour::new(&db);
        detour.leave(&[], "test").await;
        let (notify, notices) = mpsc::channel(1);
        let relay = OutboxRelay::new(db, producer, &to(&topic), Arc::clone(&metrics));
        let relay = relay.ending(detour.clone());
        let relaying = tokio::spawn(relay.run(notices));
        eventually_eq("messages in the outbox", 0, || fresh.count("outbox")).await;
        drop(notify);
        relaying.await.unwrap();
        let aside =
            "dead_letters where reason = 'announcement_failed' and octet_length(payload) = 288000";
        assert_eq!(fresh.count(aside).await.unwrap(), 1);
        assert_eq!(fresh.count("dead_letters").await.unwrap(), 1);
        let count = |result| metrics.announcements.with_label_values(&[result]).get();
        assert_eq!((count("sent"), count("failed")), (719, 1));
        let parts = Parts::shared().await;
        let announced = testkit::Kcat::new(&parts.kafka_brokers)
            .consume(&topic.name)
            .await;
        assert_eq!(announced.unwrap().len(), 719);
        assert!(!detour.is_taken(), "the outbox is empty");
    }

    /// More is in the outbox than one page takes, and nobody gives notice any more.
    #[tokio::test]
    async fn announcing_what_an_outage_left_does_not_hold_up_the_end() {
        let (fresh, db, topic, producer) = world(1_000_000).await;
        let client = fresh.connect().await.unwrap();
        let rounds = 5;
        let due = format!(
            "insert into outbox (tenant_id, subject, key, payload) \
             select 'default', 'event.stored', 'k', 'x' from generate_series(1, {})",
            rounds * PAGE.messages
        );
        client.batch_execute(&due).await.unwrap();
        let metrics = Arc::new(Metrics::register(&Registry::new()).unwrap());
        let relay = || {
            let producer = Arc::clone(&producer) as Arc<dyn Publisher>;
            OutboxRelay::new(db.clone(), producer, &to(&topic), Arc::clone(&metrics))
        };
        let left = async || fresh.count("outbox").await;

        let (notify, notices) = mpsc::channel(1);
        drop(notify);
        relay().run(notices).await;
        let expected = (rounds - 1) * PAGE.messages;
        assert_eq!(left().await.unwrap(), expected);

        // While there may be more notices, all of it goes.
        let (notify, notices) = mpsc::channel(1);
        let going = tokio::spawn(relay().run(notices));
        eventually_eq("messages in the outbox", 0, &left).await;
        drop(notify);
        going.await.unwrap();
    }
}
