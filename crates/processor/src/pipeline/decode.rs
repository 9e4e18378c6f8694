//! Records → events with their rows, or the reason why not.

use std::collections::BTreeSet;

use base64::Engine as _;
use domain::envelope::Origin;
use domain::{Context, Event, EventStatus, Limits, TenantId, id, subject};
use eventlog::{Chunk, Permit, Record};
use store::dead_letters::DeadLetter;
use store::events::{FrozenRows, Rows};
use store::partitions::{Interval, Period};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

/// A batch ready to be written.
#[derive(Debug)]
pub struct Decoded {
    /// The records in the order of the log (of each partition).
    pub items: Vec<Item>,
    /// The rows of the events among them.
    pub rows: FrozenRows,
    /// The time partitions those rows go to.
    pub periods: BTreeSet<Period>,
    /// What holds the batch's share of the buffer until it is dropped.
    pub permits: Vec<Permit>,
}

/// One record and what it turned out to be.
#[derive(Debug)]
pub struct Item {
    /// The record, kept for its position and, should it become a dead letter, its bytes.
    pub record: Record,
    /// What it is.
    pub content: Content,
}

/// What a record turned out to be.
#[derive(Debug)]
pub enum Content {
    /// An event, with the index of its row.
    Event(Box<Event>, usize),
    /// Something that cannot be stored as an event.
    Dead(Box<DeadLetter>),
}

impl Item {
    /// Makes a dead letter of a record that the database refused.
    pub fn condemn(&mut self, reason: &str, detail: &str) {
        let tenant = match &self.content {
            Content::Event(event, _) => event.tenant_id.clone(),
            Content::Dead(letter) => letter.tenant_id.clone(),
        };
        self.content = Content::Dead(Box::new(dead_letter(&self.record, tenant, reason, detail)));
    }
}

/// Decodes batches.
#[derive(Debug, Clone)]
pub struct Decoder {
    limits: Limits,
    topic_prefix: String,
    interval: Interval,
    postgres: bool,
}

impl Decoder {
    /// A decoder with these limits; `interval` says which partitions the rows will need.
    #[must_use]
    pub fn new(limits: Limits, topic_prefix: String, interval: Interval) -> Self {
        Self {
            limits,
            topic_prefix,
            interval,
            postgres: false,
        }
    }

    /// The same for records of the Postgres log, whose places must not be taken for Kafka's.
    #[must_use]
    pub fn of_postgres_log(self) -> Self {
        Self {
            postgres: true,
            ..self
        }
    }

    /// Decodes every record. Never fails: what cannot be decoded becomes a dead letter.
    #[must_use]
    pub fn decode(&self, chunks: Vec<Chunk>) -> Decoded {
        let now = service::clock::now();
        let mut items = Vec::with_capacity(chunks.iter().map(|c| c.records.len()).sum());
        let mut rows = Rows::default();
        let mut periods = BTreeSet::new();
        let mut permits = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            permits.push(chunk.permit);
            for record in chunk.records {
                let content = match self.event(&record, now) {
                    Ok(event) => {
                        periods.insert(self.interval.period(event.timestamp));
                        // No handler waits for events yet, so they are stored as processed.
                        rows.push(&event, EventStatus::Processed, now);
                        Content::Event(Box::new(event), rows.len() - 1)
                    }
                    Err((tenant, reason, detail)) => {
                        Content::Dead(Box::new(dead_letter(&record, tenant, reason, &detail)))
                    }
                };
                items.push(Item { record, content });
            }
        }
        Decoded {
            items,
            rows: rows.freeze(),
            periods,
            permits,
        }
    }

    pub(crate) fn event(
        &self,
        record: &Record,
        now: OffsetDateTime,
    ) -> Result<Event, (TenantId, &'static str, String)> {
        let tenant = match record
            .header(subject::HEADER_TENANT)
            .map(std::str::from_utf8)
        {
            None | Some(Ok("")) => TenantId::default(),
            Some(Ok(name)) => TenantId::parse(name).ok_or_else(|| illegal_tenant(name))?,
            Some(Err(_)) => return Err(illegal_tenant("not UTF-8")),
        };
        let Some(payload) = record.payload.as_deref().filter(|bytes| !bytes.is_empty()) else {
            return Err((tenant, "no_payload", "the record has no payload".to_owned()));
        };
        let name = record
            .topic
            .strip_prefix(&self.topic_prefix)
            .unwrap_or(&record.topic);
        let (default_source, default_category) = subject::defaults(name);
        let content_type = record
            .header(subject::HEADER_CONTENT_TYPE)
            .and_then(|v| std::str::from_utf8(v).ok());
        let cx = Context {
            origin: Origin::Log,
            tenant: &tenant,
            received_at: received_at(record, now),
            // Known from an event with an id of its own, which never is nil; most have one, and
            // the id of a place in the log costs two hashes.
            fresh_id: Uuid::nil(),
            default_source,
            default_category,
            content_type,
            limits: self.limits,
        };
        let mut event = domain::decode(payload, &cx)
            .map_err(|error| (tenant.clone(), error.reason(), error.to_string()))?;
        if event.event_id.is_nil() {
            let of_place = if self.postgres {
                id::from_postgres_log
            } else {
                id::from_log_position
            };
            event.event_id = of_place(
                &event.tenant_id,
                name,
                record.partition,
                record.offset,
                record.timestamp_ms,
            );
        }
        Ok(event)
    }
}

/// When the record was written, by its own word unless that lies in the future.
fn received_at(record: &Record, now: OffsetDateTime) -> OffsetDateTime {
    record
        .timestamp_ms
        .and_then(|ms| OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok())
        .filter(|at| *at > OffsetDateTime::UNIX_EPOCH && *at <= now + Duration::HOUR)
        .unwrap_or(now)
}

fn illegal_tenant(name: &str) -> (TenantId, &'static str, String) {
    (
        TenantId::default(),
        "illegal_value",
        format!("header tenant: no tenant name: {name:?}"),
    )
}

fn dead_letter(record: &Record, tenant_id: TenantId, reason: &str, detail: &str) -> DeadLetter {
    DeadLetter {
        tenant_id,
        topic: record.topic.to_string(),
        partition: record.partition,
        offset: record.offset,
        key: record.key.clone(),
        headers: headers(record),
        payload: record.payload.clone(),
        reason: reason.to_owned(),
        detail: detail.to_owned(),
    }
}

/// The headers as a JSON object of texts. A value that is no text, or one that `jsonb` cannot hold,
/// stands as `base64:…`.
fn headers(record: &Record) -> String {
    let headers: serde_json::Map<String, serde_json::Value> = record
        .headers
        .iter()
        .map(|(name, value)| {
            let text = match std::str::from_utf8(value) {
                Ok(text) if !text.contains('\0') => text.to_owned(),
                _ => format!(
                    "base64:{}",
                    base64::engine::general_purpose::STANDARD.encode(value)
                ),
            };
            (name.replace('\0', "\u{fffd}"), text.into())
        })
        .collect();
    serde_json::Value::Object(headers).to_string()
}
