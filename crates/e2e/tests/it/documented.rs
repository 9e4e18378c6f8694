//! What is announced, compared with the examples of the documents.

use std::collections::BTreeSet;

use serde_json::Value;

const DOCUMENT: &str = include_str!("../../../../docs/announcements.md");

/// The example of a subject, and which of its members are optional.
fn documented(subject: &str) -> (Value, BTreeSet<String>) {
    let (_, section) = DOCUMENT.split_once(&format!("\n## {subject}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let example = section
        .split("```")
        .nth(1)
        .unwrap()
        .strip_prefix("json")
        .unwrap();
    let optional = section
        .split_once("Optional: ")
        .map_or("", |(_, rest)| rest);
    let optional = optional.split(['.', '\n']).next().unwrap();
    let names = optional.split('`').skip(1).step_by(2).map(str::to_owned);
    (serde_json::from_str(example).unwrap(), names.collect())
}

/// Compares members and their types.
pub(crate) fn assert_as_documented(subject: &str, sent: &Value) {
    let (example, optional) = documented(subject);
    let (example, sent) = (example.as_object().unwrap(), sent.as_object().unwrap());
    for (name, value) in sent {
        let known = example
            .get(name)
            .unwrap_or_else(|| panic!("{subject}: {name} is not documented"));
        let kind = |value: &Value| std::mem::discriminant(value);
        let null = value.is_null() && optional.contains(name);
        assert!(
            null || kind(known) == kind(value),
            "{subject}: {name} is {value}"
        );
    }
    for name in example.keys().filter(|name| !optional.contains(*name)) {
        assert!(sent.contains_key(name), "{subject}: {name} is missing");
    }
}
