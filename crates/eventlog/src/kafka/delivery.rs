//! From enqueued to acknowledged: a batch counted down by delivery reports, and the producer's
//! callbacks.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context as TaskContext, Poll};

use futures_util::task::AtomicWaker;
use prometheus::Registry;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::{ClientContext, Statistics};

use super::client::{any_broker_up, forward_log};
use super::config::KafkaConfig;
use crate::PublishError;
use crate::queue::{Queue, Reservation};

/// The acknowledgement of one [`Producer::publish`](super::Producer::publish) call.
#[must_use = "the records count as published only once this resolves to Ok"]
#[derive(Debug)]
pub struct Ack {
    batch: Arc<Batch>,
}

impl Future for Ack {
    type Output = Result<(), PublishError>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let batch = &self.batch;
        if batch.pending() {
            batch.waker.register(cx.waker());
            // The last report may have come before the registration.
            if batch.pending() {
                return Poll::Pending;
            }
        }
        Poll::Ready(batch.error.get().cloned().map_or(Ok(()), Err))
    }
}

/// The records of one call, counted down by their delivery reports.
#[derive(Debug)]
pub(super) struct Batch {
    remaining: AtomicUsize,
    /// Taken by the last report.
    reservation: Mutex<Option<Reservation>>,
    /// The first error of any record.
    error: OnceLock<PublishError>,
    waker: AtomicWaker,
}

impl Batch {
    /// A batch of the records for which room is reserved.
    pub(super) fn new(reservation: Reservation) -> Arc<Self> {
        Arc::new(Self {
            remaining: AtomicUsize::new(reservation.records()),
            reservation: Mutex::new(Some(reservation)),
            error: OnceLock::new(),
            waker: AtomicWaker::new(),
        })
    }

    pub(super) fn ack(self: Arc<Self>) -> Ack {
        Ack { batch: self }
    }

    fn pending(&self) -> bool {
        self.remaining.load(Ordering::Acquire) > 0
    }

    /// Counts `records` reports of one outcome; the last one gives the room back and wakes the
    /// caller.
    pub(super) fn done(&self, records: usize, outcome: Result<(), PublishError>) {
        if let Err(error) = outcome {
            let _ = self.error.set(error);
        }
        if self.remaining.fetch_sub(records, Ordering::AcqRel) != records {
            return;
        }
        let mut reservation = self
            .reservation
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(reservation) = reservation.take() {
            reservation.finish(self.error.get());
        }
        drop(reservation);
        self.waker.wake();
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
        let batch = Batch::new(queue.reserve(4, 0).expect("room"));
        let mut ack = Arc::clone(&batch).ack();
        let mut poll = || {
            Pin::new(&mut ack).poll(&mut TaskContext::from_waker(
                futures_util::task::noop_waker_ref(),
            ))
        };
        assert!(poll().is_pending());
        batch.done(1, Ok(()));
        batch.done(1, Err(PublishError::TooLarge));
        batch.done(1, Err(PublishError::Unavailable));
        assert!(poll().is_pending());
        batch.done(1, Ok(()));
        assert_eq!(poll(), Poll::Ready(Err(PublishError::TooLarge)));
        queue.reserve(10, 0).expect("its room is free");
    }
}
