//! Acknowledged, bounded publishing: one acknowledgement per call, whatever the number of records.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::task::{Context as TaskContext, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry};
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::{ClientContext, Statistics};

use super::{KafkaConfig, any_broker_up, forward_log};
use crate::{Outgoing, PublishError};

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

/// What the callbacks and the publishers share.
struct State {
    connected: AtomicBool,
    fatal: AtomicBool,
    records: AtomicUsize,
    bytes: AtomicUsize,
    metrics: Metrics,
}

struct Metrics {
    publish_seconds: Histogram,
    in_flight_records: IntGauge,
    in_flight_bytes: IntGauge,
    failures: IntCounterVec,
}

impl Metrics {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            publish_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "eventlog_publish_seconds",
                    "Time from publishing a batch to its acknowledgement by all replicas.",
                )
                .buckets(vec![
                    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
                ]),
            )?,
            in_flight_records: IntGauge::new(
                "eventlog_publish_in_flight_records",
                "Records enqueued and not yet acknowledged.",
            )?,
            in_flight_bytes: IntGauge::new(
                "eventlog_publish_in_flight_bytes",
                "Bytes enqueued and not yet acknowledged.",
            )?,
            failures: IntCounterVec::new(
                Opts::new(
                    "eventlog_publish_failures_total",
                    "Batches not published, by reason: full, unavailable, too_large, failed.",
                ),
                &["reason"],
            )?,
        };
        registry.register(Box::new(metrics.publish_seconds.clone()))?;
        registry.register(Box::new(metrics.in_flight_records.clone()))?;
        registry.register(Box::new(metrics.in_flight_bytes.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        Ok(metrics)
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
        let state = Arc::new(State {
            connected: AtomicBool::new(false),
            fatal: AtomicBool::new(false),
            records: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            metrics: Metrics::new(registry)?,
        });
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
            .inspect_err(|error| state.failed(error))?;
        let batch = Arc::new(Batch {
            remaining: AtomicUsize::new(records.len()),
            records: records.len(),
            bytes,
            started: Instant::now(),
            error: OnceLock::new(),
            waker: AtomicWaker::new(),
        });
        let client = self.shared.client();
        for (index, record) in records.iter().enumerate() {
            if let Err((error, _)) = client.send(native(record, &batch)) {
                let error = publish_error(&error);
                tracing::warn!(%error, index, records = records.len(), "record not enqueued");
                let _ = batch.error.set(error);
                batch.done(records.len() - index, state);
                break;
            }
        }
        Ok(Ack { batch })
    }

    /// Checks the batch and reserves its room; returns the bytes reserved.
    fn admit(&self, records: &[Outgoing]) -> Result<usize, PublishError> {
        let Shared { config, state, .. } = &*self.shared;
        if !state.connected.load(Ordering::Relaxed) {
            return Err(PublishError::Unavailable);
        }
        let mut bytes = 0;
        for record in records {
            let size = record.key.len()
                + record.payload.len()
                + record
                    .headers
                    .iter()
                    .map(|(n, v)| n.len() + v.len() + HEADER_OVERHEAD)
                    .sum::<usize>();
            if size > config.max_message_bytes {
                return Err(PublishError::TooLarge);
            }
            bytes += size + RECORD_OVERHEAD;
        }
        if !reserve(&state.records, records.len(), config.queue_max_messages) {
            return Err(PublishError::Full);
        }
        if !reserve(&state.bytes, bytes, config.queue_max_bytes) {
            state.records.fetch_sub(records.len(), Ordering::Relaxed);
            return Err(PublishError::Full);
        }
        state.metrics.in_flight_records.add(records.len() as i64);
        state.metrics.in_flight_bytes.add(bytes as i64);
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

/// Takes `amount` of what `counter` may hold; false, and nothing taken, if that exceeds `limit`.
fn reserve(counter: &AtomicUsize, amount: usize, limit: usize) -> bool {
    let before = counter.fetch_add(amount, Ordering::Relaxed);
    if before + amount > limit {
        counter.fetch_sub(amount, Ordering::Relaxed);
        return false;
    }
    true
}

fn client(config: &KafkaConfig, state: &Arc<State>) -> Result<Arc<Client>, KafkaError> {
    let context = Context {
        state: Arc::clone(state),
    };
    let mut native = config.producer();
    native.set_log_level(RDKafkaLogLevel::Info);
    Ok(Arc::new(Client::from_config_and_context(&native, context)?))
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

fn publish_error(error: &KafkaError) -> PublishError {
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
        | Code::PurgeQueue
        | Code::PurgeInflight
        | Code::Fatal => PublishError::Unavailable,
        code => PublishError::Failed(code.to_string()),
    }
}

/// The acknowledgement of one [`Producer::publish`] call.
#[must_use = "the records count as published only once this resolves to Ok"]
pub struct Ack {
    batch: Arc<Batch>,
}

impl Future for Ack {
    type Output = Result<(), PublishError>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let batch = &self.batch;
        if batch.pending() {
            batch.waker.register(cx.waker());
            // The last report may have come between the look and the registration.
            if batch.pending() {
                return Poll::Pending;
            }
        }
        Poll::Ready(batch.error.get().cloned().map_or(Ok(()), Err))
    }
}

/// The records of one call, counted down by their delivery reports.
struct Batch {
    remaining: AtomicUsize,
    records: usize,
    bytes: usize,
    started: Instant,
    error: OnceLock<PublishError>,
    waker: AtomicWaker,
}

impl Batch {
    fn pending(&self) -> bool {
        self.remaining.load(Ordering::Acquire) > 0
    }

    /// Counts `records` reports; the last one gives the room back and wakes the caller.
    fn done(&self, records: usize, state: &State) {
        if self.remaining.fetch_sub(records, Ordering::AcqRel) != records {
            return;
        }
        state.records.fetch_sub(self.records, Ordering::Relaxed);
        state.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        state.metrics.in_flight_records.sub(self.records as i64);
        state.metrics.in_flight_bytes.sub(self.bytes as i64);
        state
            .metrics
            .publish_seconds
            .observe(self.started.elapsed().as_secs_f64());
        if let Some(error) = self.error.get() {
            state.failed(error);
        }
        self.waker.wake();
    }
}

impl State {
    fn failed(&self, error: &PublishError) {
        self.metrics
            .failures
            .with_label_values(&[error.reason()])
            .inc();
    }

    fn set_connected(&self, connected: bool) {
        // Looked at first: a store per delivery would bounce the cache line between cores.
        if self.connected.load(Ordering::Relaxed) != connected
            && self.connected.swap(connected, Ordering::Relaxed) != connected
        {
            tracing::info!(connected, "kafka producer connection");
        }
    }
}

/// librdkafka's callbacks; all run on the polling thread.
struct Context {
    state: Arc<State>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        forward_log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.state.set_connected(any_broker_up(&statistics));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => self.state.set_connected(false),
            Some(RDKafkaErrorCode::Fatal) => {
                tracing::error!(%error, reason, "kafka producer failed for good, it is replaced");
                self.state.set_connected(false);
                self.state.fatal.store(true, Ordering::Relaxed);
            }
            _ => tracing::debug!(%error, reason, "kafka producer"),
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Arc<Batch>;

    fn delivery(&self, result: &DeliveryResult<'_>, batch: Arc<Batch>) {
        match result {
            Ok(_) => self.state.set_connected(true),
            Err((error, _)) => {
                // Only the first error of a batch is kept.
                let _ = batch.error.set(publish_error(error));
            }
        }
        batch.done(1, &self.state);
    }
}

impl Shared {
    fn client(&self) -> Arc<Client> {
        Arc::clone(&self.client.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// An idempotent producer that lost its sequence can never send again: make a new one. What the
    /// old one still held fails with `Unavailable`.
    fn replace(&self) {
        match client(&self.config, &self.state) {
            Ok(fresh) => {
                let mut current = self.client.write().unwrap_or_else(PoisonError::into_inner);
                let old = std::mem::replace(&mut *current, fresh);
                drop(current);
                self.state.fatal.store(false, Ordering::Relaxed);
                // Purging answers every record the old client holds; a publisher may still hold
                // the client itself for a moment.
                old.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
                old.poll(Duration::ZERO);
            }
            Err(error) => tracing::error!(%error, "cannot replace the kafka producer"),
        }
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
            drop(client);
            if self.state.fatal.load(Ordering::Relaxed) {
                self.replace();
                probing = true;
            }
        }
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
