//! Event → message (S2-32 … S2-36): one JSON object on one line with what a browser needs, and
//! nothing that is internal.

use std::borrow::Cow;

use config::Env;
use domain::Event;
use domain::json::{self, Members};
use domain::write::{self, Write};
use live::{Channel, Message};
use time::OffsetDateTime;
use uuid::Uuid;

use super::profile::{Profile, list};

/// Payload fields that begin so are never published.
const INTERNAL: &str = "internal_";

/// The fields every message may have.
const OWN: [&str; 6] = [
    "event_id",
    "event_type",
    "user_id",
    "session_id",
    "timestamp",
    "payload",
];

/// What a message holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransformConfig {
    /// Fields passed on beside the payload, where the event has them (S2-34).
    pub pass_through: Vec<String>,
    /// Fields left out of the payload, besides those that begin with `internal_` (S2-35).
    pub internal: Vec<String>,
    /// Bytes of the data at most.
    pub max_bytes: usize,
}

impl TransformConfig {
    /// Reads the settings, with the defaults of that profile.
    #[must_use]
    pub fn from_env(env: &Env, profile: Profile) -> Self {
        let pass_through = list(
            env,
            "BRIDGE_PASS_THROUGH",
            profile.pass_through(),
            "Fields passed on beside the payload, by commas, or `none`. Generic: correlation_id; genesis: correlation_id, novel_id, trace_id.",
        );
        for name in pass_through
            .iter()
            .filter(|name| OWN.contains(&name.as_str()))
        {
            let expected = "a field that no message has yet";
            env.complain("BRIDGE_PASS_THROUGH", name, expected);
        }
        Self {
            pass_through,
            internal: list(
                env,
                "BRIDGE_INTERNAL_FIELDS",
                &["user_id", "session_id", "timestamp", "novel_id"],
                "Fields left out of the payload, by commas, or `none`, besides those that begin with `internal_`. Default: user_id, session_id, timestamp, novel_id.",
            ),
            max_bytes: env.get_in(
                &["BRIDGE_MAX_MESSAGE_BYTES"],
                64 * 1024,
                256..=8 * 1024 * 1024,
                "Bytes of one message; larger ones are dropped and counted.",
            ),
        }
    }
}

/// Why there is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unroutable {
    /// It has no user, so there is no channel for it (S2-32).
    #[error("the event has no user_id, so there is no channel for it")]
    NoUser,
    /// More than the channels take.
    #[error("the message has {bytes} bytes, more than the limit of {limit}")]
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

impl Unroutable {
    /// The bounded word in metrics.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoUser => "no_user",
            Self::TooLarge { .. } => "too_large",
        }
    }
}

/// Makes live messages of events.
#[derive(Debug, Clone)]
pub struct Transformer {
    config: TransformConfig,
}

impl Transformer {
    /// A transformer with these rules.
    #[must_use]
    pub fn new(config: TransformConfig) -> Self {
        Self { config }
    }

    /// The channel and the message of an event. `record` is the JSON it was read from, if that is
    /// at hand: fields to pass on may stand there that an event does not keep.
    ///
    /// # Errors
    /// [`Unroutable`]; never a fault of Redis.
    pub fn transform(
        &self,
        event: &Event,
        record: Option<&Members<'_>>,
    ) -> Result<(Channel, Message), Unroutable> {
        let user_id = event.user_id.as_deref().ok_or(Unroutable::NoUser)?;
        let data = self.data(event, user_id, record);
        let limit = self.config.max_bytes;
        if data.len() > limit {
            let bytes = data.len();
            return Err(Unroutable::TooLarge { bytes, limit });
        }
        let message = Message {
            event: event.event_type.clone(),
            data: data.into(),
        };
        Ok((Channel::new(event.tenant_id.clone(), user_id), message))
    }

    fn data(&self, event: &Event, user_id: &str, record: Option<&Members<'_>>) -> Vec<u8> {
        let payload = event.data.members();
        let object = Data {
            event_id: event.event_id,
            event_type: &event.event_type,
            user_id,
            session_id: event.session_id.as_deref(),
            timestamp: event.timestamp,
            passed_on: self.passed_on(event, &payload, record),
            payload: self.payload(&payload),
        };
        let mut data = Vec::with_capacity(512);
        object.write(&mut data);
        // A line break in JSON can only stand between its tokens.
        for byte in &mut data {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        data
    }

    fn payload<'a>(&self, payload: &Members<'a>) -> Value<'a> {
        let internal = |key: &str| key.starts_with(INTERNAL);
        let members = match payload.get("content") {
            Some(content) => match Members::split(content.get()) {
                Some(members) => members.without(internal),
                None => return Value(content.get().into()),
            },
            None => payload.clone().without(|key| {
                internal(key) || self.config.internal.iter().any(|name| name == key)
            }),
        };
        Value(write::text(&members).into())
    }

    /// Looks for each field where it may be: the event's own, beside the payload, around it, in it.
    /// What stands beside it a domain event keeps in its metadata, so those are looked into first:
    /// the message is the same whether the record is at hand or not.
    fn passed_on<'a>(
        &'a self,
        event: &'a Event,
        payload: &Members<'a>,
        record: Option<&Members<'a>>,
    ) -> Vec<(&'a str, Value<'a>)> {
        let find = |name: &'a str| {
            if let Some(text) = own_field(event, name) {
                return Some(Value(write::text(text).into()));
            }
            if let Some(raw) = record.and_then(|members| members.get(name)) {
                return Some(Value(json::once(raw)));
            }
            let metadata = event.metadata.members().get(name);
            metadata
                .or_else(|| payload.get(name))
                .or_else(|| event.context.members().get(name))
                .or_else(|| event.properties.members().get(name))
                .map(|raw| Value(raw.get().into()))
        };
        let names = self.config.pass_through.iter();
        names
            .filter_map(|name| Some((name.as_str(), find(name)?)))
            .collect()
    }
}

/// The data of a message.
struct Data<'a> {
    event_id: Uuid,
    event_type: &'a str,
    user_id: &'a str,
    session_id: Option<&'a str>,
    timestamp: OffsetDateTime,
    passed_on: Vec<(&'a str, Value<'a>)>,
    payload: Value<'a>,
}

impl Write for Data<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        domain::write::object!(out, self;
            event_id, event_type, user_id, session_id?, timestamp, ..passed_on, payload
        );
    }
}

/// The JSON text of a value.
struct Value<'a>(Cow<'a, str>);

impl Write for Value<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_bytes());
    }
}

fn own_field<'a>(event: &'a Event, name: &str) -> Option<&'a str> {
    match name {
        "correlation_id" => event.correlation_id.as_deref(),
        "organization_id" => event.organization_id.as_deref(),
        "device_id" => event.device_id.as_deref(),
        "aggregate_type" => event.aggregate_type.as_deref(),
        "aggregate_id" => event.aggregate_id.as_deref(),
        "client_event_id" => event.client_event_id.as_deref(),
        "event_source" => Some(event.event_source.as_str()),
        "event_category" => Some(event.event_category.as_str()),
        "version" => Some(&event.version),
        "schema_version" => Some(&event.schema_version),
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashMap;

    use domain::envelope::Origin;
    use domain::{Context, EventCategory, EventSource, Limits, TenantId};
    use serde_json::{Value, json};
    use time::OffsetDateTime;

    use super::*;

    const ID: &str = "8f14e45f-ceea-467f-a8f5-5f9b1c0b7a11";

    pub(in crate::bridge) fn decoded(body: &str) -> Event {
        let cx = Context {
            origin: Origin::Log,
            tenant: &TenantId::default(),
            received_at: OffsetDateTime::UNIX_EPOCH,
            now: OffsetDateTime::UNIX_EPOCH,
            fresh_id: uuid::Uuid::nil(),
            default_source: EventSource::Backend,
            default_category: EventCategory::UserAction,
            content_type: None,
            limits: Limits {
                max_future_seconds: i64::MAX / 2,
                ..Limits::default()
            },
        };
        domain::decode(body.as_bytes(), &cx).unwrap()
    }

    fn defaults() -> TransformConfig {
        TransformConfig::from_env(&Env::from_map(HashMap::new()), Profile::Generic)
    }

    fn data(pass_through: &[&str], body: &str) -> Value {
        let transformer = Transformer::new(TransformConfig {
            pass_through: pass_through.iter().map(ToString::to_string).collect(),
            ..defaults()
        });
        let event = decoded(body);
        let members = Members::split(body).unwrap();
        let (channel, message) = transformer.transform(&event, Some(&members)).unwrap();
        assert_eq!(Some(&*channel.user_id), event.user_id.as_deref());
        assert_eq!(message.event, event.event_type);
        assert!(!message.data.contains(&b'\n') && !message.data.contains(&b'\r'));
        serde_json::from_slice(&message.data).unwrap()
    }

    #[test]
    fn a_domain_event_becomes_one_small_object() {
        let body = format!(
            r#"{{"event_id":"{ID}","event_type":"Genesis.Session.Started","aggregate_id":"a",
            "correlation_id":"c","trace_id":"t",
            "payload":{{"user_id":"u","session_id":"s","timestamp":"2025-01-01T00:00:00Z",
              "novel_id":7,"internal_notes":"no","title":"T",
              "deep":{{
                "x":[1,2]}}}}}}"#
        );
        let got = data(&["correlation_id", "novel_id", "trace_id"], &body);
        let want = json!({
            "event_id": ID, "event_type": "Genesis.Session.Started", "user_id": "u",
            "session_id": "s", "timestamp": "2025-01-01T00:00:00Z",
            "correlation_id": "c", "novel_id": 7, "trace_id": "t",
            "payload": {"title": "T", "deep": {"x": [1, 2]}},
        });
        assert_eq!(got, want);
    }

    #[test]
    fn a_domain_event_is_the_same_without_its_record() {
        let names = ["novel_id", "trace_id", "step", "origin"];
        let transformer = Transformer::new(TransformConfig {
            pass_through: names.map(str::to_owned).to_vec(),
            ..defaults()
        });
        for body in [
            r#"{"event_type":"t","payload":{"user_id":"u"},"trace_id":"t","step":{"of":[1]}}"#,
            r#"{"event_type":"t","event_data":{"user_id":"u","step":1},"step":2,"novel_id":null}"#,
            r#"{"event_type":"t","payload":{"user_id":"u","step":1,"novel_id":"n"},"origin":"o",
                "metadata":{"origin":"m","step":2}}"#,
        ] {
            let event = decoded(body);
            let members = Members::split(body).unwrap();
            assert_eq!(
                transformer.transform(&event, None).unwrap(),
                transformer.transform(&event, Some(&members)).unwrap(),
                "{body}"
            );
        }
    }

    #[test]
    fn content_alone_is_sent_where_there_is_one() {
        for (content, want) in [
            (
                r#"{"a":1,"internal_b":2,"user_id":"x"}"#,
                json!({"a": 1, "user_id": "x"}),
            ),
            (r#""text""#, json!("text")),
            ("[1]", json!([1])),
        ] {
            let body = format!(
                r#"{{"event_type":"t","user_id":"u","data":{{"content":{content},"other":1}}}}"#
            );
            assert_eq!(data(&[], &body)["payload"], want);
        }
        let none = r#"{"event_type":"t","user_id":"u","data":{"content":null,"other":1}}"#;
        assert_eq!(
            data(&[], none)["payload"],
            json!({"content": null, "other": 1})
        );
    }

    #[test]
    fn what_is_passed_on_is_found_wherever_it_stands() {
        let body = r#"{"event_type":"t","user_id":"u","data":{"a":1,"b":1},"metadata":{"b":2,"c":{"d":"é\n"}},"context":{"e":false},"e":null}"#;
        let got = data(&["a", "b", "c", "e", "z", "event_source"], body);
        assert_eq!(
            got,
            json!({
                "event_id": "00000000-0000-0000-0000-000000000000", "event_type": "t", "user_id": "u",
                "timestamp": "1970-01-01T00:00:00Z", "payload": {"a": 1, "b": 1},
                "a": 1, "b": 2, "c": {"d": "é\n"}, "e": false, "event_source": "backend",
            })
        );
    }

    #[test]
    fn no_user_and_too_large_have_their_reasons() {
        let transformer = Transformer::new(TransformConfig {
            max_bytes: 300,
            ..defaults()
        });
        let nobody = decoded(r#"{"event_type":"t","data":{}}"#);
        let why = transformer.transform(&nobody, None).unwrap_err();
        assert_eq!((why, why.reason()), (Unroutable::NoUser, "no_user"));
        let text = "x".repeat(300);
        let large = decoded(&format!(
            r#"{{"event_type":"t","user_id":"u","data":{{"a":"{text}"}}}}"#
        ));
        let why = transformer.transform(&large, None).unwrap_err();
        assert!(matches!(why, Unroutable::TooLarge { limit: 300, bytes } if bytes > 300));
        assert_eq!(why.reason(), "too_large");
    }
}
