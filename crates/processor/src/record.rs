//! Record → event, or why not. Pure: storing, live delivery and the dry run decode alike.

use domain::envelope::Origin;
use domain::redriven::{HEADER_DEAD_LETTER, Place};
use domain::{Context, Event, Limits, TenantId, id, subject};
use eventlog::Record;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

/// Decodes records of one log.
#[derive(Debug, Clone)]
pub struct RecordDecoder {
    limits: Limits,
    topic_prefix: String,
    is_postgres: bool,
}

/// Why a record is no event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecodable {
    /// Whose it is, as far as the record says.
    pub tenant_id: TenantId,
    /// A stable, bounded word: `invalid_json`, `wrong_type`, …
    pub reason: &'static str,
    /// A sentence, with the path of the field.
    pub detail: String,
}

impl RecordDecoder {
    /// Decodes records of Kafka. `topic_prefix` is no part of a topic's meaning.
    #[must_use]
    pub fn kafka(limits: Limits, topic_prefix: &str) -> Self {
        Self {
            limits,
            topic_prefix: topic_prefix.to_owned(),
            is_postgres: false,
        }
    }

    /// Decodes records of the Postgres log, whose positions must not be taken for Kafka's.
    #[must_use]
    pub fn postgres(limits: Limits, topic_prefix: &str) -> Self {
        Self {
            is_postgres: true,
            ..Self::kafka(limits, topic_prefix)
        }
    }

    /// Where a record stood first. Only in the Postgres log are records that were dead letters.
    #[must_use]
    pub fn place(&self, record: &Record) -> Place {
        let before = self.is_postgres.then(|| record.header(HEADER_DEAD_LETTER));
        before.flatten().and_then(Place::parse).unwrap_or(Place {
            dead_letter: None,
            from_postgres: self.is_postgres,
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
        })
    }

    /// Decodes a record.
    ///
    /// # Errors
    /// Why it is no event.
    pub fn decode(&self, record: &Record, now: OffsetDateTime) -> Result<Event, Undecodable> {
        let tenant_id = match record
            .header(subject::HEADER_TENANT)
            .map(std::str::from_utf8)
        {
            None | Some(Ok("")) => TenantId::default(),
            Some(Ok(name)) => TenantId::parse(name).ok_or_else(|| illegal_tenant(name))?,
            Some(Err(_)) => return Err(illegal_tenant("not UTF-8")),
        };
        let Some(payload) = record.payload.as_deref().filter(|bytes| !bytes.is_empty()) else {
            return Err(Undecodable {
                tenant_id,
                reason: "no_payload",
                detail: "the record has no payload".to_owned(),
            });
        };
        let name = record
            .topic
            .strip_prefix(&self.topic_prefix)
            .unwrap_or(&record.topic);
        let (default_source, default_category) = subject::defaults(name);
        let content_type = record
            .header(subject::HEADER_CONTENT_TYPE)
            .and_then(|value| std::str::from_utf8(value).ok());
        let place = self.place(record);
        let cx = Context {
            origin: Origin::Log,
            tenant: &tenant_id,
            received_at: received_at(place.timestamp_ms, now),
            // Known from an event with an id of its own, which never is nil; most have one, and
            // the id of a position in the log costs two hashes.
            fresh_id: Uuid::nil(),
            default_source,
            default_category,
            content_type,
            limits: self.limits,
        };
        let mut event = domain::decode(payload, &cx).map_err(|error| Undecodable {
            tenant_id: tenant_id.clone(),
            reason: error.reason(),
            detail: error.to_string(),
        })?;
        if event.event_id.is_nil() {
            let id_of = if place.from_postgres {
                id::from_postgres_log
            } else {
                id::from_log_position
            };
            event.event_id = id_of(
                &event.tenant_id,
                name,
                place.partition,
                place.offset,
                place.timestamp_ms,
            );
        }
        Ok(event)
    }
}

/// When the record was written, by its own word unless that lies in the future.
fn received_at(timestamp_ms: Option<i64>, now: OffsetDateTime) -> OffsetDateTime {
    timestamp_ms
        .and_then(|ms| OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok())
        .filter(|at| *at > OffsetDateTime::UNIX_EPOCH && *at <= now + Duration::HOUR)
        .unwrap_or(now)
}

fn illegal_tenant(name: &str) -> Undecodable {
    Undecodable {
        tenant_id: TenantId::default(),
        reason: "illegal_value",
        detail: format!("header tenant: no tenant name: {name:?}"),
    }
}
