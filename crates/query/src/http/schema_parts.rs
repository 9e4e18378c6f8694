//! What bodies are described with: texts, references, members.

use serde_json::{Value, json};

/// A text that PostgreSQL holds.
pub(in crate::http) const STORABLE: &str = r"^[^\x00]*$";
/// One that is not blank.
const NAMED: &str = r"^[^\x00]*[^\x00\s][^\x00]*$";
/// One that is not blank and has no character of control.
const PRINTED: &str = r"^[^\x00-\x1f\x7f-\x9f]*[^\x00-\x1f\x7f-\x9f\s][^\x00-\x1f\x7f-\x9f]*$";

/// Sets what is said of a member; its description, default and example stay.
pub(in crate::http) fn of(of_what: &mut Value, name: &str, mut schema: Value) {
    let before = of_what["properties"][name].take();
    for keyword in ["description", "default", "example"] {
        if let Some(said) = before.get(keyword) {
            schema[keyword] = said.clone();
        }
    }
    of_what["properties"][name] = schema;
}

pub(in crate::http) fn nullable(schema: Value) -> Value {
    json!({"anyOf": [schema, {"type": "null"}]})
}

pub(in crate::http) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

pub(in crate::http) fn printed(max: u32) -> Value {
    json!({"type": "string", "maxLength": max, "pattern": PRINTED})
}

pub(in crate::http) fn named(max: u32) -> Value {
    json!({"type": "string", "maxLength": max, "pattern": NAMED})
}

pub(in crate::http) fn storable() -> Value {
    json!({"type": "string", "pattern": STORABLE})
}

pub(in crate::http) fn any_object(says: &Value) -> Value {
    let mut object = json!({"type": ["object", "null"], "description": says});
    open(&mut object);
    object
}

/// Other members are ignored, if they can be stored.
pub(in crate::http) fn open(object: &mut Value) {
    object["propertyNames"] = json!({"type": "string", "pattern": STORABLE});
    object["additionalProperties"] = reference("AnyJson");
}

/// Other members are refused.
pub(in crate::http) fn closed(object: &mut Value) {
    object["additionalProperties"] = false.into();
}
