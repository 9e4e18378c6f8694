//! Publishing: bounded, with one acknowledgement a call.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus::Registry;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _};

use super::config::KafkaConfig;
use super::delivery::{Batch, State, publish_error};
use super::error::ProducerError;
use super::sender::Sender;
use crate::queue::Reservation;
use crate::{Acknowledgement, BoxFuture, Outgoing, PublishError, Publisher};

/// What a record costs beside its key and payload: librdkafka's message and the framing.
const RECORD_OVERHEAD: usize = 256;

/// What a header may cost on the wire beside its name and value: two length prefixes.
const HEADER_OVERHEAD: usize = 10;

/// The producer is idle while fewer records than this are in flight: a call is sent at once.
const IDLE_BELOW: usize = 5;
/// It is busy from so many on, and stays so for the cooldown: between two waves of a load there may
/// be nothing in flight for a moment.
const BUSY_FROM: usize = 16;
const COOLDOWN: Duration = Duration::from_millis(10);

/// Publishes to Kafka with acks=all and idempotence. Clones share its clients and their threads.
///
/// A call either enqueues all its records or none: room is reserved before the first one, within
/// limits below librdkafka's own. While no broker is reachable a call answers
/// [`PublishError::Unavailable`] at once instead of queueing what would time out.
#[derive(Clone)]
pub struct Producer {
    config: Arc<KafkaConfig>,
    state: Arc<State>,
    /// Lingers.
    lingering: Arc<Sender>,
    /// Does not, and is used while the producer is idle.
    low_latency: Option<Arc<LowLatency>>,
}

/// The sender that does not linger, and when it is used.
struct LowLatency {
    sender: Sender,
    started: Instant,
    /// Milliseconds after the start until which the producer counts as busy.
    busy_until: AtomicU64,
}

impl LowLatency {
    /// Whether a call may be sent at once while so many other records are in flight.
    fn is_idle(&self, in_flight: usize) -> bool {
        let now = self.started.elapsed().as_millis() as u64;
        if in_flight >= BUSY_FROM {
            let until = now + COOLDOWN.as_millis() as u64;
            self.busy_until.store(until, Ordering::Relaxed);
        }
        in_flight < IDLE_BELOW && now >= self.busy_until.load(Ordering::Relaxed)
    }
}

impl Producer {
    /// Creates the client and its thread; does not wait for a broker (see [`Publisher::connected`]).
    ///
    /// # Errors
    /// When the settings, the registry or the operating system refuse.
    pub fn new(config: &KafkaConfig, registry: &Registry) -> Result<Self, ProducerError> {
        let state = Arc::new(State::new(config, registry)?);
        Ok(Self {
            config: Arc::new(config.clone()),
            lingering: Arc::new(Sender::start(config.producer(), &state)?),
            state,
            low_latency: None,
        })
    }

    /// Creates a producer that lingers under load only: a call that finds next to nothing in flight
    /// is sent at once, by a second client. Two calls whose order matters must not be in flight
    /// together, which is so where each caller waits for its acknowledgement.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn low_latency(config: &KafkaConfig, registry: &Registry) -> Result<Self, ProducerError> {
        let mut producer = Self::new(config, registry)?;
        if config.linger_ms > 0.0 {
            let sender = Sender::start(config.low_latency_producer(), &producer.state)?;
            producer.low_latency = Some(Arc::new(LowLatency {
                sender,
                started: Instant::now(),
                busy_until: AtomicU64::new(0),
            }));
        }
        Ok(producer)
    }

    /// Enqueues the records and returns the acknowledgement of all of them as one future. Dropping
    /// the future does not take the records back.
    ///
    /// librdkafka copies what it needs before this returns: pass a vector to have it freed here, or
    /// a slice to keep it.
    ///
    /// # Errors
    /// Nothing was enqueued: [`PublishError::Unavailable`] while no broker is reachable,
    /// [`PublishError::Full`] without room for the batch, [`PublishError::TooLarge`] if a record
    /// exceeds `max_message_bytes`.
    /// The future fails with the first error of any record; records of the batch may have been
    /// written all the same, so a retry must carry the same event ids. That also holds in the one
    /// case where librdkafka refuses a record after it took others.
    pub fn publish(
        &self,
        records: impl AsRef<[Outgoing]>,
    ) -> Result<Acknowledgement, PublishError> {
        let records = records.as_ref();
        let state = &self.state;
        let reservation = self
            .reserve(records)
            .inspect_err(|error| state.queue.failed(error))?;
        let (batch, acknowledged) = Batch::new(reservation);
        if records.is_empty() {
            batch.done(0, Ok(()));
        }
        let client = self.sender(records.len()).client();
        for (index, record) in records.iter().enumerate() {
            if let Err((error, _)) = client.send(native(record, &batch)) {
                let error = publish_error(&error);
                tracing::warn!(%error, index, records = records.len(), "record not enqueued");
                batch.done(records.len() - index, Err(error));
                break;
            }
        }
        Ok(Box::pin(async {
            acknowledged.await.unwrap_or(Err(PublishError::Unavailable))
        }))
    }

    /// The sender of so many records, for which room is reserved.
    fn sender(&self, records: usize) -> &Sender {
        let in_flight = self.state.queue.records().saturating_sub(records);
        match &self.low_latency {
            Some(low_latency) if low_latency.is_idle(in_flight) => &low_latency.sender,
            _ => &self.lingering,
        }
    }

    /// Checks the batch and reserves room for it.
    fn reserve(&self, records: &[Outgoing]) -> Result<Reservation, PublishError> {
        let Self { config, state, .. } = self;
        if !state.connected.load(Ordering::Relaxed) {
            return Err(PublishError::Unavailable);
        }
        let mut bytes = 0;
        for record in records {
            let headers = record.headers.iter();
            let headers: usize = headers
                .map(|(n, v)| n.len() + v.len() + HEADER_OVERHEAD)
                .sum();
            let size = record.key.len() + record.payload.len() + headers;
            if size > config.max_message_bytes {
                return Err(PublishError::TooLarge);
            }
            bytes += size + RECORD_OVERHEAD;
        }
        state.queue.reserve(records.len(), bytes)
    }
}

impl Publisher for Producer {
    fn publish(&self, records: &[Outgoing]) -> Result<Acknowledgement, PublishError> {
        Producer::publish(self, records)
    }

    /// False at once when the last connection breaks, true again within about a second of a
    /// broker's return.
    fn connected(&self) -> bool {
        self.state.connected.load(Ordering::Relaxed)
    }

    fn flush(&self, limit: Duration) -> BoxFuture<'_, Result<(), PublishError>> {
        let low_latency = self.low_latency.as_ref().map(|low| low.sender.client());
        let clients = [Some(self.lingering.client()), low_latency];
        Box::pin(async move {
            let flushed = tokio::task::spawn_blocking(move || {
                let deadline = Instant::now() + limit;
                clients.into_iter().flatten().try_for_each(|client| {
                    client.flush(deadline.saturating_duration_since(Instant::now()))
                })
            })
            .await;
            match flushed {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) => Err(PublishError::Unavailable),
                Err(error) => Err(PublishError::Failed(error.to_string())),
            }
        })
    }
}

fn native<'a>(record: &'a Outgoing, batch: &Arc<Batch>) -> BaseRecord<'a, [u8], [u8], Arc<Batch>> {
    let mut out = BaseRecord::with_opaque_to(&record.topic, Arc::clone(batch))
        .payload(record.payload.as_ref());
    if !record.key.is_empty() {
        out = out.key(record.key.as_slice());
    }
    if !record.headers.is_empty() {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in record.headers.iter() {
            headers = headers.insert(Header {
                key,
                value: Some(value),
            });
        }
        out = out.headers(headers);
    }
    out
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use rdkafka::types::RDKafkaRespErr;
    use testkit::{LIMIT, Parts, eventually};

    use super::*;
    use crate::Headers;
    use crate::kafka::sender::Client;
    use crate::kafka::{TopicSpec, topics};

    #[tokio::test]
    async fn a_client_that_failed_for_good_is_replaced() {
        let parts = Parts::shared().await;
        let config = KafkaConfig {
            brokers: parts.kafka_brokers,
            topic_prefix: testkit::topic_prefix(),
            ..KafkaConfig::default()
        };
        let spec = TopicSpec::new(&config, "fatal");
        topics::ensure(&config, std::slice::from_ref(&spec), LIMIT)
            .await
            .expect("topic");
        let producer = Producer::new(&config, &Registry::new()).expect("producer");
        let record = || Outgoing {
            topic: Arc::clone(&spec.name),
            key: Vec::new(),
            headers: Headers::default(),
            payload: "x".into(),
        };
        let publish = || async { producer.publish([record()])?.await };
        eventually("publishing", LIMIT, publish).await;

        let before = producer.lingering.client();
        fail_for_good(&before);
        eventually("another client", LIMIT, || async {
            if Arc::ptr_eq(&before, &producer.lingering.client()) {
                Err("the same")
            } else {
                Ok(())
            }
        })
        .await;
        drop(before);
        eventually("publishing again", LIMIT, publish).await;
    }

    #[expect(unsafe_code, reason = "librdkafka's own way to test this, only in C")]
    fn fail_for_good(client: &Client) {
        let reason = CString::new("test").expect("no zero byte");
        let code = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
        // SAFETY: the client is alive and the string outlives the call.
        let set = unsafe {
            rdkafka::bindings::rd_kafka_test_fatal_error(
                client.client().native_ptr(),
                code,
                reason.as_ptr(),
            )
        };
        assert_eq!(set, RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR);
    }
}
