//! Publishing to a stream of JetStream.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use async_nats::connection::State as Connection;
use async_nats::jetstream::context::{PublishAckFuture, PublishErrorKind};
use async_nats::jetstream::{self, Context, stream};
use async_nats::{Client, HeaderMap};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::servers::{ServerAddr, options};
use crate::future::BoxFuture;
use crate::publisher::{Acknowledgement, PublishError, Publisher};
use crate::record::Outgoing;

/// How long a server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// Records that may wait for their acknowledgement.
const MOST: usize = 10_000;
/// The header whose value follows the topic in a record's subject.
const SUBJECT: &str = "subject";

/// The stream.
#[derive(Debug, Clone)]
pub struct StreamConfig {
    /// The servers, with user and password where they need one.
    pub servers: Vec<ServerAddr>,
    /// Its name; made where there is none, with all subjects below the name.
    pub name: String,
    /// How long a stream that is made keeps its messages.
    pub retention: Duration,
}

/// Publishes to a stream, in order. A record's subject is its topic, a dot, and its header `subject`;
/// its headers go along, among them `Nats-Msg-Id`, by which the server drops what is sent again. Once it
/// is dropped, what is enqueued is still sent.
pub struct JetStream {
    queue: UnboundedSender<Sending>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Once the stream is there.
    client: Mutex<Option<Client>>,
    waiting: AtomicUsize,
}

impl State {
    fn set(&self, client: Option<Client>) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client;
    }
}

/// A record, and who waits for it. Dropped, it is not sent.
struct Sending {
    record: Outgoing,
    answer: Option<oneshot::Sender<Result<(), PublishError>>>,
    state: Arc<State>,
}

impl Sending {
    fn answer(mut self, result: Result<(), PublishError>) {
        if let Some(answer) = self.answer.take() {
            // Nobody may wait for it any more.
            let _ = answer.send(result);
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.state.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl JetStream {
    /// Starts the task that connects and publishes; waits for nothing ([`Publisher::connected`] tells).
    /// Must be called within a tokio runtime.
    #[must_use]
    pub fn start(config: StreamConfig) -> Self {
        let state = Arc::<State>::default();
        let (queue, records) = unbounded_channel();
        tokio::spawn(run(config, Arc::clone(&state), records));
        Self { queue, state }
    }
}

impl Publisher for JetStream {
    fn publish(&self, records: &[Outgoing]) -> Result<Acknowledgement, PublishError> {
        if !self.connected() {
            return Err(PublishError::Unavailable);
        }
        if self.state.waiting.load(Ordering::Relaxed) + records.len() > MOST {
            return Err(PublishError::Full);
        }
        let mut answers = Vec::with_capacity(records.len());
        for record in records {
            let (answer, answered) = oneshot::channel();
            self.state.waiting.fetch_add(1, Ordering::Relaxed);
            let sending = Sending {
                record: record.clone(),
                answer: Some(answer),
                state: Arc::clone(&self.state),
            };
            // One that comes back, because the runtime is shutting down, answers for itself.
            let _ = self.queue.send(sending);
            answers.push(answered);
        }
        Ok(Box::pin(async move {
            let mut all = Ok(());
            for answered in answers {
                let result = answered.await.unwrap_or(Err(PublishError::Unavailable));
                all = all.and(result);
            }
            all
        }))
    }

    fn connected(&self) -> bool {
        let client = self.state.client.lock();
        let client = client.unwrap_or_else(PoisonError::into_inner);
        let connected = |client: &Client| client.connection_state() == Connection::Connected;
        client.as_ref().is_some_and(connected)
    }

    fn flush(&self, limit: Duration) -> BoxFuture<'_, Result<(), PublishError>> {
        let empty = async {
            while self.state.waiting.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        Box::pin(async move {
            tokio::time::timeout(limit, empty)
                .await
                .map_err(|_| PublishError::Unavailable)
        })
    }
}

/// Publishes until nobody has anything more to say; what goes wrong is said and tried again.
async fn run(config: StreamConfig, state: Arc<State>, mut records: UnboundedReceiver<Sending>) {
    while !records.is_closed() || !records.is_empty() {
        match context(&config).await {
            Ok((client, context)) => {
                state.set(Some(client));
                tracing::info!(stream = config.name, "NATS: announcing");
                publish(&context, &mut records).await;
            }
            Err(error) => tracing::warn!(
                error = format!("{error:#}"),
                "NATS: announcements wait, trying again"
            ),
        }
        state.set(None);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Connects, and makes the stream where there is none.
async fn context(config: &StreamConfig) -> anyhow::Result<(Client, Context)> {
    let client = options(&config.servers)
        .name("tidegate-announcements")
        .connection_timeout(TIMEOUT)
        .event_callback(async |event| tracing::info!(%event, "NATS: announcements"))
        .connect(config.servers.clone())
        .await
        .context("no server can be reached")?;
    let mut context = jetstream::new(client.clone());
    context.set_timeout(TIMEOUT);
    let made = context.get_or_create_stream(stream::Config {
        name: config.name.clone(),
        subjects: vec![format!("{}.>", config.name)],
        max_age: config.retention,
        ..stream::Config::default()
    });
    made.await
        .with_context(|| format!("no stream {}", config.name))?;
    Ok((client, context))
}

/// Publishes what comes, until the queue has ended or the stream is gone.
async fn publish(context: &Context, records: &mut UnboundedReceiver<Sending>) {
    let mut out = FuturesUnordered::new();
    let mut open = true;
    while open || !out.is_empty() {
        let gone = tokio::select! {
            // Acknowledgements first: they make room.
            biased;
            Some(gone) = out.next() => gone,
            next = records.recv(), if open => match next {
                None => {
                    open = false;
                    false
                }
                Some(sending) => {
                    let record = &sending.record;
                    let (subject, headers) = (subject(record), headers(record));
                    // In order: each is handed to the connection before the next one.
                    match context.publish_with_headers(subject, headers, record.payload.clone()).await {
                        Ok(acknowledged) => {
                            out.push(acknowledge(sending, acknowledged));
                            false
                        }
                        Err(error) => settle(sending, Err(error.kind())),
                    }
                }
            },
        };
        if gone {
            return;
        }
    }
}

async fn acknowledge(sending: Sending, acknowledged: PublishAckFuture) -> bool {
    let result = acknowledged.await;
    settle(sending, result.map(|_| ()).map_err(|error| error.kind()))
}

/// Answers for a record; whether the stream is gone.
fn settle(sending: Sending, result: Result<(), PublishErrorKind>) -> bool {
    let (result, gone) = match result {
        Ok(()) => (Ok(()), false),
        Err(PublishErrorKind::MaxPayloadExceeded) => (Err(PublishError::TooLarge), false),
        Err(PublishErrorKind::StreamNotFound) => (Err(PublishError::Unavailable), true),
        Err(PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe) => {
            (Err(PublishError::Unavailable), false)
        }
        Err(PublishErrorKind::MaxAckPending) => (Err(PublishError::Full), false),
        Err(other) => (Err(PublishError::Failed(other.to_string())), false),
    };
    sending.answer(result);
    gone
}

fn subject(record: &Outgoing) -> String {
    let own = record.headers.iter().find(|(name, _)| *name == SUBJECT);
    let own = own.map_or(&b""[..], |(_, value)| value);
    format!("{}.{}", record.topic, String::from_utf8_lossy(own))
}

/// A value that NATS cannot carry is left out.
fn headers(record: &Outgoing) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in record.headers.iter() {
        if let Ok(value) = String::from_utf8_lossy(value).parse::<async_nats::HeaderValue>() {
            headers.insert(name, value);
        }
    }
    headers
}
