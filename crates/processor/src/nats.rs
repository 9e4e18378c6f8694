//! What is announced is announced on NATS too, where a stream is named for it.

use std::sync::Arc;

use eventlog::Publisher;
use eventlog::nats::{JetStream, StreamConfig};
use store::Database;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::pipeline::announcement::Announcements;
use crate::pipeline::outbox_relay::OutboxRelay;

/// The stream, and how it is told there.
pub(crate) struct Nats {
    pub(crate) publisher: Arc<dyn Publisher>,
    to: Announcements,
}

impl Nats {
    /// Begins to connect; `None` where no stream is named. It is told as on Kafka.
    pub(crate) fn start(config: &Config, as_on_kafka: &Announcements) -> Option<Self> {
        let (servers, name) = config.nats.clone()?;
        let to = Announcements {
            topic: name.as_str().into(),
            nats: true,
            ..as_on_kafka.clone()
        };
        let stream = JetStream::start(StreamConfig {
            servers,
            name,
            retention: config.event_stream_retention,
        });
        Some(Self {
            publisher: Arc::new(stream),
            to,
        })
    }

    /// The task that sends what waits for it.
    pub(crate) fn relay(
        &self,
        db: &Database,
        metrics: &Arc<Metrics>,
        notices: mpsc::Receiver<()>,
    ) -> JoinSet<()> {
        let (publisher, metrics) = (Arc::clone(&self.publisher), Arc::clone(metrics));
        let relay = OutboxRelay::nats(db.clone(), publisher, &self.to, metrics);
        JoinSet::from_iter([relay.run(notices)])
    }
}
