//! Which events a rule is about: a subscription, a handler.

mod compared;
mod filter;

use std::collections::HashSet;
use std::hash::Hash;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::category::EventCategory;
use crate::event::{Event, EventSource};
use crate::field::{Code, FieldError};
use crate::pattern::TypePattern;
pub use filter::{Filter, MAX_CONDITIONS, MAX_DEPTH, MAX_VALUES, View};

/// Entries of one list, at most.
pub const MAX_ENTRIES: usize = 1_000;
/// Longest user id, in characters.
const MAX_USER: usize = 255;

/// Which events are meant: those that every part agrees to. An empty list, and no filter, agree to
/// all (C36).
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Selector {
    /// Patterns of types; one has to match.
    #[serde(serialize_with = "texts")]
    pub event_types: Vec<TypePattern>,
    /// Sources.
    pub event_sources: Vec<EventSource>,
    /// Categories.
    pub event_categories: Vec<EventCategory>,
    /// Ids of users; events without one are not meant then.
    pub users: Vec<String>,
    /// A condition on what the event carries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
}

impl Selector {
    /// The names of its fields.
    pub const FIELDS: [&str; 5] = [
        "event_types",
        "event_sources",
        "event_categories",
        "users",
        "filter",
    ];

    /// Reads a selector.
    ///
    /// # Errors
    /// Every field that is wrong or unknown.
    pub fn read(source: &Value) -> Result<Self, Vec<FieldError>> {
        let Some(members) = source.as_object() else {
            let error = FieldError::new("", Code::WrongType, "must be an object");
            return Err(vec![error]);
        };
        let unknown = members
            .keys()
            .filter(|name| !Self::FIELDS.contains(&name.as_str()));
        let unknown = unknown.map(|name| FieldError::new(name, Code::IllegalValue, "is not known"));
        let mut errors: Vec<FieldError> = unknown.collect();
        let selector = Self::read_from(members, &mut errors);
        if errors.is_empty() {
            Ok(selector)
        } else {
            Err(errors)
        }
    }

    /// Reads its fields among others; what is wrong with them is appended to `errors`.
    pub fn read_from(members: &Map<String, Value>, errors: &mut Vec<FieldError>) -> Self {
        let filter = match members.get("filter") {
            None | Some(Value::Null) => None,
            Some(source) => Filter::read(source, "filter")
                .map_err(|wrong| errors.extend(wrong))
                .ok(),
        };
        Self {
            event_types: list(members, "event_types", errors, |text| {
                let pattern = TypePattern::parse(text)?;
                if text.chars().any(char::is_control) {
                    return Err("must not have control characters, as no type has".to_owned());
                }
                Ok(pattern)
            }),
            event_sources: list(members, "event_sources", errors, |text| {
                EventSource::parse(text)
                    .ok_or_else(|| one_of(EventSource::ALL, EventSource::as_str))
            }),
            event_categories: list(members, "event_categories", errors, |text| {
                EventCategory::parse(text)
                    .ok_or_else(|| one_of(EventCategory::ALL, EventCategory::as_str))
            }),
            users: list(members, "users", errors, |text| {
                let text = text.trim();
                let fits = (1..=MAX_USER).contains(&text.chars().count()) && !text.contains('\0');
                let message = || format!("must have 1 to {MAX_USER} characters and no NUL");
                fits.then(|| text.to_owned()).ok_or_else(message)
            }),
            filter,
        }
    }

    /// Whether the event is meant.
    #[must_use]
    pub fn matches(&self, event: &Event) -> bool {
        self.matches_view(&View::new(event))
    }

    /// The same for one of many selectors asked about one event, which parse it once.
    #[must_use]
    pub fn matches_view(&self, view: &View<'_>) -> bool {
        let event = view.event;
        let user = |users: &Vec<String>| {
            event
                .user_id
                .as_ref()
                .is_some_and(|user| users.contains(user))
        };
        (self.event_sources.is_empty() || self.event_sources.contains(&event.event_source))
            && (self.event_categories.is_empty()
                || self.event_categories.contains(&event.event_category))
            && (self.event_types.is_empty()
                || self
                    .event_types
                    .iter()
                    .any(|t| t.matches(&event.event_type)))
            && (self.users.is_empty() || user(&self.users))
            && self
                .filter
                .as_ref()
                .is_none_or(|filter| filter.matches(view))
    }
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let source = Value::deserialize(deserializer)?;
        Self::read(&source).map_err(|errors| {
            let texts: Vec<String> = errors.iter().map(FieldError::to_string).collect();
            D::Error::custom(texts.join("; "))
        })
    }
}

/// A list of texts, each read by `read`; a repeated one counts once.
fn list<T: Clone + Eq + Hash>(
    members: &Map<String, Value>,
    name: &str,
    errors: &mut Vec<FieldError>,
    read: impl Fn(&str) -> Result<T, String>,
) -> Vec<T> {
    let items = match members.get(name) {
        None | Some(Value::Null) => return Vec::new(),
        Some(Value::Array(items)) => items,
        Some(_) => {
            errors.push(FieldError::new(
                name,
                Code::WrongType,
                "must be a list of texts",
            ));
            return Vec::new();
        }
    };
    if items.len() > MAX_ENTRIES {
        let message = format!("must have at most {MAX_ENTRIES} entries");
        errors.push(FieldError::new(name, Code::OutOfRange, message));
        return Vec::new();
    }
    let mut seen = HashSet::new();
    let mut all = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let found = match item.as_str() {
            Some(text) => read(text).map_err(|message| (Code::IllegalValue, message)),
            None => Err((Code::WrongType, "must be text".to_owned())),
        };
        match found {
            Ok(value) if seen.insert(value.clone()) => all.push(value),
            Ok(_) => {}
            Err((code, message)) => {
                errors.push(FieldError::new(format!("{name}[{index}]"), code, message));
            }
        }
    }
    all
}

fn one_of<T: Copy>(all: &[T], name: fn(T) -> &'static str) -> String {
    let names: Vec<&str> = all.iter().map(|one| name(*one)).collect();
    format!("must be one of {}", names.join(", "))
}

fn texts<S: serde::Serializer>(patterns: &[TypePattern], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(patterns.iter().map(TypePattern::as_str))
}

#[cfg(test)]
mod tests;
