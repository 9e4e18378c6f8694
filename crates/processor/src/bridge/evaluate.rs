//! Record → publication, or why not: decode, filter, transform. No I/O; the same for records, direct
//! input and hand-made events.

use std::sync::Arc;

use domain::json::Members;
use domain::{Event, Limits};
use eventlog::Record;
use live::{Position, Publication};
use time::OffsetDateTime;

use super::config::BridgeConfig;
use super::event_fields::{EventFields, Field};
use super::filter::{EventFilter, FailedStep};
use super::metrics::Status;
use super::transform::{Transformer, Unroutable};
use crate::record::{RecordDecoder, content};

/// An event on its way to its channel.
#[derive(Debug)]
pub struct Ready {
    /// What is published.
    pub publication: Publication,
    /// What it was made of.
    pub event: Event,
}

/// An event that is not published.
#[derive(Debug)]
pub struct Rejected {
    /// Its type, as far as it could be read.
    pub event_type: String,
    /// Whether it passed the filter.
    pub passed_filter: bool,
    /// Why it is not published.
    pub reason: RejectReason,
}

/// Why an event is not published.
#[derive(Debug)]
pub enum RejectReason {
    /// It cannot be read: a bounded word, and a sentence.
    Malformed(&'static str, String),
    /// The filter rejected it.
    Filtered(FailedStep),
    /// It passed the filter, and has no channel or no message.
    Unroutable(Unroutable),
}

impl RejectReason {
    /// The status it counts as.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::Malformed(..) | Self::Filtered(_) => Status::Filtered,
            Self::Unroutable(_) => Status::Dropped,
        }
    }

    /// The bounded word in metrics.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Malformed(word, _) => word,
            Self::Filtered(failed) => failed.step.reason(),
            Self::Unroutable(unroutable) => unroutable.reason(),
        }
    }

    /// A sentence.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::Malformed(_, detail) => detail.clone(),
            Self::Filtered(failed) => failed.detail.clone(),
            Self::Unroutable(unroutable) => unroutable.to_string(),
        }
    }
}

/// Decodes, filters and transforms events by the rules of one bridge.
#[derive(Debug, Clone)]
pub struct Evaluator {
    filter: EventFilter,
    transformer: Transformer,
    decoder: RecordDecoder,
    limits: Limits,
}

impl Evaluator {
    /// An evaluator with the bridge's rules. Limits and prefix are the processor's, so that an event is read,
    /// and gets its id, as when it is stored.
    #[must_use]
    pub fn new(config: &BridgeConfig, limits: Limits, topic_prefix: &str) -> Self {
        Self {
            filter: EventFilter::new(config.filter.clone()),
            transformer: Transformer::new(config.transform.clone()),
            decoder: RecordDecoder::kafka(limits, topic_prefix)
                .believing(&config.tenants)
                .protecting(&config.personal),
            limits,
        }
    }

    /// A record of the log. `position` makes publishing it again harmless.
    ///
    /// # Errors
    /// Why it is not published.
    pub fn record(
        &self,
        record: &Record,
        now: OffsetDateTime,
        position: Option<Position>,
    ) -> Result<Box<Ready>, Rejected> {
        // The decoder rejects what cannot be read, is no JSON object or too large.
        let content = content(record).ok();
        let text = content
            .as_ref()
            .map(|content| &*content.payload)
            .filter(|payload| payload.len() <= self.limits.max_event_bytes)
            .and_then(|payload| std::str::from_utf8(payload).ok());
        let members = text.and_then(|text| Members::split(text.trim_start_matches('\u{feff}')));
        let fields = members.as_ref().map(EventFields::from_record);
        let unread = |reason| {
            let name = fields.as_ref().map(|fields| fields.field("event_type"));
            Rejected {
                event_type: match name {
                    Some(Field::Text(name)) => name.into_owned(),
                    _ => "unknown".to_owned(),
                },
                passed_filter: false,
                reason,
            }
        };
        if let Some(fields) = &fields {
            self.filter
                .validate(fields)
                .map_err(|failed| unread(RejectReason::Filtered(failed)))?;
        }
        let event = self
            .decoder
            .decode(record, now)
            .map_err(|error| unread(RejectReason::Malformed(error.reason, error.detail)))?;
        self.route(event, members.as_ref(), position)
    }

    /// An event that has been decoded before.
    ///
    /// # Errors
    /// Why it is not published.
    pub fn event(&self, event: &Event, position: Option<Position>) -> Result<Box<Ready>, Rejected> {
        match self.filter.validate(&EventFields::from_event(event)) {
            Ok(()) => self.route(event.clone(), None, position),
            Err(failed) => Err(Rejected {
                event_type: event.event_type.clone(),
                passed_filter: false,
                reason: RejectReason::Filtered(failed),
            }),
        }
    }

    fn route(
        &self,
        event: Event,
        members: Option<&Members<'_>>,
        position: Option<Position>,
    ) -> Result<Box<Ready>, Rejected> {
        match self.transformer.transform(&event, members) {
            Ok((channel, message)) => Ok(Box::new(Ready {
                publication: Publication {
                    channel,
                    event_id: event.event_id,
                    message,
                    position,
                },
                event,
            })),
            Err(unroutable) => Err(Rejected {
                event_type: event.event_type,
                passed_filter: true,
                reason: RejectReason::Unroutable(unroutable),
            }),
        }
    }
}

/// A record's position, for [`Position`].
#[must_use]
pub fn position(partition: &Arc<str>, record: &Record) -> Position {
    Position {
        partition: Arc::clone(partition),
        offset: record.offset,
        timestamp_ms: record.timestamp_ms.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use config::Env;
    use eventlog::kafka::KafkaConfig;

    use super::*;

    fn evaluator(values: &[(&str, &str)]) -> Evaluator {
        let owned = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        let env = Env::from_map(values.iter().map(owned).collect::<HashMap<_, _>>());
        let config = BridgeConfig::from_env(&env, &KafkaConfig::default(), &[]);
        env.finish().unwrap();
        Evaluator::new(&config, Limits::default(), "")
    }

    fn record(payload: impl Into<Vec<u8>>) -> Record {
        Record {
            topic: "events.backend.service".into(),
            partition: 1,
            offset: 7,
            timestamp_ms: Some(1_700_000_000_000),
            key: None,
            headers: vec![],
            payload: Some(payload.into()),
        }
    }

    #[test]
    fn every_rejected_event_has_its_status_and_reason() {
        let evaluator = evaluator(&[("BRIDGE_MAX_MESSAGE_BYTES", "1000")]);
        let large = format!(
            r#"{{"event_type":"a","user_id":"u","data":{{"x":"{}"}}}}"#,
            "x".repeat(900)
        );
        let huge = format!(
            r#"{{"event_type":"a","data":{{"x":"{}"}}}}"#,
            "x".repeat(300_000)
        );
        let mut tombstone = record("");
        tombstone.payload = None;
        let mut unknown_tenant = record(r#"{"event_type":"a","user_id":"u","data":{}}"#);
        unknown_tenant.headers = vec![("tenant".to_owned(), b"no tenant".to_vec())];
        for (record, status, reason) in [
            (tombstone, Status::Filtered, "no_payload"),
            (unknown_tenant, Status::Filtered, "illegal_value"),
            (record("no json"), Status::Filtered, "invalid_json"),
            (record([0xff, 0xfe]), Status::Filtered, "invalid_json"),
            (record("[1]"), Status::Filtered, "wrong_type"),
            (record(huge), Status::Filtered, "too_large"),
            (record(r#"{"data":{}}"#), Status::Filtered, "missing_field"),
            (
                record(r#"{"event_type":"a","user_id":{},"data":{}}"#),
                Status::Filtered,
                "wrong_type",
            ),
            (
                record(r#"{"event_type":"a","data":{"n":"\u0000"}}"#),
                Status::Filtered,
                "not_storable",
            ),
            (
                record(r#"{"event_type":"a","data":{}}"#),
                Status::Dropped,
                "no_user",
            ),
            (record(large), Status::Dropped, "too_large"),
        ] {
            let rejected = evaluator
                .record(&record, service::clock::now(), None)
                .unwrap_err();
            assert_eq!(
                (rejected.reason.status(), rejected.reason.word()),
                (status, reason)
            );
            assert!(!rejected.reason.detail().is_empty());
        }
    }

    #[test]
    fn an_event_of_the_log_and_the_same_decoded_make_the_same_message() {
        let evaluator = evaluator(&[]);
        let record = record(
            r#"{"type":"a.b","source":"s","data":{"user_id":"u","n":1},"time":"2023-01-01T00:00:00Z"}"#,
        );
        let ready = evaluator
            .record(&record, service::clock::now(), None)
            .unwrap();
        assert_eq!(&*ready.publication.channel.user_id, "u");
        assert!(!ready.event.event_id.is_nil());
        let again = evaluator.event(&ready.event, None).unwrap();
        assert_eq!(again.publication, ready.publication);
    }
}
