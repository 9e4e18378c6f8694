//! What an index has of an event.

use std::collections::HashMap;

use serde_json::Value;

use super::fields::{OBJECTS, WHOLE, path};
use super::words::words;
use crate::event::Event;
use crate::timestamp;

/// Stands where there is no word: between values, so that no phrase goes from one to the next.
pub const GAP: &str = "_";

/// Most places of an event that have a word; what comes after is not searched.
const MAX_WORDS: usize = 5_000;
/// Most bytes of them with their paths.
const MAX_BYTES: usize = 256 * 1024;
/// Most places of one word; PostgreSQL keeps no more.
const MAX_PLACES: usize = 250;
/// Most numbers and times.
const MAX_NUMBERS: usize = 500;

/// What an index has of an event. Place by place `words` and `fields` say the same.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Document {
    /// The words, or [`GAP`], with a space between.
    pub words: String,
    /// `path:word`, or [`GAP`], with a space between.
    pub fields: String,
    /// `field=value` in lower case, of fields that are compared as a whole.
    pub exact: Vec<String>,
    /// Path and value of every number; of every time its seconds since 1970.
    pub numbers: Vec<(String, f64)>,
}

impl Document {
    /// Takes it out of an event.
    #[must_use]
    pub fn of(event: &Event) -> Self {
        let mut builder = Builder::default();
        for (field, value) in whole(event) {
            let exact = format!("{field}={}", value.to_lowercase());
            builder.document.exact.push(exact);
            builder.text("", value);
        }
        for (name, value) in objects(event) {
            leaves(name, &value, &mut |path, leaf| builder.leaf(path, leaf));
        }
        builder.document
    }
}

/// The fields with one value, and their values.
pub(super) fn whole(event: &Event) -> impl Iterator<Item = (&'static str, &str)> {
    let values = [
        Some(event.event_type.as_str()),
        Some(event.event_source.as_str()),
        Some(event.event_category.as_str()),
        event.user_id.as_deref(),
        event.session_id.as_deref(),
        event.organization_id.as_deref(),
        event.device_id.as_deref(),
        event.correlation_id.as_deref(),
        event.aggregate_type.as_deref(),
        event.aggregate_id.as_deref(),
    ];
    let mut names: Vec<_> = WHOLE.iter().map(|(_, name)| *name).collect();
    names.dedup();
    let both = names.into_iter().zip(values);
    both.filter_map(|(name, value)| Some((name, value?)))
}

/// The objects of an event.
pub(super) fn objects(event: &Event) -> impl Iterator<Item = (&'static str, Value)> {
    let [data, metadata, context, properties] = OBJECTS;
    [
        (data, &event.data),
        (metadata, &event.metadata),
        (context, &event.context),
        (properties, &event.properties),
    ]
    .into_iter()
    .map(|(name, json)| (name, json.to_value()))
}

/// Gives every value that is no object or array with its path; the items of an array have its path.
pub(super) fn leaves(at: &str, value: &Value, take: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                leaves(&format!("{at}.{name}"), value, take);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| leaves(at, item, take)),
        Value::Null => {}
        leaf => take(at, leaf),
    }
}

#[derive(Default)]
struct Builder {
    document: Document,
    places: HashMap<String, usize>,
    count: usize,
}

impl Builder {
    fn leaf(&mut self, at: &str, leaf: &Value) {
        let at = path(at);
        match leaf {
            Value::String(text) => {
                self.text(&at, text);
                if let Some(time) = time(text) {
                    self.number(at, time);
                }
            }
            other => {
                self.text(&at, &other.to_string());
                if let Some(number) = other.as_f64() {
                    self.number(at, number);
                }
            }
        }
    }

    fn number(&mut self, at: String, number: f64) {
        if self.document.numbers.len() < MAX_NUMBERS && number.is_finite() {
            // -0 is 0.
            self.document.numbers.push((at, number + 0.0));
        }
    }

    fn text(&mut self, at: &str, text: &str) {
        for (_, word) in words(text) {
            let places = self.places.entry(word.clone()).or_default();
            *places += 1;
            if *places > MAX_PLACES {
                self.place(GAP, GAP);
            } else if at.is_empty() {
                self.place(&word, GAP);
            } else {
                self.place(&word, &format!("{at}:{word}"));
            }
        }
        self.place(GAP, GAP);
    }

    fn place(&mut self, word: &str, field: &str) {
        let Document { words, fields, .. } = &mut self.document;
        if self.count >= MAX_WORDS || words.len() + fields.len() > MAX_BYTES {
            return;
        }
        self.count += 1;
        for (text, more) in [(words, word), (fields, field)] {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(more);
        }
    }
}

/// The seconds of a text that is a date or a time.
#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds of this century fit"
)]
pub(super) fn time(text: &str) -> Option<f64> {
    let looks_like = text.len() >= 10 && text.as_bytes().get(4) == Some(&b'-');
    let time = timestamp::parse(text).filter(|_| looks_like)?;
    Some((time.unix_timestamp_nanos() / 1_000) as f64 / 1e6)
}
