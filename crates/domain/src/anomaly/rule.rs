//! The rules: what is judged, and when it is an anomaly.

use std::ops::RangeInclusive;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::event::EventSource;
use crate::field::{Code, FieldError};
use crate::json::whole;
use crate::names::names;
use crate::pattern::TypePattern;

names! {
    /// What a rule looks for.
    pub enum Kind {
        /// More errors among the events of a group than the threshold allows.
        ErrorRate = "error_rate",
        /// More events of a type than is usual at this hour of the week.
        Surge = "surge",
        /// Fewer events of a type than is usual at this hour of the week.
        Silence = "silence",
    }
}

names! {
    /// What the events are grouped by for their error rate.
    pub enum By {
        /// Their source.
        Source = "source",
        /// The API that their data names (`endpoint` or `api`); events without are of none.
        Api = "api",
        /// The family of their type: its name up to the last dot, underscore or dash.
        Type = "type",
    }
}

/// Longest window, in minutes.
pub const MAX_WINDOW: i64 = 60;
/// Longest name, in characters.
const MAX_NAME: usize = 100;
/// Patterns or sources of one rule, at most.
const MAX_ITEMS: usize = 100;

/// Types that tell of an error unless a rule says others. The type in lower case counts too.
const ERRORS: [&str; 5] = [
    "**.*error*.**",
    "**.*fail*.**",
    "**.*timeout*.**",
    "**.*exception*.**",
    "**.*crash*.**",
];

/// A rule.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rule {
    /// Unique within the tenant.
    pub name: String,
    /// What it looks for.
    pub kind: Kind,
    /// What error rates are grouped by.
    pub by: By,
    /// Which types it is about; none means all.
    #[serde(serialize_with = "texts")]
    pub event_types: Vec<TypePattern>,
    /// Which sources it is about; none means all.
    pub event_sources: Vec<EventSource>,
    /// Which types tell of an error.
    #[serde(serialize_with = "texts")]
    pub error_types: Vec<TypePattern>,
    /// Of an error rate the share that is too much (0.05); of a surge the multiple of what is usual (3);
    /// of a silence the share of what is usual (0.2).
    pub threshold: f64,
    /// Fewer events tell nothing: of an error rate those in the window, of a surge too, of a silence those
    /// that are usual in it.
    pub min_events: i64,
    /// How long a window is that is judged.
    pub window_minutes: i64,
    /// How long all must be well before an alert is resolved.
    pub resolve_minutes: i64,
    /// The events that tell of its alerts are this user's, so that they go live on the user's channel.
    pub user_id: Option<String>,
    /// Whether it is applied.
    pub enabled: bool,
}

impl Rule {
    /// Members of a rule's JSON, beside its name.
    pub const FIELDS: [&str; 11] = [
        "kind",
        "by",
        "event_types",
        "event_sources",
        "error_types",
        "threshold",
        "min_events",
        "window_minutes",
        "resolve_minutes",
        "user_id",
        "enabled",
    ];

    /// Reads a rule; what is not said is as in [`Self::of`].
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(name: &str, members: &Map<String, Value>) -> Result<Self, Vec<FieldError>> {
        let mut errors = vec![];
        for key in members.keys() {
            if key != "name" && !Self::FIELDS.contains(&key.as_str()) {
                errors.push(FieldError::new(key, Code::IllegalValue, "is not known"));
            }
        }
        let trimmed = name.trim();
        let chars = trimmed.chars().count();
        if !(1..=MAX_NAME).contains(&chars) || trimmed.chars().any(char::is_control) {
            let message = format!("must have 1 to {MAX_NAME} characters, none of control");
            errors.push(FieldError::new("name", Code::OutOfRange, message));
        }
        let mut reader = Reader { members, errors };
        let kind = match reader.choice("kind", Kind::ALL, Kind::as_str) {
            Some(kind) => kind,
            None => {
                reader.missing("kind");
                Kind::ErrorRate
            }
        };
        let default = Self::of(trimmed, kind);
        let range = match kind {
            Kind::ErrorRate => 0.0..=1.0,
            Kind::Surge => 1.1..=1_000.0,
            Kind::Silence => 0.0..=0.9,
        };
        let by = reader.choice("by", By::ALL, By::as_str);
        if by.is_some_and(|by| by != default.by) && kind != Kind::ErrorRate {
            reader.refuse("by", Code::IllegalValue, "is of error_rate only");
        }
        let rule = Self {
            by: by.unwrap_or(default.by),
            event_types: reader.patterns("event_types").unwrap_or_default(),
            event_sources: reader.sources(),
            error_types: reader
                .patterns("error_types")
                .unwrap_or(default.error_types),
            threshold: reader.number("threshold", default.threshold, range),
            min_events: reader.whole("min_events", default.min_events, 1..=1_000_000_000),
            window_minutes: reader.whole("window_minutes", default.window_minutes, 1..=MAX_WINDOW),
            resolve_minutes: reader.whole("resolve_minutes", default.resolve_minutes, 1..=1_440),
            user_id: reader.text("user_id"),
            enabled: reader.boolean("enabled", true),
            name: default.name,
            kind,
        };
        if reader.errors.is_empty() {
            Ok(rule)
        } else {
            Err(reader.errors)
        }
    }

    /// A rule of that kind that says nothing else.
    #[must_use]
    pub fn of(name: &str, kind: Kind) -> Self {
        let (threshold, min_events) = match kind {
            Kind::ErrorRate => (0.05, 100),
            Kind::Surge => (3.0, 50),
            Kind::Silence => (0.2, 30),
        };
        let errors = ERRORS.iter().filter_map(|one| TypePattern::parse(one).ok());
        Self {
            name: name.to_owned(),
            kind,
            by: By::Source,
            event_types: vec![],
            event_sources: vec![],
            error_types: errors.collect(),
            threshold,
            min_events,
            window_minutes: 5,
            resolve_minutes: 10,
            user_id: None,
            enabled: true,
        }
    }

    /// The rules of a tenant that has made none. One of the tenant's own takes the place of that of its
    /// name.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        vec![
            Self::of("error-rate", Kind::ErrorRate),
            Self {
                by: By::Api,
                ..Self::of("api-error-rate", Kind::ErrorRate)
            },
            Self::of("surge", Kind::Surge),
            Self::of("silence", Kind::Silence),
        ]
    }

    /// The rules of a tenant: its own, and those of the defaults that none of its own replaces.
    #[must_use]
    pub fn with_defaults(own: Vec<Self>) -> Vec<Self> {
        let mut all = Self::defaults();
        all.retain(|rule| !own.iter().any(|other| other.name == rule.name));
        all.extend(own);
        all
    }

    /// Whether events of that type and source are judged by it.
    pub(super) fn is_about(&self, event_type: &str, event_source: &str) -> bool {
        super::subject::is_judged(event_type)
            && (self.event_types.is_empty()
                || self.event_types.iter().any(|one| one.matches(event_type)))
            && (self.event_sources.is_empty()
                || self
                    .event_sources
                    .iter()
                    .any(|one| one.as_str() == event_source))
    }

    /// Whether events of that type are errors.
    pub(super) fn is_error(&self, event_type: &str) -> bool {
        let lower = event_type.to_lowercase();
        let is = |one: &TypePattern| one.matches(event_type) || one.matches(&lower);
        self.error_types.iter().any(is)
    }
}

fn texts<S: serde::Serializer>(patterns: &[TypePattern], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(patterns.iter().map(TypePattern::as_str))
}

/// Reads members, noting what is wrong; null counts as absent.
struct Reader<'a> {
    members: &'a Map<String, Value>,
    errors: Vec<FieldError>,
}

impl Reader<'_> {
    fn get(&self, name: &str) -> Option<&Value> {
        self.members.get(name).filter(|value| !value.is_null())
    }

    fn refuse(&mut self, name: &str, code: Code, message: impl Into<String>) {
        self.errors.push(FieldError::new(name, code, message));
    }

    /// Notes that it is missing, unless it is there and was refused.
    fn missing(&mut self, name: &str) {
        if self.get(name).is_none() {
            self.refuse(name, Code::Missing, "is required");
        }
    }

    fn choice<T: Copy>(&mut self, name: &str, all: &[T], of: fn(T) -> &'static str) -> Option<T> {
        let value = self.get(name)?;
        let found = value
            .as_str()
            .and_then(|text| all.iter().copied().find(|one| of(*one) == text));
        if found.is_none() {
            let names: Vec<&str> = all.iter().map(|one| of(*one)).collect();
            let message = format!("must be one of {}", names.join(", "));
            self.refuse(name, Code::IllegalValue, message);
        }
        found
    }

    fn number(&mut self, name: &str, default: f64, range: RangeInclusive<f64>) -> f64 {
        let Some(value) = self.get(name) else {
            return default;
        };
        let number = value.as_f64().filter(|number| range.contains(number));
        number.unwrap_or_else(|| {
            let message = format!("must be a number from {} to {}", range.start(), range.end());
            self.refuse(name, Code::OutOfRange, message);
            default
        })
    }

    fn whole(&mut self, name: &str, default: i64, range: RangeInclusive<i64>) -> i64 {
        let Some(value) = self.get(name) else {
            return default;
        };
        let number = whole(value).filter(|number| range.contains(number));
        number.unwrap_or_else(|| {
            let message = format!(
                "must be a whole number from {} to {}",
                range.start(),
                range.end()
            );
            self.refuse(name, Code::OutOfRange, message);
            default
        })
    }

    fn boolean(&mut self, name: &str, default: bool) -> bool {
        let Some(value) = self.get(name) else {
            return default;
        };
        value.as_bool().unwrap_or_else(|| {
            self.refuse(name, Code::WrongType, "must be true or false");
            default
        })
    }

    fn text(&mut self, name: &str) -> Option<String> {
        let text = self.get(name)?.as_str().map(str::trim);
        let text = text.filter(|text| (1..=255).contains(&text.chars().count()));
        let text = text.filter(|text| !text.chars().any(char::is_control));
        let text = text.map(str::to_owned);
        if text.is_none() {
            let message = "must be text of 1 to 255 characters, none of control";
            self.refuse(name, Code::OutOfRange, message);
        }
        text
    }

    fn items(&mut self, name: &str) -> Option<Vec<String>> {
        let items = self.get(name)?.as_array().and_then(|items| {
            let text = |item: &Value| item.as_str().map(str::to_owned);
            items.iter().map(text).collect::<Option<Vec<_>>>()
        });
        let items = items.filter(|items| items.len() <= MAX_ITEMS);
        if items.is_none() {
            let message = format!("must be an array of at most {MAX_ITEMS} texts");
            self.refuse(name, Code::WrongType, message);
        }
        items
    }

    fn patterns(&mut self, name: &str) -> Option<Vec<TypePattern>> {
        let mut patterns = vec![];
        for (n, item) in self.items(name)?.iter().enumerate() {
            match TypePattern::parse(item) {
                Ok(pattern) => patterns.push(pattern),
                Err(why) => self.refuse(&format!("{name}[{n}]"), Code::BadFormat, why),
            }
        }
        Some(patterns)
    }

    fn sources(&mut self) -> Vec<EventSource> {
        let mut sources = vec![];
        for (n, item) in self
            .items("event_sources")
            .into_iter()
            .flatten()
            .enumerate()
        {
            match EventSource::parse(&item) {
                Some(source) => sources.push(source),
                None => {
                    let names: Vec<_> = EventSource::ALL.iter().map(|one| one.as_str()).collect();
                    let message = format!("must be one of {}", names.join(", "));
                    self.refuse(&format!("event_sources[{n}]"), Code::IllegalValue, message);
                }
            }
        }
        sources
    }
}
