//! Messages of NATS JetStream as events (S4-04, S4-57): a durable consumer, pulled from; a message is
//! acknowledged once the event log has it.
//!
//! What is delivered again has the id it had before, so it is stored once: its own, or one made of the
//! `Nats-Msg-Id`, or of its place in the stream. What is no event goes to the log as it came, where it
//! becomes a dead letter: nothing is lost, and nothing bad stops the rest.

pub mod config;
pub mod message;
pub mod status;

use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use anyhow::{Context as _, ensure};
use async_nats::Event;
use async_nats::jetstream::consumer::{PullConsumer, pull};
use async_nats::jetstream::{self, AckKind, Message, stream};
use domain::TenantId;
use eventlog::nats::options;
use eventlog::{Outgoing, PublishError};
use futures_util::StreamExt as _;

use crate::state::State;
use config::NatsConfig;
use message::Taken;
use status::Status;

/// Messages taken at once.
const BATCH: usize = 200;
/// How long a server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// After this a message that was not acknowledged is delivered again.
const ACK_WAIT: Duration = Duration::from_secs(10);

/// Takes messages until it is aborted; what goes wrong is said and tried again.
pub async fn run(config: NatsConfig, status: Arc<Status>, state: web::Data<State>) {
    loop {
        if let Err(error) = session(&config, &status, &state).await {
            tracing::warn!(error = format!("{error:#}"), "NATS: trying again");
        }
        status.set_connected(false);
        tokio::time::sleep(PAUSE).await;
    }
}

async fn session(
    config: &NatsConfig,
    status: &Arc<Status>,
    state: &web::Data<State>,
) -> anyhow::Result<()> {
    let consumer = consumer(config, status).await?;
    status.set_connected(true);
    tracing::info!(
        stream = config.stream,
        subject = config.subject,
        "NATS: taking messages"
    );
    let messages = consumer
        .stream()
        .max_messages_per_batch(BATCH)
        .messages()
        .await
        .context("the consumer cannot be pulled from")?;
    let mut chunks = messages.ready_chunks(BATCH);
    while let Some(chunk) = chunks.next().await {
        let messages: Vec<Message> = chunk
            .into_iter()
            .collect::<Result<_, _>>()
            .context("the messages ended")?;
        take(status, &config.tenant, state, messages).await?;
    }
    Ok(())
}

/// Connects, and makes the stream and its consumer where there are none.
async fn consumer(config: &NatsConfig, status: &Arc<Status>) -> anyhow::Result<PullConsumer> {
    let seen = Arc::clone(status);
    let client = options(&config.servers)
        .name("tidegate-ingest")
        .connection_timeout(TIMEOUT)
        .event_callback(move |event| {
            let seen = Arc::clone(&seen);
            async move {
                match event {
                    Event::Connected => seen.set_connected(true),
                    Event::Disconnected | Event::Closed => seen.set_connected(false),
                    other => tracing::debug!(event = %other, "NATS"),
                }
            }
        })
        .connect(config.servers.clone())
        .await
        .context("no server can be reached")?;
    let context = jetstream::new(client);
    let made = context.get_or_create_stream(stream::Config {
        name: config.stream.clone(),
        subjects: vec![config.subject.clone()],
        ..stream::Config::default()
    });
    let stream = made
        .await
        .with_context(|| format!("no stream {}", config.stream))?;
    let wanted = pull::Config {
        durable_name: Some(config.consumer.clone()),
        filter_subject: config.subject.clone(),
        ack_wait: ACK_WAIT,
        max_ack_pending: 5 * BATCH as i64,
        ..pull::Config::default()
    };
    let consumer = stream
        .get_or_create_consumer(&config.consumer, wanted)
        .await
        .with_context(|| format!("no consumer {}", config.consumer))?;
    let filter = &consumer.cached_info().config.filter_subject;
    ensure!(
        *filter == config.subject,
        "the consumer {} takes {filter:?}, not {:?} (NATS_SUBJECT): name another one (NATS_CONSUMER)",
        config.consumer,
        config.subject
    );
    Ok(consumer)
}

/// Has the log take the messages, then acknowledges them.
async fn take(
    status: &Status,
    tenant: &TenantId,
    state: &State,
    messages: Vec<Message>,
) -> anyhow::Result<()> {
    let (mut records, mut taken) = (Vec::new(), Vec::new());
    for message in messages {
        let info = message
            .info()
            .map_err(anyhow::Error::from_boxed)
            .context("a message without its place in the stream")?;
        status.seen(info.pending, info.delivered > 1);
        let place = (info.stream, info.stream_sequence);
        match message::record(&message.message, place, tenant, state) {
            Taken::Record { record, result } => {
                status.count(result);
                records.push(record);
                taken.push(message);
            }
            Taken::Refused(reason) => refuse(status, &message, reason).await?,
        }
    }
    let mut too_large = vec![false; records.len()];
    if publish(state, &records, &taken).await.is_err() {
        // One of them is too large: the others are taken one by one.
        for (n, record) in records.iter().enumerate() {
            let (one, its) = (std::slice::from_ref(record), &taken[n..=n]);
            too_large[n] = publish(state, one, its).await.is_err();
        }
    }
    for (message, too_large) in taken.iter().zip(too_large) {
        if too_large {
            refuse(status, message, "too_large").await?;
        } else {
            let acknowledged = message.ack().await;
            acknowledged.map_err(anyhow::Error::from_boxed)?;
        }
    }
    Ok(())
}

/// Lets a message be: it stays in its stream, and is not delivered again.
async fn refuse(status: &Status, message: &Message, reason: &str) -> anyhow::Result<()> {
    status.count("refused");
    tracing::error!(
        subject = %message.subject, bytes = message.length, reason,
        "NATS: a message is refused; it stays in its stream only"
    );
    let told = message.ack_with(AckKind::Term).await;
    told.map_err(anyhow::Error::from_boxed)
}

/// A record is larger than the log accepts.
struct TooLarge;

/// Publishes until the log has them. Meanwhile NATS learns that the messages are being worked on.
async fn publish(
    state: &State,
    records: &[Outgoing],
    messages: &[Message],
) -> Result<(), TooLarge> {
    let mut said = false;
    loop {
        let error = match state.writer.publish(records.to_vec(), false).await {
            Ok(()) => return Ok(()),
            Err(PublishError::TooLarge) => return Err(TooLarge),
            Err(error) => error,
        };
        if !std::mem::replace(&mut said, true) {
            tracing::warn!(%error, "NATS: the event log takes nothing, messages wait");
        }
        tokio::time::sleep(PAUSE).await;
        for message in messages {
            // If it does not hear of it, it delivers them again.
            let _ = message.ack_with(AckKind::Progress).await;
        }
    }
}
