//! Where in an event stands what was asked for.

use std::ops::Range;

use serde::Serialize;
use serde_json::Value;

use super::document::{leaves, objects, whole};
use super::fields::path;
use super::query::{Condition, Query};
use super::words::words;
use crate::event::Event;

/// Most fields that are shown.
const MAX_FIELDS: usize = 5;
/// Characters shown before and after what was found.
const AROUND: usize = 60;

/// A piece of a field with what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Highlight {
    /// The field, such as `data.title`.
    pub field: String,
    /// The piece as HTML: what was found between `<em>` and `</em>`, everything else escaped.
    pub fragment: String,
}

/// Where in the event stands what was asked for, in at most five fields.
#[must_use]
pub fn highlight(event: &Event, query: &Query) -> Vec<Highlight> {
    let mut found = Vec::new();
    let wanted: Vec<&Condition> = query
        .clauses
        .iter()
        .filter(|clause| !clause.negated)
        .map(|clause| &clause.condition)
        .collect();
    let mut look = |field: &str, text: &str| {
        if found.len() < MAX_FIELDS {
            let fragment = marked(field, text, &wanted);
            found.extend(fragment.map(|fragment| Highlight {
                field: field.to_owned(),
                fragment,
            }));
        }
    };
    for (field, value) in whole(event) {
        look(field, value);
    }
    for (name, value) in objects(event) {
        leaves(name, &value, &mut |at, leaf| match leaf {
            Value::String(text) => look(at, text),
            other => look(at, &other.to_string()),
        });
    }
    found
}

fn marked(field: &str, text: &str, wanted: &[&Condition]) -> Option<String> {
    let all: Vec<(Range<usize>, String)> = words(text).collect();
    let at = path(field);
    let mut marks: Vec<Range<usize>> = Vec::new();
    let is_here = |path: &Option<String>| path.as_ref().is_none_or(|path| *path == at);
    for condition in wanted {
        match condition {
            Condition::Phrase { path, words } if is_here(path) => {
                let same = |window: &&[(Range<usize>, String)]| {
                    window.iter().map(|(_, word)| word).eq(words)
                };
                for window in all.windows(words.len()).filter(same) {
                    if let ([(first, _), ..], [.., (last, _)]) = (window, window) {
                        marks.push(first.start..last.end);
                    }
                }
            }
            Condition::Begin { path, begin } if is_here(path) => {
                let same = all.iter().filter(|(_, word)| word.starts_with(begin));
                marks.extend(same.map(|(range, _)| range.clone()));
            }
            Condition::Exact { value, begin } => {
                let own = format!("{field}={}", text.to_lowercase());
                if own == *value || (*begin && own.starts_with(value)) {
                    marks.push(0..text.len());
                }
            }
            _ => {}
        }
    }
    marks.sort_by_key(|mark| (mark.start, mark.end));
    let (first, last) = (marks.first()?.start, marks.first()?.end);
    let before = text.get(..first)?.char_indices().rev().take(AROUND).last();
    let begin = before.map_or(first, |(at, _)| at);
    let after = text.get(last..)?.char_indices().nth(AROUND);
    let end = after.map_or(text.len(), |(at, _)| last + at);
    let mut fragment = String::new();
    let mut at = begin;
    for mark in marks.into_iter().filter(|mark| mark.end <= end) {
        if mark.start >= at {
            escape(text.get(at..mark.start)?, &mut fragment);
            fragment.push_str("<em>");
            escape(text.get(mark.clone())?, &mut fragment);
            fragment.push_str("</em>");
            at = mark.end;
        }
    }
    escape(text.get(at..end)?, &mut fragment);
    Some(fragment)
}

fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
}
