//! Acknowledged, bounded publishing: one acknowledgement per call, whatever the number of records.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use prometheus::Registry;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::KafkaConfig;
use super::delivery::{Ack, Batch, Context, State, publish_error};
use crate::{Acknowledgement, BoxFuture, Outgoing, PublishError, Publisher};

/// How long the polling thread sleeps when nothing happens, hence how long a stop may take.
const POLL: Duration = Duration::from_millis(100);

/// What a record costs beside its key and payload: librdkafka's message and the framing.
const RECORD_OVERHEAD: usize = 256;

/// What a header may cost on the wire beside its name and value: two length prefixes.
const HEADER_OVERHEAD: usize = 10;

/// Publishes to Kafka with acks=all and idempotence. Clones share one client and one thread.
///
/// A call either enqueues all its records or none: room is reserved before the first one, within
/// limits below librdkafka's own. While no broker is reachable a call answers
/// [`PublishError::Unavailable`] at once instead of queueing what would time out.
#[derive(Clone)]
pub struct Producer {
    shared: Arc<Shared>,
    // Held for its drop: the last clone stops the thread.
    _thread: Arc<PollThread>,
}

struct Shared {
    config: KafkaConfig,
    client: RwLock<Arc<Client>>,
    state: Arc<State>,
}

type Client = BaseProducer<Context>;

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
        let state = Arc::new(State::new(registry)?);
        let client = client(config, &state)?;
        let shared = Arc::new(Shared {
            config: config.clone(),
            client: RwLock::new(client),
            state,
        });
        let thread = PollThread::start(&shared)?;
        Ok(Self {
            shared,
            _thread: Arc::new(thread),
        })
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
        let state = &self.shared.state;
        let bytes = self
            .admit(records)
            .inspect_err(|error| state.queue.failed(error))?;
        let batch = Batch::new(records.len(), bytes);
        let client = self.shared.client();
        for (index, record) in records.iter().enumerate() {
            if let Err((error, _)) = client.send(native(record, &batch)) {
                let error = publish_error(&error);
                tracing::warn!(%error, index, records = records.len(), "record not enqueued");
                batch.done(records.len() - index, Err(error), state);
                break;
            }
        }
        Ok(batch.ack())
    }

    /// Checks the batch and reserves its room; returns the bytes reserved.
    fn admit(&self, records: &[Outgoing]) -> Result<usize, PublishError> {
        let Shared { config, state, .. } = &*self.shared;
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
        state.queue.reserve(
            records.len(),
            bytes,
            config.queue_max_messages,
            config.queue_max_bytes,
        )?;
        Ok(bytes)
    }

    /// Whether a broker is reachable, as far as the client knows: false at once when the last
    /// connection breaks, true again within about a second of a broker's return.
    pub fn connected(&self) -> bool {
        self.shared.state.connected.load(Ordering::Relaxed)
    }

    /// Waits until everything enqueued is acknowledged or failed.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`] if records are still in flight after `timeout`.
    pub async fn flush(&self, timeout: Duration) -> Result<(), PublishError> {
        let client = self.shared.client();
        let flushed = tokio::task::spawn_blocking(move || client.flush(timeout)).await;
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

fn client(config: &KafkaConfig, state: &Arc<State>) -> Result<Arc<Client>, KafkaError> {
    let context = Context {
        state: Arc::clone(state),
    };
    Ok(Arc::new(Client::from_config_and_context(
        &config.producer(),
        context,
    )?))
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

impl Shared {
    fn client(&self) -> Arc<Client> {
        Arc::clone(&self.client.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn run(&self, stop: &AtomicBool) {
        let mut probing = true;
        while !stop.load(Ordering::Relaxed) {
            let client = self.client();
            if probing {
                // Until the first statistics the state is unknown: the cluster's id, which comes
                // with the first metadata, tells sooner.
                if client.client().fetch_cluster_id(POLL).is_some() {
                    self.state.set_connected(true);
                    probing = false;
                }
                client.poll(Duration::ZERO);
            } else {
                client.poll(POLL);
            }
            if let Some((code, reason)) = client.client().fatal_error() {
                tracing::error!(%code, reason, "kafka producer failed for good, it is replaced");
                drop(client);
                self.replace();
                probing = true;
            }
        }
    }

    /// An idempotent producer that lost its sequence can never send again: make a new one. What the
    /// old one still holds fails with `Unavailable`.
    fn replace(&self) {
        self.state.set_connected(false);
        let fresh = match client(&self.config, &self.state) {
            Ok(fresh) => fresh,
            Err(error) => {
                tracing::error!(%error, "cannot replace the kafka producer");
                std::thread::sleep(POLL);
                return;
            }
        };
        let old = {
            let mut current = self.client.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, fresh)
        };
        // Purges and answers every record left, here or where a publisher drops the last reference.
        drop(old);
    }
}

/// The thread that serves delivery reports and the other callbacks.
struct PollThread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl PollThread {
    fn start(shared: &Arc<Shared>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new()
            .name("kafka-producer".to_owned())
            .spawn({
                let (shared, stop) = (Arc::clone(shared), Arc::clone(&stop));
                move || shared.run(&stop)
            })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for PollThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the kafka producer's thread panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use rdkafka::types::RDKafkaRespErr;
    use testkit::{LIMIT, Parts, eventually};

    use super::*;
    use crate::Headers;
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

        let before = producer.shared.client();
        fail_for_good(&before);
        eventually("another client", LIMIT, || async {
            if Arc::ptr_eq(&before, &producer.shared.client()) {
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
