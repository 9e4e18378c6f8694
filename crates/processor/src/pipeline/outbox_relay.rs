//! Sends what storing transactions left in the outbox. Storing goes on whether or not Kafka can be
//! reached: what waits for it waits in the outbox.

use std::sync::Arc;
use std::time::Duration;

use eventlog::{Outgoing, PublishError, Publisher};
use store::outbox::{self, Message, Page, Sent};
use store::{Database, Error};
use tokio::sync::mpsc;

use super::announcement::outgoing;
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
    producer: Arc<dyn Publisher>,
    topic: Arc<str>,
    metrics: Arc<Metrics>,
}

impl OutboxRelay {
    /// Sends to that topic (full name).
    #[must_use]
    pub fn new(
        db: Database,
        producer: Arc<dyn Publisher>,
        topic: &str,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            db,
            producer,
            topic: topic.into(),
            metrics,
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
                    Ok(Sent::Nothing | Sent::Later) => break,
                    Err(error) => {
                        tracing::warn!(error = %error, "the outbox must wait");
                        break;
                    }
                }
            }
        }
    }

    async fn send(&self) -> Result<Sent, Error> {
        outbox::send(&self.db, PAGE, async |messages: Vec<Message>| {
            let outgoing = |message| outgoing(&self.topic, message);
            let records: Vec<Outgoing> = messages.into_iter().map(outgoing).collect();
            match self.publish(&records).await {
                Ok(()) => {
                    self.metrics.announced(records.len());
                    true
                }
                Err(PublishError::Full | PublishError::Unavailable) => false,
                // One of them is to blame: each for itself.
                Err(_) => self.publish_each(&records).await,
            }
        })
        .await
    }

    /// False if the broker went away meanwhile; what it will never take is given up.
    async fn publish_each(&self, records: &[Outgoing]) -> bool {
        for record in records {
            match self.publish(std::slice::from_ref(record)).await {
                Ok(()) => self.metrics.announced(1),
                Err(PublishError::Full | PublishError::Unavailable) => return false,
                Err(error) => {
                    tracing::error!(error = %error, "announcement refused");
                    self.metrics.announcements_failed(1);
                }
            }
        }
        true
    }

    async fn publish(&self, records: &[Outgoing]) -> Result<(), PublishError> {
        self.producer.publish(records)?.await
    }
}

#[cfg(test)]
mod tests {
    use eventlog::kafka::{KafkaConfig, Producer, TopicSpec, topics};
    use prometheus::Registry;
    use store::{DatabaseConfig, migrate};
    use testkit::{LIMIT, Parts, eventually, eventually_eq};

    use super::*;

    /// More is in the outbox than one page takes, and nobody gives notice any more.
    #[tokio::test]
    async fn announcing_what_an_outage_left_does_not_hold_up_the_end() {
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
        let client = fresh.connect().await.unwrap();
        let rounds = 5;
        let due = format!(
            "insert into outbox (tenant_id, subject, key, payload) \
             select 'default', 'event.stored', 'k', 'x' from generate_series(1, {})",
            rounds * PAGE.messages
        );
        client.batch_execute(&due).await.unwrap();
        let config = KafkaConfig {
            brokers: parts.kafka_brokers.clone(),
            topic_prefix: testkit::topic_prefix(),
            ..KafkaConfig::default()
        };
        let topic = TopicSpec::new(&config, domain::subject::ANNOUNCEMENTS);
        topics::ensure(&config, std::slice::from_ref(&topic), LIMIT)
            .await
            .unwrap();
        let producer = Arc::new(Producer::new(&config, &Registry::new()).unwrap());
        eventually("the producer connects", LIMIT, || async {
            producer.connected().then_some(()).ok_or("not yet")
        })
        .await;
        let metrics = Arc::new(Metrics::register(&Registry::new()).unwrap());
        let relay = || {
            let producer = Arc::clone(&producer) as Arc<dyn Publisher>;
            OutboxRelay::new(db.clone(), producer, &topic.name, Arc::clone(&metrics))
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
