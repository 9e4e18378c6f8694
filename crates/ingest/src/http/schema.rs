//! The bodies of requests as `/openapi.json` describes them: what the domain's decoders take, no more
//! and no less. They know more forms; `docs/envelopes.md` has them.

use std::borrow::Cow;

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
    event(json!({
        "event_source": name("`backend` by default, as for an unknown name.", "backend"),
        "source": name("An alias of `event_source`.", "backend"),
        "event_category": name("`user_action` by default, as for an unknown name.", "user_action"),
        "category": name("An alias of `event_category`.", "user_action"),
    }))
);
body!(
    /// One event of a browser or app (S0-20, S0-31).
    FrontendRequest,
    event(json!({
        "category": category("`user_interaction` by default."),
        "event_category": category("An alias of `category`."),
    }))
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

fn text(max: u32, says: &str) -> Value {
    json!({
        "description": says, "type": ["string", "null"], "maxLength": max,
        "pattern": format!("^[{SPACES}]*[^{CONTROLS}]*[{SPACES}]*$"),
    })
}

/// A text that is not blank.
fn required_text(max: u32, says: &str) -> Value {
    json!({
        "description": says, "type": "string", "minLength": 1, "maxLength": max,
        "pattern": format!("^[{SPACES}]*[^{CONTROLS}{SPACES}][^{CONTROLS}]*[{SPACES}]*$"),
    })
}

fn time(says: &str) -> Value {
    json!({"description": says, "type": ["string", "null"], "format": "date-time"})
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

fn event(own: Value) -> Value {
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
    if let (Some(all), Value::Object(own)) = (properties.as_object_mut(), own) {
        all.extend(own);
    }
    let mut event = object("One event. Unknown members are ignored.");
    event["required"] = json!(["event_type"]);
    event["properties"] = properties;
    event
}

fn name(says: &str, example: &str) -> Value {
    json!({"description": says, "type": ["string", "null"], "example": example})
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
            (EventRequest::schema(), "/properties/event_type/pattern"),
            (FrontendRequest::schema(), "/properties/category/enum/3"),
            (EventBatch::schema(), "/items/$ref"),
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
