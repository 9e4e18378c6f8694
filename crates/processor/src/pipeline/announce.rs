//! Tells the world what was stored: `event.stored` on `event-stream` (S4-98), at least once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::{Event, EventCategory, EventSource, Json, TenantId, stream, subject, timestamp};
use eventlog::kafka::{Handle, Producer};
use eventlog::{Headers, Outgoing, PublishError};
use eventlog::{Publisher as _, Source as _};
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use serde::Serialize;
use store::announcements::{self, Announced};
use store::{Database, Error};
use time::OffsetDateTime;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::write::Stored;
use crate::metrics::Metrics;

/// Announcements sent and acknowledged together.
const PER_PUBLISH: usize = 1_000;

/// Batches of one line on their way to the broker.
const IN_FLIGHT: usize = 2;

/// How often announcements that are due are looked for although nobody said so.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The announcing stage of one line.
pub struct Announcer {
    producer: Arc<Producer>,
    consumer: Handle,
    topic: Arc<str>,
    metrics: Arc<Metrics>,
}

impl Announcer {
    /// Announces on that topic (full name).
    #[must_use]
    pub fn new(
        producer: Arc<Producer>,
        consumer: Handle,
        topic: String,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            producer,
            consumer,
            topic: topic.into(),
            metrics,
        }
    }

    /// Announces every batch that comes, then marks its records as done. Only that lets Kafka's
    /// committed offset move: what a crash leaves unannounced is read again and announced then.
    pub async fn run(self, mut input: mpsc::Receiver<Stored>) {
        let mut in_flight = FuturesOrdered::new();
        let mut open = true;
        while open || !in_flight.is_empty() {
            tokio::select! {
                Some(batch) = in_flight.next() => self.finish(batch),
                batch = input.recv(), if open && in_flight.len() < IN_FLIGHT => match batch {
                    Some(batch) => in_flight.push_back(self.announce(batch)),
                    None => open = false,
                },
            }
        }
    }

    /// The batch's permits end here, after its records are marked as done.
    fn finish(&self, batch: Stored) {
        for ((topic, partition), next) in &batch.done {
            self.consumer.mark_done(topic, *partition, *next);
        }
    }

    async fn announce(&self, mut batch: Stored) -> Stored {
        let events = std::mem::take(&mut batch.announce);
        // All are sent before the first acknowledgement is awaited: on a busy machine an
        // acknowledgement takes many scheduling rounds, whatever it acknowledges.
        let mut sent = Vec::with_capacity(events.len() / PER_PUBLISH + 1);
        for events in events.chunks(PER_PUBLISH) {
            let records = records(&self.topic, events);
            sent.push((self.producer.publish(&records), records));
        }
        drop(events);
        for (published, records) in sent {
            let result = match published {
                Ok(acknowledged) => acknowledged.await,
                Err(error) => Err(error),
            };
            match result {
                Ok(()) => self.metrics.announced(records.len()),
                Err(error) => self.insist(&records, error).await,
            }
        }
        batch
    }

    /// Publishes again until it works. A message that the broker will never take must not hold up
    /// the others for ever; the event itself is stored.
    async fn insist(&self, records: &[Outgoing], mut error: PublishError) {
        let mut pause = Duration::from_millis(50);
        loop {
            if matches!(error, PublishError::TooLarge | PublishError::Failed(_)) {
                tracing::error!(error = %error, events = records.len(), "announcements refused");
                return self.metrics.announcements_failed(records.len());
            }
            if error == PublishError::Unavailable {
                tracing::warn!(error = %error, retry_in_ms = pause.as_millis(), "announcing waits");
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
            error = match self.producer.publish(records) {
                Ok(acknowledged) => match acknowledged.await {
                    Ok(()) => return self.metrics.announced(records.len()),
                    Err(error) => error,
                },
                Err(error) => error,
            };
        }
    }
}

/// Announces what the storing transactions noted as due: what came through the Postgres log. Storing
/// goes on whether or not Kafka can be reached; what waits for it costs a small row per event.
pub struct DueAnnouncer {
    db: Database,
    producer: Arc<Producer>,
    topic: Arc<str>,
    metrics: Arc<Metrics>,
}

impl DueAnnouncer {
    /// Announces on that topic (full name).
    #[must_use]
    pub fn new(
        db: Database,
        producer: Arc<Producer>,
        topic: String,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            db,
            producer,
            topic: topic.into(),
            metrics,
        }
    }

    /// Announces whenever told that something was stored, and every few seconds what others left
    /// behind, until nobody is left to tell it: then once more, and what is due still, the next one
    /// announces.
    pub async fn run(self, mut told: mpsc::Receiver<()>) {
        let mut open = true;
        while open {
            if let Ok(next) = tokio::time::timeout(LOOK_EVERY, told.recv()).await {
                open = next.is_some();
            }
            while self.producer.connected() {
                match self.announce().await {
                    // The end must not wait for all that an outage left.
                    Ok(Announced::Some) if told.is_closed() => break,
                    Ok(Announced::Some) => {}
                    Ok(Announced::Nothing | Announced::NotNow) => break,
                    Err(error) => {
                        tracing::warn!(error = %error, "announcements that are due must wait");
                        break;
                    }
                }
            }
        }
    }

    async fn announce(&self) -> Result<Announced, Error> {
        let limit = i64::try_from(PER_PUBLISH).unwrap_or(i64::MAX);
        announcements::announce(&self.db, limit, async |events: Vec<Event>| {
            let records = records(&self.topic, &events);
            match self.publish(&records).await {
                Ok(()) => {
                    self.metrics.announced(records.len());
                    true
                }
                Err(PublishError::Full | PublishError::Unavailable) => false,
                // One of them is to blame: each for itself.
                Err(_) => self.publish_each(&records).await,
            }
        })
        .await
    }

    /// False if the broker went away meanwhile; what it will never take is given up.
    async fn publish_each(&self, records: &[Outgoing]) -> bool {
        for record in records {
            match self.publish(std::slice::from_ref(record)).await {
                Ok(()) => self.metrics.announced(1),
                Err(PublishError::Full | PublishError::Unavailable) => return false,
                Err(error) => {
                    tracing::error!(error = %error, "announcement refused");
                    self.metrics.announcements_failed(1);
                }
            }
        }
        true
    }

    async fn publish(&self, records: &[Outgoing]) -> Result<(), PublishError> {
        self.producer.publish(records)?.await
    }
}

fn records(topic: &Arc<str>, events: &[Event]) -> Vec<Outgoing> {
    // Most batches are of one tenant, and headers are cheap to clone.
    let mut of_tenant: Option<(&TenantId, Headers)> = None;
    events
        .iter()
        .map(|event| {
            let headers = match &of_tenant {
                Some((tenant, headers)) if **tenant == event.tenant_id => headers.clone(),
                _ => of_tenant
                    .insert((&event.tenant_id, headers(&event.tenant_id)))
                    .1
                    .clone(),
            };
            Outgoing {
                topic: Arc::clone(topic),
                key: stream::log_key(event).into_bytes(),
                headers,
                payload: payload(event).into(),
            }
        })
        .collect()
}

fn headers(tenant: &TenantId) -> Headers {
    Headers::from_iter([
        (
            subject::HEADER_SUBJECT,
            Bytes::from_static(subject::EVENT_STORED.as_bytes()),
        ),
        (
            subject::HEADER_TENANT,
            Bytes::copy_from_slice(tenant.as_str().as_bytes()),
        ),
        (
            subject::HEADER_CONTENT_TYPE,
            Bytes::from_static(subject::CONTENT_TYPE.as_bytes()),
        ),
    ])
}

/// The payload of `event.stored` (S4-98).
#[derive(Serialize)]
struct EventStored<'a> {
    event_id: Uuid,
    event_type: &'a str,
    event_source: EventSource,
    event_category: EventCategory,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    organization_id: Option<&'a str>,
    #[serde(serialize_with = "timestamp::serialize")]
    timestamp: OffsetDateTime,
    data: &'a Json,
}

fn payload(event: &Event) -> Vec<u8> {
    let stored = EventStored {
        event_id: event.event_id,
        event_type: &event.event_type,
        event_source: event.event_source,
        event_category: event.event_category,
        user_id: event.user_id.as_deref(),
        organization_id: event.organization_id.as_deref(),
        timestamp: event.timestamp,
        data: &event.data,
    };
    // Writing to memory cannot fail.
    serde_json::to_vec(&stored).unwrap_or_default()
}

#[cfg(test)]
mod tests;
