//! What a projection is made of.

use serde_json::Value;

use super::folding::Fold;
use crate::event::Event;
use crate::field::{Code, FieldError};
use crate::pattern::TypePattern;
use crate::stream;

/// Patterns of one definition.
const MAX_PATTERNS: usize = 100;
/// Longest name, in characters.
const MAX_NAME: usize = 255;

/// The definition of a projection: which events of which entities are folded, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// Its name.
    pub name: String,
    /// What stands before the first colon of the streams it is about (S4-31).
    pub entity_type: String,
    /// The one entity it is about; `None` is each of the type.
    pub entity_id: Option<String>,
    /// The types of the events it folds, one of them at least.
    pub event_types: Vec<TypePattern>,
    /// How it folds them.
    pub fold: Fold,
}

impl Definition {
    /// Reads a definition: `name`, `entity_type`, and if wanted `entity_id`, `event_types` (default all)
    /// and `fold` (default `last_by_type`).
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(value: &Value) -> Result<Self, Vec<FieldError>> {
        let Some(members) = value.as_object() else {
            let message = "must be an object";
            return Err(vec![FieldError::new("", Code::WrongType, message)]);
        };
        let mut errors = vec![];
        let mut text = |name: &str, required: bool| match members.get(name) {
            Some(Value::String(text)) => {
                let text = text.trim();
                if (1..=MAX_NAME).contains(&text.chars().count()) && !text.contains('\0') {
                    return Some(text.to_owned());
                }
                let message = "must have 1 to 255 characters, without NUL";
                errors.push(FieldError::new(name, Code::OutOfRange, message));
                None
            }
            None | Some(Value::Null) => {
                if required {
                    errors.push(FieldError::new(name, Code::Missing, "is required"));
                }
                None
            }
            Some(_) => {
                errors.push(FieldError::new(name, Code::WrongType, "must be text"));
                None
            }
        };
        let name = text("name", true);
        let entity_type = text("entity_type", true);
        let entity_id = text("entity_id", false);
        if entity_type.as_deref().is_some_and(|of| of.contains(':')) {
            let message =
                "must not contain a colon: it stands before the first one of the stream id";
            errors.push(FieldError::new("entity_type", Code::BadFormat, message));
        }
        let event_types = patterns(members.get("event_types"), &mut errors);
        let fold = match members.get("fold") {
            None | Some(Value::Null) => Fold::parse(&serde_json::json!({"rule": "last_by_type"})),
            Some(fold) => Fold::parse(fold),
        };
        let fold = fold.map_err(|wrong| errors.extend(wrong));
        match (name, entity_type, fold) {
            (Some(name), Some(entity_type), Ok(fold)) if errors.is_empty() => Ok(Self {
                name,
                entity_type,
                entity_id,
                event_types,
                fold,
            }),
            _ => Err(errors),
        }
    }

    /// Whether events of that type are folded.
    #[must_use]
    pub fn takes(&self, event_type: &str) -> bool {
        self.event_types.iter().any(|of| of.matches(event_type))
    }

    /// The id of the entity that an event concerns, if it is one that this projection is about.
    #[must_use]
    pub fn entity(&self, event: &Event) -> Option<String> {
        let stream = stream::stream_id(event)?;
        let (entity_type, entity_id) = stream::split(&stream);
        let wanted = self.entity_id.as_deref().is_none_or(|id| id == entity_id);
        (entity_type == self.entity_type && wanted).then(|| entity_id.to_owned())
    }
}

fn patterns(value: Option<&Value>, errors: &mut Vec<FieldError>) -> Vec<TypePattern> {
    let everything = Value::Array(vec!["**".into()]);
    let wrong = |path: String, code, message: String| FieldError::new(path, code, message);
    let texts = match value
        .filter(|value| !value.is_null())
        .unwrap_or(&everything)
    {
        Value::Array(texts) if (1..=MAX_PATTERNS).contains(&texts.len()) => texts,
        Value::Array(_) => {
            let message = format!("must have 1 to {MAX_PATTERNS} patterns");
            errors.push(wrong("event_types".to_owned(), Code::OutOfRange, message));
            return vec![];
        }
        _ => {
            let message = "must be an array of patterns".to_owned();
            errors.push(wrong("event_types".to_owned(), Code::WrongType, message));
            return vec![];
        }
    };
    let mut patterns = vec![];
    for (n, text) in texts.iter().enumerate() {
        let path = format!("event_types[{n}]");
        match text.as_str().map(TypePattern::parse) {
            Some(Ok(pattern)) => patterns.push(pattern),
            Some(Err(message)) => errors.push(wrong(path, Code::BadFormat, message)),
            None => errors.push(wrong(path, Code::WrongType, "must be text".to_owned())),
        }
    }
    patterns
}
