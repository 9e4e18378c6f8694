//! What is said of a processor, in the body of a request.

use domain::FieldError;
use domain::field::Code;
use domain::json::whole;
use domain::processor::{Action, ProcessorType, Settings};
use domain::selector::Selector;
use serde::Deserialize;
use serde_json::{Map, Value};
use store::processors::NewProcessor;
use utoipa::ToSchema;

use crate::http::members::{enabled, unknown};

const FIELDS: [&str; 6] = [
    "processor_name",
    "processor_type",
    "enabled",
    "priority",
    "filters",
    "config",
];

/// A processor to register; of a change, the fields to be changed.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(
    dead_code,
    reason = "describes the body; Asked reads it, naming every wrong field"
)]
pub struct ProcessorRequest {
    /// Unique; 1 to 255 characters.
    #[schema(example = "to-billing")]
    processor_name: String,
    /// `kafka`, `webhook`, `handler` or `log`.
    #[schema(example = "kafka")]
    processor_type: String,
    #[schema(default = true)]
    enabled: Option<bool>,
    /// Processors of higher priority begin first; none waits for another.
    #[schema(minimum = -1_000_000, maximum = 1_000_000, default = 0)]
    priority: Option<i32>,
    /// Which events: `event_types` (patterns), `event_sources`, `event_categories`, `users`, `filter`; all
    /// that is not said means all.
    #[schema(value_type = Option<Object>, example = json!({"event_types": ["order.*"]}))]
    filters: Option<Value>,
    /// `topic` (kafka), `url` (webhook) or `handler` (handler), `timeout_seconds` (30), `concurrency` (64), `retry_policy`.
    #[schema(value_type = Option<Object>, example = json!({"topic": "billing.orders"}))]
    config: Option<Value>,
}

/// Reads all that can be said of a processor. What is wrong is appended to `errors`.
pub(super) fn read_members(
    members: &Map<String, Value>,
    errors: &mut Vec<FieldError>,
) -> (NewProcessor, Option<Action>) {
    unknown(members, &FIELDS, errors);
    let text = |name: &str, errors: &mut Vec<FieldError>| match members.get(name) {
        Some(Value::String(text)) if (1..=255).contains(&text.trim().chars().count()) => {
            text.trim().to_owned()
        }
        found => {
            let code = match found {
                None | Some(Value::Null) => Code::Missing,
                Some(Value::String(_)) => Code::OutOfRange,
                Some(_) => Code::WrongType,
            };
            errors.push(FieldError::new(
                name,
                code,
                "must be a text of 1 to 255 characters",
            ));
            String::new()
        }
    };
    let processor_name = text("processor_name", errors);
    let processor_type = text("processor_type", errors);
    let kind = ProcessorType::parse(&processor_type);
    if kind.is_none() && !processor_type.is_empty() {
        let names: Vec<_> = ProcessorType::ALL
            .iter()
            .map(|kind| kind.as_str())
            .collect();
        let message = format!("must be one of {}", names.join(", "));
        errors.push(FieldError::new(
            "processor_type",
            Code::IllegalValue,
            message,
        ));
    }
    let enabled = enabled(members, errors);
    let priority = match members.get("priority") {
        None | Some(Value::Null) => 0,
        Some(value) => {
            let number = whole(value).filter(|n| (-1_000_000..=1_000_000).contains(n));
            number.unwrap_or_else(|| {
                let message = "must be an integer of -1000000 to 1000000";
                errors.push(FieldError::new("priority", Code::OutOfRange, message));
                0
            })
        }
    };
    let object = |name: &str, errors: &mut Vec<FieldError>| match members.get(name) {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(object)) => object.clone(),
        Some(_) => {
            errors.push(FieldError::new(name, Code::WrongType, "must be an object"));
            Map::new()
        }
    };
    let filters = Value::Object(object("filters", errors));
    if let Err(wrong) = Selector::read(&filters) {
        errors.extend(wrong.into_iter().map(|error| error.under("filters")));
    }
    let config = object("config", errors);
    let action = kind.map(|kind| Settings::read(kind, &config, errors).action);
    let new = NewProcessor {
        processor_name,
        processor_type,
        enabled,
        priority,
        filters: filters.to_string(),
        config: Value::Object(config).to_string(),
    };
    (new, action)
}
