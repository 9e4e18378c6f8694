//! What the filter looks at: an event's fields under one name each, whatever its envelope calls
//! them, before anything has been made of them.

use std::borrow::Cow;
use std::cell::OnceCell;

use domain::Event;
use domain::json::{Members, Raw};

/// A field as it was sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// Not there, or null.
    Absent,
    /// A text.
    Text(Cow<'a, str>),
    /// Something else.
    Other,
}

/// The fields of one event, for the filter.
#[derive(Debug)]
pub struct EventFields<'a> {
    seen: Seen<'a>,
    payload: Option<&'a str>,
    /// Split when it is first looked into: most rules never do.
    inside: OnceCell<Members<'a>>,
}

#[derive(Debug)]
enum Seen<'a> {
    Record(&'a Members<'a>),
    Event(&'a Event),
}

impl<'a> EventFields<'a> {
    /// A record's JSON, split.
    #[must_use]
    pub fn from_record(members: &'a Members<'a>) -> Self {
        Self {
            seen: Seen::Record(members),
            payload: first(members, aliases("payload")).map(Raw::get),
            inside: OnceCell::new(),
        }
    }

    /// An event that has been decoded before.
    #[must_use]
    pub fn from_event(event: &'a Event) -> Self {
        Self {
            seen: Seen::Event(event),
            payload: Some(event.data.as_str()),
            inside: OnceCell::new(),
        }
    }

    /// The field of that name, beside the payload or else (ids only) in it.
    #[must_use]
    pub fn field(&self, name: &str) -> Field<'a> {
        let beside = match &self.seen {
            Seen::Record(members) => match aliases(name) {
                [] => field(members.get(name)),
                aliases => field(first(members, aliases)),
            },
            Seen::Event(event) => of_event(event, name),
        };
        match beside {
            Field::Absent if aliases(name).is_empty() => self.inside(name),
            beside => beside,
        }
    }

    /// The field of that name in the payload.
    #[must_use]
    pub fn inside(&self, name: &str) -> Field<'a> {
        let split = || self.payload.and_then(Members::split).unwrap_or_default();
        field(self.inside.get_or_init(split).get(name))
    }
}

/// The names a field has in the envelopes; empty for those that have but one, and may stand in the
/// payload instead.
fn aliases(name: &str) -> &'static [&'static str] {
    match name {
        // Where the gateway made a UUID of the client's own id, that is the event's id.
        "event_id" => &["event_id", "id"],
        "event_type" => &["event_type", "type"],
        "payload" => &["payload", "data", "event_data"],
        "timestamp" => &["timestamp", "occurred_at", "created_at", "time"],
        _ => &[],
    }
}

fn first<'a>(members: &Members<'a>, names: &[&str]) -> Option<Raw<'a>> {
    names.iter().find_map(|name| members.get(name))
}

fn field(raw: Option<Raw<'_>>) -> Field<'_> {
    let Some(raw) = raw else {
        return Field::Absent;
    };
    let text = raw.get();
    let Some(inner) = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) else {
        return Field::Other;
    };
    if !inner.contains('\\') {
        return Field::Text(inner.into());
    }
    match serde_json::from_str::<String>(text) {
        Ok(text) => Field::Text(text.into()),
        Err(_) => Field::Other,
    }
}

fn of_event<'a>(event: &'a Event, name: &str) -> Field<'a> {
    let text = match name {
        "event_id" => return Field::Text(event.event_id.to_string().into()),
        "event_type" => Some(&event.event_type),
        "payload" => return Field::Other,
        "timestamp" => return Field::Text(domain::timestamp::format(event.timestamp).into()),
        "user_id" => event.user_id.as_ref(),
        "session_id" => event.session_id.as_ref(),
        "organization_id" => event.organization_id.as_ref(),
        "device_id" => event.device_id.as_ref(),
        "correlation_id" => event.correlation_id.as_ref(),
        "aggregate_type" => event.aggregate_type.as_ref(),
        "aggregate_id" => event.aggregate_id.as_ref(),
        // What a domain event had beside its payload and no field of an event takes.
        _ if event.metadata.is_empty() => None,
        _ => {
            let metadata = Members::split(event.metadata.as_str()).unwrap_or_default();
            return field(metadata.get(name));
        }
    };
    text.map_or(Field::Absent, |text| Field::Text(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_one_name_whatever_the_envelope() {
        for text in [
            r#"{"event_id":"i","event_type":"t","payload":{"user_id":"u"},"occurred_at":"w"}"#,
            r#"{"id":"i","type":"t","data":{"user_id":"u"},"time":"w"}"#,
            r#"{"event_id":"i","client_event_id":"own","event_type":"t","event_data":{},"user_id":"u","timestamp":"w"}"#,
        ] {
            let members = Members::split(text).unwrap();
            let fields = EventFields::from_record(&members);
            for (name, value) in [
                ("event_id", "i"),
                ("event_type", "t"),
                ("user_id", "u"),
                ("timestamp", "w"),
            ] {
                assert_eq!(
                    fields.field(name),
                    Field::Text(value.into()),
                    "{name} of {text}"
                );
            }
            assert_eq!(fields.field("payload"), Field::Other);
            assert_eq!(fields.field("session_id"), Field::Absent);
        }
    }

    #[test]
    fn what_no_field_takes_is_found_in_a_decoded_event_too() {
        let text = r#"{"event_type":"t","trace_id":"x","payload":{"step":1}}"#;
        let event = crate::bridge::transform::tests::decoded(text);
        let members = Members::split(text).unwrap();
        for name in ["trace_id", "step", "other", "user_id"] {
            assert_eq!(
                EventFields::from_event(&event).field(name),
                EventFields::from_record(&members).field(name),
                "{name}"
            );
        }
    }

    #[test]
    fn a_type_inside_the_payload_is_the_senders() {
        let members = Members::split(r#"{"payload":{"event_type":"t","timestamp":1}}"#).unwrap();
        let fields = EventFields::from_record(&members);
        assert_eq!(fields.field("event_type"), Field::Absent);
        assert_eq!(fields.field("timestamp"), Field::Absent);
        assert_eq!(fields.inside("timestamp"), Field::Other);
    }
}
