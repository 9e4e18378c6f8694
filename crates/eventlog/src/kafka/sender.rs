//! One librdkafka producer with its thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, Producer as _};

use super::delivery::{Context, State};
use super::error::ProducerError;

/// How long the polling thread waits for an event, hence how long a stop may take.
const POLL: Duration = Duration::from_millis(100);

pub(super) type Client = BaseProducer<Context>;

/// A librdkafka producer and the thread that polls it. A client that has failed for good is replaced.
pub(super) struct Sender {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    config: ClientConfig,
    client: RwLock<Arc<Client>>,
    state: Arc<State>,
    stop: AtomicBool,
}

impl Sender {
    /// Creates the client and its thread; does not wait for a broker.
    pub(super) fn start(config: ClientConfig, state: &Arc<State>) -> Result<Self, ProducerError> {
        let shared = Arc::new(Shared {
            client: RwLock::new(client(&config, state)?),
            config,
            state: Arc::clone(state),
            stop: AtomicBool::new(false),
        });
        let thread = std::thread::Builder::new()
            .name("kafka-producer".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || shared.run()
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// The client as it is now.
    pub(super) fn client(&self) -> Arc<Client> {
        self.shared.client()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the kafka producer's thread panicked");
        }
    }
}

fn client(config: &ClientConfig, state: &Arc<State>) -> Result<Arc<Client>, KafkaError> {
    let context = Context {
        state: Arc::clone(state),
    };
    Ok(Arc::new(Client::from_config_and_context(config, context)?))
}

impl Shared {
    fn client(&self) -> Arc<Client> {
        Arc::clone(&self.client.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn run(&self) {
        let mut probing = true;
        while !self.stop.load(Ordering::Relaxed) {
            let client = self.client();
            if probing {
                // Until the first statistics the state is unknown; the cluster's id comes sooner, with
                // the first metadata.
                if client.client().fetch_cluster_id(POLL).is_some() {
                    self.state.set_connected(true);
                    probing = false;
                }
                client.poll(Duration::ZERO);
            } else {
                client.poll(POLL);
            }
            if let Some((code, reason)) = client.client().fatal_error() {
                tracing::error!(%code, reason, "kafka producer failed for good, replacing it");
                drop(client);
                self.replace();
                probing = true;
            }
        }
    }

    /// Replaces the client: an idempotent producer that lost its sequence can never send again. What
    /// the old one still holds fails with `Unavailable`.
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
        // Purges and answers every record left, here or where a call drops the last reference.
        drop(old);
    }
}
