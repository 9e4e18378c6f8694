//! The rules of a fold.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::number;
use super::state::{FoldError, Reducer, State};
use crate::event::Event;
use crate::field::{Code, FieldError};
use crate::json::whole;
use crate::timestamp;

/// Events that `last` keeps at most.
const MAX_LAST: u64 = 100;
/// Longest name in a rule, in characters.
const MAX_NAME: usize = 255;
/// The names of the rules, for messages.
const RULES: &str = "last_by_type, merge, count, sum, min, max, set, last, reducer";

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Rule {
    /// `state[event_type] = data` (S4-41).
    LastByType,
    /// The members of `data` replace those of the state.
    Merge,
    /// The number of events.
    Count { member: String },
    /// A figure of a field of `data`.
    Figure {
        of: Figure,
        field: String,
        member: String,
    },
    /// The distinct values of a field, in the order of their first appearance.
    Set { field: String, member: String },
    /// The last events.
    Last { count: u64, member: String },
    /// A reducer of that name.
    Reducer { name: String },
}

/// What is kept of a numeric field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Figure {
    Sum,
    Min,
    Max,
}

impl Figure {
    fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Min => "min",
            Self::Max => "max",
        }
    }
}

pub(super) fn parse(value: &Value, most: usize) -> Result<Vec<Rule>, Vec<FieldError>> {
    let wrong = |path: &str, code, message: String| vec![FieldError::new(path, code, message)];
    let rules = match value {
        Value::Object(members) => return Ok(vec![one(members, "fold").map_err(|e| vec![e])?]),
        Value::Array(rules) if (1..=most).contains(&rules.len()) => rules,
        Value::Array(_) => {
            let message = format!("must have 1 to {most} rules");
            return Err(wrong("fold", Code::OutOfRange, message));
        }
        _ => {
            let message = "must be an object with rule, or an array of such objects".to_owned();
            return Err(wrong("fold", Code::WrongType, message));
        }
    };
    let (mut parsed, mut errors) = (vec![], vec![]);
    for (n, rule) in rules.iter().enumerate() {
        let path = format!("fold[{n}]");
        match rule.as_object().map(|members| one(members, &path)) {
            Some(Ok(rule)) => parsed.push(rule),
            Some(Err(error)) => errors.push(error),
            None => errors.push(FieldError::new(path, Code::WrongType, "must be an object")),
        }
    }
    if errors.is_empty() {
        Ok(parsed)
    } else {
        Err(errors)
    }
}

fn one(members: &Map<String, Value>, path: &str) -> Result<Rule, FieldError> {
    let error =
        |name: &str, code, message: &str| FieldError::new(format!("{path}.{name}"), code, message);
    let text = |name: &str| match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => {
            let fits = (1..=MAX_NAME).contains(&text.chars().count()) && !text.contains('\0');
            if fits {
                Ok(Some(text.clone()))
            } else {
                let message = "must have 1 to 255 characters, without NUL";
                Err(error(name, Code::OutOfRange, message))
            }
        }
        Some(_) => Err(error(name, Code::WrongType, "must be text")),
    };
    let Some(rule) = text("rule")? else {
        return Err(error("rule", Code::Missing, "is required"));
    };
    let field = || match text("field")? {
        Some(field) if pointer(&field).contains("//") => {
            let message = "must be a path such as total.amount";
            Err(error("field", Code::BadFormat, message))
        }
        Some(field) => Ok(field),
        None => Err(error("field", Code::Missing, "is required: a path in data")),
    };
    let member = |default: &str| Ok(text("as")?.unwrap_or_else(|| default.to_owned()));
    let figure = |of: Figure| {
        Ok(Rule::Figure {
            of,
            field: field()?,
            member: member(of.as_str())?,
        })
    };
    let (rule, known): (Rule, &[&str]) = match rule.as_str() {
        "last_by_type" => (Rule::LastByType, &[]),
        "merge" => (Rule::Merge, &[]),
        "count" => (
            Rule::Count {
                member: member("count")?,
            },
            &["as"],
        ),
        "sum" => (figure(Figure::Sum)?, &["field", "as"]),
        "min" => (figure(Figure::Min)?, &["field", "as"]),
        "max" => (figure(Figure::Max)?, &["field", "as"]),
        "set" => (
            Rule::Set {
                field: field()?,
                member: member("values")?,
            },
            &["field", "as"],
        ),
        "last" => {
            let count = match members.get("count") {
                None | Some(Value::Null) => 10,
                Some(count) => match whole(count) {
                    Some(count) if (1..=MAX_LAST).contains(&count) => count,
                    _ => return Err(error("count", Code::OutOfRange, "must be from 1 to 100")),
                },
            };
            let member = member("events")?;
            (Rule::Last { count, member }, &["count", "as"])
        }
        "reducer" => match text("name")? {
            Some(name) => (Rule::Reducer { name }, &["name"]),
            None => {
                return Err(error(
                    "name",
                    Code::Missing,
                    "is required: that of a reducer",
                ));
            }
        },
        _ => {
            let message = format!("must be one of {RULES}");
            return Err(error("rule", Code::OutOfRange, &message));
        }
    };
    let stranger = |name: &&String| *name != "rule" && !known.contains(&name.as_str());
    match members.keys().find(stranger) {
        Some(name) => Err(error(name, Code::BadFormat, "means nothing to this rule")),
        None => Ok(rule),
    }
}

impl Rule {
    pub(super) fn to_value(&self) -> Value {
        match self {
            Self::LastByType => json!({"rule": "last_by_type"}),
            Self::Merge => json!({"rule": "merge"}),
            Self::Count { member } => json!({"rule": "count", "as": member}),
            Self::Figure { of, field, member } => {
                json!({"rule": of.as_str(), "field": field, "as": member})
            }
            Self::Set { field, member } => json!({"rule": "set", "field": field, "as": member}),
            Self::Last { count, member } => json!({"rule": "last", "count": count, "as": member}),
            Self::Reducer { name } => json!({"rule": "reducer", "name": name}),
        }
    }

    pub(super) fn is_ordered(&self) -> bool {
        !matches!(
            self,
            Self::Count { .. }
                | Self::Figure {
                    of: Figure::Min | Figure::Max,
                    ..
                }
        )
    }

    pub(super) fn apply(
        &self,
        reducers: &HashMap<String, Reducer>,
        state: &mut State,
        event: &Event,
    ) -> Result<(), FoldError> {
        match self {
            Self::LastByType => {
                state.insert(event.event_type.clone(), event.data.to_value());
            }
            Self::Merge => {
                if let Value::Object(members) = event.data.to_value() {
                    state.extend(members);
                }
            }
            Self::Count { member } => {
                let count = state.get(member).and_then(Value::as_u64).unwrap_or(0);
                state.insert(member.clone(), (count + 1).into());
            }
            Self::Figure { of, field, member } => {
                let value = match at(event, field) {
                    None => return Ok(()),
                    Some(Value::Number(value)) => value,
                    Some(_) => return Err(fault(field, "is no number")),
                };
                let next = match (of, state.get(member)) {
                    (Figure::Sum, Some(Value::Number(sum))) => number::add(sum, &value)
                        .ok_or_else(|| fault(field, "makes the sum too large"))?,
                    (Figure::Min, Some(Value::Number(old))) if !number::is_less(&value, old) => {
                        return Ok(());
                    }
                    (Figure::Max, Some(Value::Number(old))) if !number::is_less(old, &value) => {
                        return Ok(());
                    }
                    _ => value,
                };
                state.insert(member.clone(), Value::Number(next));
            }
            Self::Set { field, member } => {
                let value = match at(event, field) {
                    None => return Ok(()),
                    Some(Value::Array(_) | Value::Object(_)) => {
                        return Err(fault(field, "is no text, number or truth value"));
                    }
                    Some(value) => value,
                };
                match state.get_mut(member) {
                    Some(Value::Array(values)) if values.contains(&value) => {}
                    Some(Value::Array(values)) => values.push(value),
                    _ => {
                        state.insert(member.clone(), Value::Array(vec![value]));
                    }
                }
            }
            Self::Last { count, member } => {
                let entry = json!({
                    "event_id": event.event_id, "event_type": event.event_type,
                    "timestamp": timestamp::format(event.timestamp), "data": event.data.to_value(),
                });
                let mut events = match state.remove(member) {
                    Some(Value::Array(events)) => events,
                    _ => vec![],
                };
                events.push(entry);
                let most = usize::try_from(*count).unwrap_or(usize::MAX);
                events.drain(..events.len().saturating_sub(most));
                state.insert(member.clone(), Value::Array(events));
            }
            Self::Reducer { name } => {
                let Some(reducer) = reducers.get(name) else {
                    let message = format!("this process has no reducer {name}");
                    return Err(FoldError::new("", message));
                };
                let reduced = reducer(state, event);
                let failed = |message| FoldError::new("", format!("reducer {name}: {message}"));
                *state = reduced.map_err(failed)?;
            }
        }
        Ok(())
    }
}

fn fault(field: &str, message: &str) -> FoldError {
    let path = pointer(field).replace('/', ".");
    FoldError::new(format!("data{path}"), message)
}

/// A path with dots as a JSON pointer; a pointer stays as it is.
fn pointer(field: &str) -> String {
    if field.starts_with('/') {
        field.to_owned()
    } else {
        format!("/{}", field.replace('.', "/"))
    }
}

/// The value of that field of `data`; null counts as absent.
fn at(event: &Event, field: &str) -> Option<Value> {
    let data = event.data.to_value();
    data.pointer(&pointer(field))
        .filter(|value| !value.is_null())
        .cloned()
}
