//! A condition on what an event carries: comparisons of fields, joined by and, or, not.

use std::cell::OnceCell;
use std::cmp::Ordering;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::compared::{compare, same};
use crate::event::Event;
use crate::field::{Code, FieldError};
use crate::names::names;

/// Comparisons and joins of one filter, at most.
pub const MAX_CONDITIONS: usize = 100;
/// How deep joins may nest.
pub const MAX_DEPTH: usize = 8;
/// Values of one `in`, at most.
pub const MAX_VALUES: usize = 100;
/// Names in one path, at most; an event nests no deeper.
const MAX_NAMES: usize = 32;
/// Longest name or text to compare with, in characters.
const MAX_CHARS: usize = 1_000;

names! {
    /// How a field is compared.
    enum Operator {
        Eq = "eq",
        Ne = "ne",
        Gt = "gt",
        Gte = "gte",
        Lt = "lt",
        Lte = "lte",
        Exists = "exists",
        Contains = "contains",
        In = "in",
    }
}

names! {
    /// The object of an event that a path begins in.
    enum Root {
        Data = "data",
        Metadata = "metadata",
        Context = "context",
        Properties = "properties",
    }
}

/// A condition on the objects of an event:
/// `{"field": "data.total", "op": "gte", "value": 100}`, or `{"and": […]}`, `{"or": […]}`,
/// `{"not": {…}}` of such. `op` is one of eq (the default), ne, gt, gte, lt, lte, exists, contains,
/// in. It keeps the text it was read from, which is what it serializes to.
#[derive(Debug, Clone)]
pub struct Filter {
    source: Value,
    node: Node,
}

#[derive(Debug, Clone)]
enum Node {
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Is(Comparison),
}

#[derive(Debug, Clone)]
struct Comparison {
    root: Root,
    names: Vec<String>,
    operator: Operator,
    value: Value,
}

/// An event whose objects are parsed once, and only if a filter looks into them.
#[derive(Debug)]
pub struct View<'a> {
    pub(super) event: &'a Event,
    parsed: [OnceCell<Value>; 4],
}

impl<'a> View<'a> {
    /// Nothing is parsed yet.
    #[must_use]
    pub fn new(event: &'a Event) -> Self {
        Self {
            event,
            parsed: Default::default(),
        }
    }

    fn object(&self, root: Root) -> &Value {
        let json = match root {
            Root::Data => &self.event.data,
            Root::Metadata => &self.event.metadata,
            Root::Context => &self.event.context,
            Root::Properties => &self.event.properties,
        };
        let [data, metadata, context, properties] = &self.parsed;
        let cell = match root {
            Root::Data => data,
            Root::Metadata => metadata,
            Root::Context => context,
            Root::Properties => properties,
        };
        cell.get_or_init(|| json.to_value())
    }
}

impl Filter {
    /// Reads a filter; `path` is where it stands, for the errors.
    ///
    /// # Errors
    /// Every field that is wrong, also a condition that no event can meet.
    pub fn read(source: &Value, path: &str) -> Result<Self, Vec<FieldError>> {
        let mut reading = Reading {
            errors: Vec::new(),
            left: MAX_CONDITIONS,
        };
        match reading.node(source, path, MAX_DEPTH) {
            Some(node) if reading.errors.is_empty() => Ok(Self {
                source: source.clone(),
                node,
            }),
            _ => Err(reading.errors),
        }
    }

    /// Whether the event meets it.
    #[must_use]
    pub fn matches(&self, view: &View<'_>) -> bool {
        self.node.matches(view)
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Serialize for Filter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.source.serialize(serializer)
    }
}

impl Node {
    fn matches(&self, view: &View<'_>) -> bool {
        match self {
            Self::And(nodes) => nodes.iter().all(|node| node.matches(view)),
            Self::Or(nodes) => nodes.iter().any(|node| node.matches(view)),
            Self::Not(node) => !node.matches(view),
            Self::Is(comparison) => comparison.holds(comparison.find(view)),
        }
    }
}

impl Comparison {
    /// The field; one that is null is absent, as everywhere.
    fn find<'a>(&self, view: &'a View<'_>) -> Option<&'a Value> {
        let mut value = view.object(self.root);
        for name in &self.names {
            value = match value {
                Value::Object(members) => members.get(name)?,
                Value::Array(items) => items.get(name.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        (!value.is_null()).then_some(value)
    }

    fn holds(&self, found: Option<&Value>) -> bool {
        let wanted = &self.value;
        let order = || found.and_then(|found| compare(found, wanted));
        match self.operator {
            Operator::Eq => found.is_some_and(|found| same(found, wanted)),
            Operator::Ne => !found.is_some_and(|found| same(found, wanted)),
            Operator::Gt => order().is_some_and(Ordering::is_gt),
            Operator::Gte => order().is_some_and(Ordering::is_ge),
            Operator::Lt => order().is_some_and(Ordering::is_lt),
            Operator::Lte => order().is_some_and(Ordering::is_le),
            Operator::Exists => found.is_some() == wanted.as_bool().unwrap_or(true),
            Operator::Contains => match (found, wanted) {
                (Some(Value::String(text)), Value::String(part)) => text.contains(part.as_str()),
                (Some(Value::Array(items)), _) => items.iter().any(|item| same(item, wanted)),
                _ => false,
            },
            Operator::In => found.is_some_and(|found| {
                let mut values = wanted.as_array().into_iter().flatten();
                values.any(|value| same(found, value))
            }),
        }
    }

    /// Whether no value at all meets both.
    fn excludes(&self, other: &Self) -> bool {
        if (self.root, &self.names) != (other.root, &other.names) {
            return false;
        }
        match (self.operator, other.operator) {
            (Operator::Eq, _) => !other.holds(Some(&self.value)),
            (Operator::Exists, Operator::Exists) => self.value != other.value,
            (Operator::Exists, operator) => {
                self.value == Value::Bool(false) && operator != Operator::Ne
            }
            (Operator::Gt | Operator::Gte, Operator::Lt | Operator::Lte) => {
                let strict = self.operator == Operator::Gt || other.operator == Operator::Lt;
                match compare(&self.value, &other.value) {
                    Some(order) => order.is_gt() || (strict && order.is_eq()),
                    // One asks for a number, the other for a text.
                    None => true,
                }
            }
            _ => false,
        }
    }
}

struct Reading {
    errors: Vec<FieldError>,
    left: usize,
}

impl Reading {
    fn refuse<T>(&mut self, path: &str, code: Code, message: impl Into<String>) -> Option<T> {
        self.errors.push(FieldError::new(path, code, message));
        None
    }

    fn node(&mut self, source: &Value, path: &str, depth: usize) -> Option<Node> {
        if depth == 0 {
            let message = format!("nests deeper than {MAX_DEPTH}");
            return self.refuse(path, Code::TooDeep, message);
        }
        let Some(left) = self.left.checked_sub(1) else {
            let message = format!("has more than {MAX_CONDITIONS} conditions");
            return self.refuse(path, Code::OutOfRange, message);
        };
        self.left = left;
        let Some(members) = source.as_object() else {
            return self.refuse(path, Code::WrongType, "must be an object");
        };
        let mut joins = ["and", "or", "not"].into_iter();
        let Some(join) = joins.find(|join| members.contains_key(*join)) else {
            return self.comparison(members, path).map(Node::Is);
        };
        let at = format!("{path}.{join}");
        self.only(members, &[join], path);
        let inner = &members[join];
        if join == "not" {
            let node = self.node(inner, &at, depth - 1)?;
            return Some(Node::Not(Box::new(node)));
        }
        let Some(items) = inner.as_array().filter(|items| !items.is_empty()) else {
            return self.refuse(
                &at,
                Code::WrongType,
                "must be a list of at least one condition",
            );
        };
        let mut nodes = Vec::with_capacity(items.len().min(MAX_CONDITIONS));
        for (index, item) in items.iter().enumerate().take(MAX_CONDITIONS + 1) {
            nodes.extend(self.node(item, &format!("{at}[{index}]"), depth - 1));
        }
        if join == "or" {
            return Some(Node::Or(nodes));
        }
        let comparisons = || {
            nodes.iter().filter_map(|node| match node {
                Node::Is(comparison) => Some(comparison),
                _ => None,
            })
        };
        if comparisons().any(|one| comparisons().any(|other| one.excludes(other))) {
            self.refuse::<Node>(
                &at,
                Code::IllegalValue,
                "has conditions that exclude each other",
            );
        }
        Some(Node::And(nodes))
    }

    fn only(&mut self, members: &Map<String, Value>, known: &[&str], path: &str) {
        for name in members
            .keys()
            .filter(|name| !known.contains(&name.as_str()))
        {
            let message = format!("is not known beside {}", known.join(", "));
            self.refuse::<()>(&format!("{path}.{name}"), Code::IllegalValue, message);
        }
    }

    fn comparison(&mut self, members: &Map<String, Value>, path: &str) -> Option<Comparison> {
        self.only(members, &["field", "op", "value"], path);
        let field = self.field(members.get("field"), &format!("{path}.field"));
        let operator = match members.get("op") {
            None => Some(Operator::Eq),
            Some(op) => op.as_str().and_then(Operator::parse).or_else(|| {
                let all: Vec<_> = Operator::ALL.iter().map(|op| op.as_str()).collect();
                let message = format!("must be one of {}", all.join(", "));
                self.refuse(&format!("{path}.op"), Code::IllegalValue, message)
            }),
        };
        let operator = operator?;
        let value = members.get("value").cloned().unwrap_or_default();
        self.value(operator, &value, &format!("{path}.value"));
        let (root, names) = field?;
        Some(Comparison {
            root,
            names,
            operator,
            value,
        })
    }

    /// `data.order.total`, or `["data", "order.id"]` for names with dots.
    fn field(&mut self, field: Option<&Value>, path: &str) -> Option<(Root, Vec<String>)> {
        let names: Option<Vec<String>> = match field {
            None | Some(Value::Null) => {
                return self.refuse(path, Code::Missing, "is required, such as data.total");
            }
            Some(Value::String(text)) => Some(text.split('.').map(str::to_owned).collect()),
            Some(other) => serde_json::from_value(other.clone()).ok(),
        };
        let Some(mut names) = names else {
            return self.refuse(path, Code::WrongType, "must be a path or a list of names");
        };
        let root = names.first().and_then(|name| Root::parse(name));
        let (Some(root), 2..=MAX_NAMES) = (root, names.len()) else {
            let message = "must be a field below data, metadata, context or properties, \
                           such as data.total";
            return self.refuse(path, Code::IllegalValue, message);
        };
        names.remove(0);
        if names.iter().any(|name| !fits(name)) {
            return self.refuse(
                path,
                Code::IllegalValue,
                "has a name that no field can have",
            );
        }
        Some((root, names))
    }

    fn value(&mut self, operator: Operator, value: &Value, path: &str) {
        let texts = match value {
            Value::Array(items) => items.as_slice(),
            one => std::slice::from_ref(one),
        };
        if texts
            .iter()
            .any(|text| text.as_str().is_some_and(|text| !fits(text)))
        {
            let message = format!("must have at most {MAX_CHARS} characters and no NUL");
            self.refuse::<()>(path, Code::OutOfRange, message);
        }
        let wanted = match (operator, value) {
            (Operator::Exists, Value::Null | Value::Bool(_)) => return,
            (Operator::Exists, _) => "must be true or false",
            (Operator::In, Value::Array(items)) if (1..=MAX_VALUES).contains(&items.len()) => {
                return;
            }
            (Operator::In, _) => "must be a list of 1 to 100 values",
            (_, Value::Null) => "is required; for a field that is absent use exists",
            (Operator::Gt | Operator::Gte | Operator::Lt | Operator::Lte, Value::Number(_)) => {
                return;
            }
            (Operator::Gt | Operator::Gte | Operator::Lt | Operator::Lte, Value::String(_)) => {
                return;
            }
            (Operator::Gt | Operator::Gte | Operator::Lt | Operator::Lte, _) => {
                "must be a number or a text"
            }
            _ => return,
        };
        let code = if value.is_null() {
            Code::Missing
        } else {
            Code::WrongType
        };
        self.refuse::<()>(path, code, wanted);
    }
}

/// Whether an event can carry it.
fn fits(text: &str) -> bool {
    text.chars().count() <= MAX_CHARS && !text.contains('\0')
}
