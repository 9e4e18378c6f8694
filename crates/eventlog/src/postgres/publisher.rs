//! Publishing into PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use store::Database;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::pending::{Pending, PostgresLogConfig, Shared};
use super::writer::Writer;
use crate::future::BoxFuture;
use crate::publisher::{Acknowledgement, PublishError, Publisher};
use crate::record::Outgoing;

/// Publishes into the Postgres log. Clones share one queue and one connection; once the last is
/// dropped, what is enqueued is still written.
///
/// A call either enqueues all its records or none. While the database cannot be reached a call
/// answers [`PublishError::Unavailable`] at once. A connection lost while a statement runs fails its
/// records although they may have been written: a retry must carry the same event ids.
#[derive(Clone)]
pub struct PostgresLog {
    shared: Arc<Shared>,
    queue: UnboundedSender<Pending>,
}

impl PostgresLog {
    /// Starts the task that connects and writes; waits for nothing ([`Publisher::connected`] tells). Must
    /// be called within a tokio runtime.
    ///
    /// # Errors
    /// The registry already holds metrics of these names.
    pub fn new(
        db: &Database,
        config: PostgresLogConfig,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let shared = Arc::new(Shared::new(config, registry)?);
        let (queue, pending) = unbounded_channel();
        let writer = Writer::new(db.clone(), Arc::clone(&shared), pending);
        tokio::spawn(writer.run());
        Ok(Self { shared, queue })
    }
}

impl Publisher for PostgresLog {
    /// Besides the errors of every log: [`PublishError::Failed`] if a topic's name is none of Kafka's.
    fn publish(&self, records: &[Outgoing]) -> Result<Acknowledgement, PublishError> {
        let shared = &self.shared;
        let refused = |error: &PublishError| shared.queue.failed(error);
        let (rows, reservation) = shared.rows(records).inspect_err(refused)?;
        let (pending, acknowledged) = Pending::new(Arc::clone(shared), rows, reservation);
        if records.is_empty() {
            pending.answer(&Ok(()));
        } else {
            // One that comes back, because the runtime is shutting down, answers for itself.
            let _ = self.queue.send(pending);
        }
        Ok(Box::pin(async {
            acknowledged.await.unwrap_or(Err(PublishError::Unavailable))
        }))
    }

    /// False as soon as the connection breaks, and while the schema is not there.
    fn connected(&self) -> bool {
        self.shared.is_connected()
    }

    fn flush(&self, limit: Duration) -> BoxFuture<'_, Result<(), PublishError>> {
        let empty = async {
            loop {
                let answered = self.shared.answered.notified();
                tokio::pin!(answered);
                answered.as_mut().enable();
                if self.shared.queue.records() == 0 {
                    return;
                }
                answered.await;
            }
        };
        Box::pin(async move {
            tokio::time::timeout(limit, empty)
                .await
                .map_err(|_| PublishError::Unavailable)
        })
    }
}
