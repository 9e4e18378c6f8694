//! Record → event, or why not. Pure: storing, live delivery and the dry run decode alike.

use std::borrow::Cow;
use std::sync::Arc;

use domain::envelope::{Origin, binary, is_cloudevents};
use domain::personal::PersonalData;
use domain::redriven::{HEADER_DEAD_LETTER, RecordOrigin};
use domain::{Context, DecodeError, Event, Limits, TenantId, id, subject};
use eventlog::Record;
use time::macros::datetime;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::tenant_topics::TenantTopics;

/// Decodes records of one log.
#[derive(Debug, Clone)]
pub struct RecordDecoder {
    limits: Limits,
    topic_prefix: String,
    is_postgres: bool,
    tenants: TenantTopics,
    personal: Arc<PersonalData>,
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
            tenants: TenantTopics::default(),
            personal: Arc::default(),
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

    /// The same with these rules of whose records are believed their tenant.
    #[must_use]
    pub fn believing(self, tenants: &TenantTopics) -> Self {
        Self {
            tenants: tenants.clone(),
            ..self
        }
    }

    /// The same that does this with personal data.
    #[must_use]
    pub fn protecting(self, personal: &Arc<PersonalData>) -> Self {
        Self {
            personal: Arc::clone(personal),
            ..self
        }
    }

    /// Where a record stood first. Only in the Postgres log are records that were dead letters.
    #[must_use]
    pub fn origin(&self, record: &Record) -> RecordOrigin {
        let before = self.is_postgres.then(|| record.header(HEADER_DEAD_LETTER));
        before
            .flatten()
            .and_then(RecordOrigin::parse)
            .unwrap_or(RecordOrigin {
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
        let name = record
            .topic
            .strip_prefix(&self.topic_prefix)
            .unwrap_or(&record.topic);
        let origin = self.origin(record);
        let tenant_id = self.tenant(record, name, &origin)?;
        let refuse = |error: DecodeError| Undecodable {
            tenant_id: tenant_id.clone(),
            reason: error.reason(),
            detail: error.to_string(),
        };
        let content = content(record).map_err(refuse)?;
        if content.payload.is_empty() {
            return Err(Undecodable {
                tenant_id,
                reason: "no_payload",
                detail: "the record has no payload".to_owned(),
            });
        }
        let (default_source, default_category) = subject::defaults(name);
        let cx = Context {
            origin: Origin::Log,
            tenant: &tenant_id,
            received_at: received_at(origin.timestamp_ms, now),
            now,
            // Known from an event with an id of its own, which never is nil; most have one, and
            // the id of a position in the log costs two hashes.
            fresh_id: Uuid::nil(),
            default_source,
            default_category,
            content_type: content.media_type,
            limits: self.limits,
        };
        let mut event = domain::decode(&content.payload, &cx).map_err(refuse)?;
        // What a gateway took names the same tenant twice. Nobody names one in the header, who may, and
        // another in the event.
        let other = event.tenant_id != tenant_id;
        if other && (says(record) || !self.speaks_for_all(name, &origin)) {
            return Err(not_its(tenant_id, &event.tenant_id));
        }
        if event.event_id.is_nil() {
            let id_of = if origin.from_postgres {
                id::from_postgres_log
            } else {
                id::from_log_position
            };
            event.event_id = id_of(
                &event.tenant_id,
                name,
                origin.partition,
                origin.offset,
                origin.timestamp_ms,
            );
        }
        self.personal.apply(&mut event);
        Ok(event)
    }

    /// Whose a record is: whose it says, where that is believed.
    fn tenant(
        &self,
        record: &Record,
        topic: &str,
        origin: &RecordOrigin,
    ) -> Result<TenantId, Undecodable> {
        let header = record.header(subject::HEADER_TENANT);
        let said = match header.map(std::str::from_utf8) {
            None | Some(Ok("")) => None,
            Some(Ok(name)) => Some(TenantId::parse(name).ok_or_else(|| illegal_tenant(name))?),
            Some(Err(_)) => return Err(illegal_tenant("not UTF-8")),
        };
        let owner = if self.speaks_for_all(topic, origin) {
            None
        } else {
            self.tenants.owner(topic)
        };
        match (owner, said) {
            (None, said) => Ok(said.unwrap_or_default()),
            (Some(owner), Some(other)) if other != owner => Err(not_its(owner, &other)),
            (Some(owner), _) => Ok(owner),
        }
    }

    /// Whether a record is believed the tenant it names. What is on the Postgres log a gateway took, but
    /// for what was a dead letter.
    fn speaks_for_all(&self, topic: &str, origin: &RecordOrigin) -> bool {
        let from_gateway = self.is_postgres && origin.dead_letter.is_none();
        from_gateway || self.tenants.owner(topic).is_none()
    }
}

/// Whether a record names its tenant in the header.
fn says(record: &Record) -> bool {
    let header = record.header(subject::HEADER_TENANT);
    header.is_some_and(|name| !name.is_empty())
}

fn not_its(tenant_id: TenantId, said: &TenantId) -> Undecodable {
    Undecodable {
        detail: format!(
            "tenant: the record is of {tenant_id} and must not name {said}; see TENANT_TOPICS"
        ),
        tenant_id,
        reason: "tenant",
    }
}

/// What a record says, as one JSON text.
#[derive(Debug)]
pub struct Content<'a> {
    /// The text: the payload, or what headers and payload of a CloudEvent in binary mode say. Empty
    /// where there is none.
    pub payload: Cow<'a, [u8]>,
    /// What it is declared to be.
    pub media_type: Option<&'a str>,
}

/// Reads what a record says.
///
/// # Errors
/// A CloudEvent in binary mode whose data is not of its own media type.
pub fn content(record: &Record) -> Result<Content<'_>, DecodeError> {
    const PREFIX: &str = "ce_";
    let payload = record.payload.as_deref().unwrap_or_default();
    let media_type = record.header(subject::HEADER_CONTENT_TYPE);
    let media_type = media_type.and_then(|value| std::str::from_utf8(value).ok());
    let headers = record.headers.iter();
    let attributes = headers.filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?, value)));
    let is_binary = attributes
        .clone()
        .any(|(name, _)| binary::REQUIRED.contains(&name));
    if !is_binary || media_type.is_some_and(is_cloudevents) {
        return Ok(Content {
            payload: payload.into(),
            media_type,
        });
    }
    if let Some((name, _)) = attributes
        .clone()
        .find(|(_, value)| std::str::from_utf8(value).is_err())
    {
        return Err(DecodeError::Syntax(format!(
            "header {PREFIX}{name}: not UTF-8"
        )));
    }
    let attributes = attributes.map(|(name, value)| (name, String::from_utf8_lossy(value)));
    let text = binary::structured(attributes, media_type, payload)?;
    Ok(Content {
        payload: text.into_bytes().into(),
        media_type: Some(binary::MEDIA_TYPE),
    })
}

/// Kafka is no older; a smaller number is a time in seconds, or none.
const KAFKA: OffsetDateTime = datetime!(2011-01-01 0:00 UTC);

/// When the record was written, by its own word where that can be.
fn received_at(timestamp_ms: Option<i64>, now: OffsetDateTime) -> OffsetDateTime {
    timestamp_ms
        .and_then(|ms| OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok())
        .filter(|at| (KAFKA..=now + Duration::HOUR).contains(at))
        .unwrap_or(now)
}

fn illegal_tenant(name: &str) -> Undecodable {
    Undecodable {
        tenant_id: TenantId::default(),
        reason: "illegal_value",
        detail: format!("header tenant: no tenant name: {name:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-05-01 12:00:00.123456 UTC);

    fn record(headers: &[(&str, &str)], payload: &str) -> Record {
        let headers = headers.iter();
        Record {
            topic: "events.backend.service".into(),
            partition: 1,
            offset: 7,
            timestamp_ms: Some(1_777_000_000_000),
            key: None,
            headers: headers
                .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
                .collect(),
            payload: Some(payload.into()),
        }
    }

    fn decode(record: &Record) -> Result<Event, Undecodable> {
        RecordDecoder::kafka(Limits::default(), "").decode(record, NOW)
    }

    #[test]
    fn a_cloudevent_in_binary_mode_is_the_event_its_headers_say() {
        let headers = [
            ("ce_specversion", "1.0"),
            ("ce_id", "eu/17"),
            ("ce_source", "/shop%20"),
            ("ce_type", "order.placed"),
            ("content-type", "application/json; charset=utf-8"),
        ];
        let event = decode(&record(&headers, r#"{"type":"x","event_type":"y"}"#)).unwrap();
        assert_eq!(event.event_type, "order.placed");
        let own = id::Space::CloudEvent("/shop%20");
        assert_eq!(event.event_id, own.event_id(&TenantId::default(), "eu/17"));
        assert_eq!(event.data.as_str(), r#"{"type":"x","event_type":"y"}"#);
        let empty = Record {
            payload: None,
            ..record(&headers, "")
        };
        assert!(decode(&empty).unwrap().data.is_empty());
        for (headers, payload, reason) in [
            (&headers[..], "{", "invalid_json"),
            (&headers[1..], "{}", "missing"),
            (&[][..], "", "no_payload"),
        ] {
            assert_eq!(
                decode(&record(headers, payload)).unwrap_err().reason,
                reason
            );
        }
        let mut odd = record(&headers, "{}");
        odd.headers[1].1 = vec![0xff];
        assert_eq!(decode(&odd).unwrap_err().detail, "header ce_id: not UTF-8");
    }

    #[test]
    fn the_time_of_a_record_counts_for_an_event_without_one_where_it_can_be() {
        let days_ago = NOW - Duration::days(3);
        let millis = |at: OffsetDateTime| at.unix_timestamp() * 1_000;
        for (written, counts) in [
            (millis(days_ago), true),
            (millis(NOW + Duration::minutes(30)), true),
            (days_ago.unix_timestamp(), false),
            (millis(days_ago) * 1_000, false),
            (millis(NOW + Duration::hours(2)), false),
            (-1, false),
            (0, false),
        ] {
            let mut record = record(&[], r#"{"event_type":"a"}"#);
            record.timestamp_ms = Some(written);
            let event = decode(&record).unwrap();
            let want = if counts {
                written * 1_000
            } else {
                NOW.unix_timestamp_nanos() as i64 / 1_000
            };
            assert_eq!(
                event.timestamp.unix_timestamp_nanos() / 1_000,
                i128::from(want),
                "{written}"
            );
            // An event of now is an event of now, whatever its record says.
            record.payload = Some(
                br#"{"event_type":"a","data":{},"timestamp":"2026-05-01T12:00:00.1Z"}"#.to_vec(),
            );
            assert_eq!(
                decode(&record).unwrap().timestamp,
                datetime!(2026-05-01 12:00:00.1 UTC)
            );
        }
    }
}
