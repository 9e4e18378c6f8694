//! The bodies of requests as `/openapi.json` describes them: what the domain's decoders take, no more
//! and no less. They know more forms; `docs/envelopes.md` has them.

use std::borrow::Cow;

use domain::envelope::segment::CALLS;
use serde_json::{Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// What is trimmed at both ends of a text, and what may not be in it, for a class of a pattern.
const SPACES: &str = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000";
const CONTROLS: &str = r"\x00-\x1f\x7f-\x9f";

/// Common types of events (S0-36 to S0-38); any other is taken as well.
const TYPES: [&str; 17] = [
    "page_view",
    "button_click",
    "link_click",
    "scroll",
    "focus",
    "blur",
    "form_submit",
    "purchase",
    "registration",
    "login",
    "logout",
    "subscription",
    "api_error",
    "performance_issue",
    "network_error",
    "js_error",
    "timeout",
];

/// Declares a body by its schema.
macro_rules! body {
    ($(#[$doc:meta])* $name:ident, $schema:expr) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                serde_json::from_value($schema).unwrap_or_else(|_| Schema::default().into())
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
                schemas.extend([
                    ("AnyJson".to_owned(), AnyJson::schema()),
                    ("EventRequest".to_owned(), EventRequest::schema()),
                    ("FrontendRequest".to_owned(), FrontendRequest::schema()),
                    ("CloudEvent".to_owned(), CloudEvent::schema()),
                    ("SegmentMessage".to_owned(), SegmentMessage::schema()),
                ]);
            }
        }
    };
}

body!(
    /// Any JSON that can be stored.
    AnyJson,
    json!({
        "description": "Any JSON without NUL characters; numbers of at most 1,000 digits, written out.",
        "anyOf": [
            {"type": ["null", "boolean", "number"]},
            {"type": "string", "pattern": r"^[^\x00]*$"},
            {"type": "array", "items": {"$ref": "#/components/schemas/AnyJson"}},
            object("An object."),
        ],
    })
);
body!(
    /// One event (S4-18, S4-19).
    EventRequest,
    event(&[
        ["event_source", "source"].map(|key| (key, name("`backend` by default, as for an unknown name.", "backend"))),
        ["event_category", "category"].map(|key| (key, name("`user_action` by default, as for an unknown name.", "user_action"))),
    ])
);
body!(
    /// One event of a browser or app (S0-20, S0-31).
    FrontendRequest,
    event(&[["category", "event_category"].map(|key| (key, category("`user_interaction` by default.")))])
);
body!(
    /// A CloudEvent 1.0 in structured mode.
    CloudEvent,
    cloudevent()
);
body!(
    /// Many events (S0-27).
    EventBatch,
    batch("EventRequest")
);
body!(
    /// Many CloudEvents.
    CloudEventBatch,
    batch("CloudEvent")
);
body!(
    /// A message of Segment's or RudderStack's clients (S4-54).
    SegmentMessage,
    segment_message()
);
body!(
    /// The same where the path names the call.
    SegmentCall,
    segment(&[])
);
body!(
    /// What happened, where the path says `track`.
    SegmentTrack,
    segment(&["event"])
);
body!(
    /// Many messages, with what holds for all of them.
    SegmentBatch,
    json!({
        "type": "object",
        "required": ["batch"],
        "properties": {
            "batch": batch("SegmentMessage"),
            "context": nullable(object("Around all of them.")),
            "sentAt": time("What the client's clock showed when it sent them."),
        },
    })
);
body!(
    /// What RudderStack's webhook sends.
    RudderstackMessages,
    json!({"oneOf": [{"$ref": "#/components/schemas/SegmentMessage"}, batch("SegmentMessage")]})
);
body!(
    /// Many events of a browser or app (S0-22).
    FrontendBatchRequest,
    json!({
        "type": "object",
        "required": ["events"],
        "properties": {
            "events": batch("FrontendRequest"),
            "client_info": nullable(object("About the client, at most 4 KiB; added to every event (S0-24).")),
        },
    })
);

/// A text of at most that many characters, spaces at its ends aside.
fn text(max: u32, says: &str) -> Value {
    let word = word(max);
    json!({
        "description": says, "type": ["string", "null"],
        "pattern": format!("^[{SPACES}]*(?:{word})?[{SPACES}]*$"),
    })
}

/// A text that is not blank.
fn required_text(max: u32, says: &str) -> Value {
    let word = word(max);
    json!({
        "description": says, "type": "string",
        "pattern": format!("^[{SPACES}]*{word}[{SPACES}]*$"),
    })
}

/// One to that many characters without a space at either end.
fn word(max: u32) -> String {
    let ends = format!("[^{CONTROLS}{SPACES}]");
    format!("{ends}(?:[^{CONTROLS}]{{0,{}}}{ends})?", max - 2)
}

fn time(says: &str) -> Value {
    json!({
        "description": says, "type": ["string", "null"], "format": "date-time",
        "pattern": "^(?:19[7-9][0-9]|[2-9][0-9]{3})-",
    })
}

fn cloudevent() -> Value {
    let mut event = object("A CloudEvent; binary data is in `data_base64` instead of `data`.");
    event["required"] = json!(["specversion", "id", "source", "type"]);
    event["properties"] = json!({
        "specversion": {"type": "string", "enum": ["1.0"]},
        "id": required_text(255, "Unique together with `source`: a retry with the same id is stored once."),
        "source": required_text(4096, "Where it happened."),
        "type": required_text(255, "What happened: any printable text."),
        "time": time("When it happened, from 1970 to a day ahead; the time of receipt by default."),
        "data": {"$ref": "#/components/schemas/AnyJson"},
        "userid": text(255, "Who did it."),
        "sessionid": text(255, "In which session."),
        "organizationid": text(255, "For which organisation."),
        "deviceid": text(255, "On which device."),
        "correlationid": text(255, "What it belongs together with."),
        "aggregatetype": text(255, "Type of the aggregate it changes."),
        "aggregateid": text(255, "The aggregate it changes."),
    });
    event
}

/// An event, with members of two names each: the second is read where the first is absent.
fn event(aliases: &[[(&str, Value); 2]]) -> Value {
    let mut event_type = required_text(255, "What happened: any printable text.");
    event_type["examples"] = json!(TYPES);
    let version = |says: &str| {
        let mut version = text(20, says);
        version["type"] = json!(["string", "number", "null"]);
        version
    };
    let mut properties = json!({
        "event_id": text(255, "The client's own id: a retry with the same id is stored once."),
        "event_type": event_type,
        "user_id": text(255, "Who did it."),
        "session_id": text(255, "In which session."),
        "organization_id": text(255, "For which organisation."),
        "device_id": text(255, "On which device."),
        "correlation_id": text(255, "What it belongs together with."),
        "aggregate_type": text(255, "Type of the aggregate it changes."),
        "aggregate_id": text(255, "The aggregate it changes."),
        "expected_version": {
            "description": "The version the client believes the aggregate's stream has; `none` is 0, `any` is every one. Only beside `aggregate_type` and `aggregate_id`.",
            "anyOf": [
                {"type": ["integer", "null"], "minimum": 0, "maximum": i64::MAX},
                {"type": "string", "enum": ["any", "none"]},
            ],
        },
        "page_url": text(4096, "Where it happened; kept in `context.page_url`."),
        "data": nullable(object("What happened, in the client's words.")),
        "metadata": nullable(object("About the event.")),
        "context": nullable(object("Around the event.")),
        "properties": nullable(object("Further properties.")),
        "timestamp": time("When it happened, from 1970 to a day ahead; the time of receipt by default. Without a zone it is UTC."),
        "version": version("Version of the event's content, `1.0.0` by default."),
        "schema_version": version("Version of its schema, `1.0.0` by default."),
    });
    let mut read = vec![];
    for [(first, schema), (second, other)] in aliases {
        let says = format!("The same, where `{first}` is absent.");
        properties[first] = schema.clone();
        properties[second] =
            json!({"description": says, "allOf": [{"$ref": "#/components/schemas/AnyJson"}]});
        let mut given = schema.clone();
        given["type"] = "string".into();
        if let Some(names) = given["enum"].as_array_mut() {
            names.retain(|name| !name.is_null());
        }
        read.push(json!({"anyOf": [
            {"type": "object", "required": [first], "properties": {*first: given}},
            {"type": "object", "properties": {*second: other}},
        ]}));
    }
    let mut event = object("One event. Unknown members are ignored.");
    event["required"] = json!(["event_type"]);
    event["properties"] = properties;
    let part = |says| required_text(255, says);
    let aggregate = json!({
        "aggregate_type": part("Needed beside a version."), "aggregate_id": part("Needed beside a version."),
    });
    let unversioned = json!({"expected_version": {"type": "null"}});
    read.push(json!({"anyOf": [
        {"type": "object", "required": ["aggregate_type", "aggregate_id"], "properties": aggregate},
        {"type": "object", "properties": unversioned},
    ]}));
    read.insert(0, event);
    json!({"allOf": read})
}

/// A message of Segment's clients: with its call in `type`, or by the path with what it requires.
fn segment(requires: &[&str]) -> Value {
    let mut message = object("A message of Segment's or RudderStack's clients.");
    message["required"] = json!(requires);
    message["properties"] = json!({
        "messageId": text(255, "A retry with the same id is stored once."),
        "event": text(255, "What happened; of `track`, which needs it."),
        "properties": nullable(object("What happened, in the client's words.")),
        "traits": nullable(object("About who did it.")),
        "context": nullable(object("Around it.")),
        "timestamp": time("When it happened."),
        "originalTimestamp": time("When it happened, by the client's clock."),
        "sentAt": time("What the client's clock showed when it sent the message."),
        "receivedAt": time("When a service before this one took it."),
    });
    if requires.contains(&"event") {
        message["properties"]["event"] = required_text(255, "What happened.");
    }
    let who = ["userId", "anonymousId"].map(|name| {
        let who = required_text(255, "Who did it; one of the two is needed.");
        json!({"type": "object", "required": [name], "properties": {name: who}})
    });
    let both = json!({"type": "object", "properties": {
        "userId": text(255, "Who did it."), "anonymousId": text(255, "Who did it, before signing in."),
    }});
    json!({"allOf": [message, both, {"anyOf": who}]})
}

/// A message that names its call.
fn segment_message() -> Value {
    let call =
        |call: Value| json!({"type": "object", "required": ["type"], "properties": {"type": call}});
    let others: Vec<_> = CALLS.into_iter().filter(|call| *call != "track").collect();
    let mut track = call(json!({"type": "string", "enum": ["track"]}));
    track["required"] = json!(["type", "event"]);
    track["properties"]["event"] = required_text(255, "What happened.");
    let mut message = segment(&[]);
    if let Some(parts) = message["allOf"].as_array_mut() {
        parts.push(json!({"anyOf": [track, call(json!({"type": "string", "enum": others}))]}));
    }
    message
}

fn name(says: &str, example: &str) -> Value {
    json!({"description": says, "type": ["string", "null"], "pattern": r"^[^\x00]*$", "example": example})
}

fn category(says: &str) -> Value {
    json!({
        "description": says, "type": ["string", "null"],
        "enum": ["user_interaction", "business_action", "system_event", null],
    })
}

fn batch(of: &str) -> Value {
    json!({
        "description": "The events; `MAX_BATCH_EVENTS` (500) at most.",
        "type": "array", "minItems": 1,
        "items": {"$ref": format!("#/components/schemas/{of}")},
    })
}

fn object(says: &str) -> Value {
    json!({
        "description": says, "type": "object",
        "propertyNames": {"type": "string", "pattern": r"^[^\x00]*$"},
        "additionalProperties": {"$ref": "#/components/schemas/AnyJson"},
    })
}

fn nullable(mut schema: Value) -> Value {
    schema["type"] = json!(["object", "null"]);
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was parsed says what was written.
    #[test]
    fn schemas_are_what_was_meant() {
        for (schema, telling) in [
            (AnyJson::schema(), "/anyOf/3/additionalProperties/$ref"),
            (
                EventRequest::schema(),
                "/allOf/0/properties/event_type/pattern",
            ),
            (
                FrontendRequest::schema(),
                "/allOf/0/properties/category/enum/3",
            ),
            (
                EventRequest::schema(),
                "/allOf/3/anyOf/1/properties/expected_version",
            ),
            (
                SegmentMessage::schema(),
                "/allOf/3/anyOf/0/properties/event",
            ),
            (SegmentTrack::schema(), "/allOf/2/anyOf/1/required/0"),
            (EventBatch::schema(), "/items/$ref"),
            (EventRequest::schema(), "/allOf/1/anyOf/0/required/0"),
            (FrontendRequest::schema(), "/allOf/1/anyOf/0/required/0"),
            (AnyJson::schema(), "/anyOf/1/pattern"),
            (CloudEvent::schema(), "/properties/specversion/enum/0"),
            (
                FrontendBatchRequest::schema(),
                "/properties/events/minItems",
            ),
        ] {
            let written = serde_json::to_value(&schema).unwrap();
            assert!(written.pointer(telling).is_some(), "{telling}: {written:#}");
        }
    }
}
