//! From enqueued to acknowledged: a batch counted down by delivery reports, and the producer's
//! callbacks.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use prometheus::Registry;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::{ClientContext, Statistics};
use tokio::sync::oneshot;

use super::client::{any_broker_up, forward_log};
use super::config::KafkaConfig;
use crate::PublishError;
use crate::queue::{Queue, Reservation};

/// Resolves to the outcome of a batch; an error if librdkafka was destroyed before.
pub(super) type Acknowledged = oneshot::Receiver<Result<(), PublishError>>;

/// The other end of [`Acknowledged`].
type Acknowledge = oneshot::Sender<Result<(), PublishError>>;

/// The records of one call, counted down by their delivery reports.
pub(super) struct Batch {
    remaining: AtomicUsize,
    /// The first error of any record.
    error: OnceLock<PublishError>,
    /// Taken by the last report.
    open: Mutex<Option<(Reservation, Acknowledge)>>,
}

impl Batch {
    /// A batch of the records for which room is reserved.
    pub(super) fn new(reservation: Reservation) -> (Arc<Self>, Acknowledged) {
        let (acknowledge, acknowledged) = oneshot::channel();
        let batch = Arc::new(Self {
            remaining: AtomicUsize::new(reservation.records()),
            error: OnceLock::new(),
            open: Mutex::new(Some((reservation, acknowledge))),
        });
        (batch, acknowledged)
    }

    /// Counts `records` reports of one outcome; the last one gives the room back and answers the
    /// caller.
    pub(super) fn done(&self, records: usize, outcome: Result<(), PublishError>) {
        if let Err(error) = outcome {
            let _ = self.error.set(error);
        }
        if self.remaining.fetch_sub(records, Ordering::AcqRel) != records {
            return;
        }
        let open = self
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some((reservation, acknowledge)) = open {
            let error = self.error.get();
            reservation.finish(error);
            // The caller may have dropped its future.
            let _ = acknowledge.send(error.cloned().map_or(Ok(()), Err));
        }
    }
}

/// What the callbacks and the producer share.
pub(super) struct State {
    pub(super) connected: AtomicBool,
    pub(super) queue: Arc<Queue>,
}

impl State {
    pub(super) fn new(
        config: &KafkaConfig,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let (records, bytes) = (config.queue_max_messages, config.queue_max_bytes);
        Ok(Self {
            connected: AtomicBool::new(false),
            queue: Queue::new(registry, "eventlog", records, bytes)?,
        })
    }

    pub(super) fn set_connected(&self, connected: bool) {
        // Read first: a store per delivery would bounce the cache line between cores.
        if self.connected.load(Ordering::Relaxed) != connected
            && self.connected.swap(connected, Ordering::Relaxed) != connected
        {
            tracing::info!(connected, "kafka producer connection changed");
        }
    }
}

/// librdkafka's callbacks; all run on the polling thread.
pub(super) struct Context {
    pub(super) state: Arc<State>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        forward_log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.state.set_connected(any_broker_up(&statistics));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.state.set_connected(false);
        }
        tracing::debug!(%error, reason, "kafka producer error");
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Arc<Batch>;

    fn delivery(&self, result: &DeliveryResult<'_>, batch: Arc<Batch>) {
        let outcome = match result {
            Ok(_) => {
                self.state.set_connected(true);
                Ok(())
            }
            Err((error, _)) => Err(publish_error(error)),
        };
        batch.done(1, outcome);
    }
}

/// Sorts librdkafka's error by what a caller can do about it.
pub(super) fn publish_error(error: &KafkaError) -> PublishError {
    use RDKafkaErrorCode as Code;
    let Some(code) = error.rdkafka_error_code() else {
        return PublishError::Failed(error.to_string());
    };
    match code {
        Code::MessageSizeTooLarge | Code::InvalidMessageSize => PublishError::TooLarge,
        Code::QueueFull => PublishError::Full,
        Code::MessageTimedOut
        | Code::RequestTimedOut
        | Code::OperationTimedOut
        | Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::Resolve
        | Code::NetworkException
        | Code::BrokerNotAvailable
        | Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::NotEnoughReplicas
        | Code::NotEnoughReplicasAfterAppend
        | Code::KafkaStorageError
        // The client is being replaced, see `Producer`.
        | Code::Fatal
        | Code::PurgeQueue
        | Code::PurgeInflight => PublishError::Unavailable,
        code => PublishError::Failed(code.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_resolves_with_its_last_report_and_keeps_the_first_error() {
        let queue = Queue::new(&Registry::new(), "test", 10, 100).expect("metrics");
        let (batch, mut acknowledged) = Batch::new(queue.reserve(4, 0).expect("room"));
        batch.done(1, Ok(()));
        batch.done(1, Err(PublishError::TooLarge));
        batch.done(1, Err(PublishError::Unavailable));
        assert!(acknowledged.try_recv().is_err(), "one report is missing");
        batch.done(1, Ok(()));
        assert_eq!(acknowledged.try_recv(), Ok(Err(PublishError::TooLarge)));
        queue.reserve(10, 0).expect("its room is free");
    }
}
