//! What is asked of dead letters, as `/openapi.json` describes it.

use std::borrow::Cow;

use serde_json::{Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::parameters::MAX_TEXT;

/// Which dead letters are to be stored again, and how.
#[derive(Debug)]
pub struct DeadLetterRedrive;

/// Which dead letters are set aside, and why.
#[derive(Debug)]
pub struct DeadLetterDiscard;

impl PartialSchema for DeadLetterRedrive {
    fn schema() -> RefOr<Schema> {
        let own = json!({
            "rate": count("So many a second at most."),
            "payload": {"type": ["string", "null"], "description": "Of one id: this text instead of the record's bytes."},
            "payload_base64": {
                "type": ["string", "null"], "description": "Of one id: these bytes instead of the record's.",
                "pattern": "^(?:[A-Za-z0-9+/]{4})*$",
            },
        });
        let one = json!({"type": "object", "required": ["ids"], "properties": {
            "ids": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "maxItems": 1},
        }});
        let nothing = json!({"type": "null"});
        let as_it_was = json!({"type": "object", "properties": {"payload": nothing, "payload_base64": nothing}});
        selection(own, &json!({"anyOf": [one, as_it_was]}))
    }
}

impl PartialSchema for DeadLetterDiscard {
    fn schema() -> RefOr<Schema> {
        let note = json!({
            "type": "string", "description": "Why.", "maxLength": MAX_TEXT,
            "pattern": r"^[^\x00]*[^\x00\s][^\x00]*$",
        });
        let required =
            json!({"type": "object", "required": ["note"], "properties": {"note": note}});
        selection(json!({}), &required)
    }
}

impl ToSchema for DeadLetterRedrive {
    fn name() -> Cow<'static, str> {
        "DeadLetterRedrive".into()
    }
}

impl ToSchema for DeadLetterDiscard {
    fn name() -> Cow<'static, str> {
        "DeadLetterDiscard".into()
    }
}

fn selection(own: Value, besides: &Value) -> RefOr<Schema> {
    let ids = json!({"type": "integer", "minimum": 0, "maximum": i64::MAX});
    let mut properties = json!({
        "ids": {
            "type": ["array", "null"], "items": ids, "maxItems": 1_000,
            "description": "These. Without them, all under the conditions; one condition is needed, or `all`.",
        },
        "all": {"type": ["boolean", "null"], "description": "All in that state."},
        "reason": text("Why they were kept."),
        "topic": text("Where their records stood: its full name."),
        "state": {"type": ["string", "null"], "enum": ["open", "redriven", "discarded", null], "description": "`open` by default."},
        "start_time": time("Kept at this time or later."),
        "end_time": time("Kept at this time or earlier."),
        "after_id": {
            "type": ["integer", "null"], "minimum": 0, "maximum": u32::MAX,
            "description": "Only those with a greater id: the `last_id` of the answer before.",
        },
        "dry_run": {"type": ["boolean", "null"], "description": "Counts, changes nothing."},
        "limit": count("Most of them."),
    });
    if let (Some(all), Value::Object(own)) = (properties.as_object_mut(), own) {
        all.extend(own);
    }
    let condition = |name: &str, value: Value| json!({"type": "object", "required": [name], "properties": {name: value}});
    let time = json!({"type": "string", "format": "date-time"});
    let conditions = [
        condition("ids", json!({"type": "array", "minItems": 1, "items": ids})),
        condition("all", json!({"type": "boolean", "enum": [true]})),
        condition("reason", json!({"type": "string"})),
        condition("topic", json!({"type": "string"})),
        condition("start_time", time.clone()),
        condition("end_time", time),
    ];
    let schema = json!({"allOf": [
        {
            "type": "object", "properties": properties,
            "propertyNames": {"type": "string", "pattern": r"^[^\x00]*$"},
            "additionalProperties": {"$ref": "#/components/schemas/AnyJson"},
        },
        {"anyOf": conditions},
        besides,
    ]});
    serde_json::from_value(schema).unwrap_or_else(|_| Schema::default().into())
}

fn text(says: &str) -> Value {
    json!({"type": ["string", "null"], "maxLength": MAX_TEXT, "pattern": r"^[^\x00]*$", "description": says})
}

fn time(says: &str) -> Value {
    json!({"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}], "description": says})
}

fn count(says: &str) -> Value {
    json!({"type": ["integer", "null"], "minimum": 1, "maximum": 10_000, "default": 1_000, "description": says})
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was parsed says what was written.
    #[test]
    fn schemas_are_what_was_meant() {
        for (schema, telling) in [
            (
                DeadLetterRedrive::schema(),
                "/allOf/2/anyOf/0/properties/ids/maxItems",
            ),
            (
                DeadLetterRedrive::schema(),
                "/allOf/0/properties/payload_base64/pattern",
            ),
            (
                DeadLetterDiscard::schema(),
                "/allOf/2/properties/note/pattern",
            ),
            (
                DeadLetterDiscard::schema(),
                "/allOf/1/anyOf/1/properties/all/enum/0",
            ),
        ] {
            let written = serde_json::to_value(&schema).unwrap();
            assert!(written.pointer(telling).is_some(), "{telling}: {written:#}");
        }
    }
}
