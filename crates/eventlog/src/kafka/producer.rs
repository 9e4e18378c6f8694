//! Acknowledged, bounded publishing: one acknowledgement per call, whatever the number of records.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus::Registry;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _};

use super::KafkaConfig;
use super::delivery::{Ack, Batch, State, publish_error};
use super::sender::Sender;
use crate::queue::Reservation;
use crate::{Acknowledgement, BoxFuture, Outgoing, PublishError, Publisher};

/// What a record costs beside its key and payload: librdkafka's message and the framing.
const RECORD_OVERHEAD: usize = 256;

/// What a header may cost on the wire beside its name and value: two length prefixes.
const HEADER_OVERHEAD: usize = 10;

/// Records that may be under way already when one is still sent at once.
const ALONE: usize = 4;

/// So many under way are a crowd, and for so long after it what comes is taken to be part of it:
/// between its waves there may be nobody for a moment.
const CROWD: usize = 16;
const CALM: Duration = Duration::from_millis(10);

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
    steady: Arc<Sender>,
    /// Does not.
    eager: Option<Arc<Eager>>,
}

struct Eager {
    sender: Sender,
    began: Instant,
    /// Milliseconds from the beginning until the last crowd has passed.
    crowded: AtomicU64,
}

impl Eager {
    /// Whether it is quiet enough to send at once, with so many records under way.
    fn is_calm(&self, under_way: usize) -> bool {
        let now = self.began.elapsed().as_millis() as u64;
        if under_way >= CROWD {
            let until = now + CALM.as_millis() as u64;
            self.crowded.store(until, Ordering::Relaxed);
        }
        under_way <= ALONE && now >= self.crowded.load(Ordering::Relaxed)
    }
}

/// Why a producer could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ProducerError {
    /// librdkafka refused the settings.
    #[error("cannot make the Kafka producer: {0}")]
    Client(#[from] KafkaError),
    /// The registry already holds metrics of these names.
    #[error("cannot register the producer's metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The operating system refused the thread.
    #[error("cannot start the producer's thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl Producer {
    /// Makes the client and its thread; does not wait for a broker ([`Self::connected`] tells).
    ///
    /// # Errors
    /// When the settings, the registry or the operating system refuse.
    pub fn new(config: &KafkaConfig, registry: &Registry) -> Result<Self, ProducerError> {
        let state = Arc::new(State::new(config, registry)?);
        Ok(Self {
            config: Arc::new(config.clone()),
            steady: Arc::new(Sender::start(config.producer(), &state)?),
            state,
            eager: None,
        })
    }

    /// One that lingers only for the company there is: a call that finds next to nothing under way
    /// is sent at once, by a second client. Two calls whose order matters must not be under way
    /// together, which is so where each caller waits for its acknowledgement.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn eager(config: &KafkaConfig, registry: &Registry) -> Result<Self, ProducerError> {
        let mut producer = Self::new(config, registry)?;
        if config.linger_ms > 0.0 {
            let sender = Sender::start(config.eager_producer(), &producer.state)?;
            producer.eager = Some(Arc::new(Eager {
                sender,
                began: Instant::now(),
                crowded: AtomicU64::new(0),
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
    pub fn publish(&self, records: impl AsRef<[Outgoing]>) -> Result<Ack, PublishError> {
        let records = records.as_ref();
        let state = &self.state;
        let reservation = self
            .reserve(records)
            .inspect_err(|error| state.queue.failed(error))?;
        let batch = Batch::new(reservation);
        let client = self.sender(records.len()).client();
        for (index, record) in records.iter().enumerate() {
            if let Err((error, _)) = client.send(native(record, &batch)) {
                let error = publish_error(&error);
                tracing::warn!(%error, index, records = records.len(), "record not enqueued");
                batch.done(records.len() - index, Err(error));
                break;
            }
        }
        Ok(batch.ack())
    }

    /// Who sends so many records, for which room is reserved.
    fn sender(&self, records: usize) -> &Sender {
        let under_way = self.state.queue.records().saturating_sub(records);
        match &self.eager {
            Some(eager) if eager.is_calm(under_way) => &eager.sender,
            _ => &self.steady,
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

    /// Whether a broker is reachable, as far as the client knows: false at once when the last
    /// connection breaks, true again within about a second of a broker's return.
    pub fn connected(&self) -> bool {
        self.state.connected.load(Ordering::Relaxed)
    }

    /// Waits until everything enqueued is acknowledged or failed.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`] if records are still in flight after `timeout`.
    pub async fn flush(&self, timeout: Duration) -> Result<(), PublishError> {
        let eager = self.eager.as_ref().map(|eager| eager.sender.client());
        let clients = [Some(self.steady.client()), eager];
        let flushed = tokio::task::spawn_blocking(move || {
            let deadline = Instant::now() + timeout;
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
    }
}

impl Publisher for Producer {
    fn publish(&self, records: &[Outgoing]) -> Result<Acknowledgement, PublishError> {
        Ok(Box::pin(Producer::publish(self, records)?))
    }

    fn connected(&self) -> bool {
        Producer::connected(self)
    }

    fn flush(&self, limit: Duration) -> BoxFuture<'_, Result<(), PublishError>> {
        Box::pin(Producer::flush(self, limit))
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

        let before = producer.steady.client();
        fail_for_good(&before);
        eventually("another client", LIMIT, || async {
            if Arc::ptr_eq(&before, &producer.steady.client()) {
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
