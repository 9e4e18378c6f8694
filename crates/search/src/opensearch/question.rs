//! A question as the server takes it.

use domain::search::Condition;
use serde_json::{Value, json};
use store::search::Question;

use super::document::micros;

/// The body of `_search`.
pub(super) fn search(question: &Question) -> Value {
    let mut must = vec![json!({"term": {"tenant": question.tenant.as_str()}})];
    let mut must_not = Vec::new();
    for (field, value) in [
        ("event_type", question.event_type.as_deref()),
        ("user_id", question.user_id.as_deref()),
        (
            "event_source",
            question.source.map(|source| source.as_str()),
        ),
    ] {
        if let Some(value) = value {
            must.push(json!({"term": {field: value}}));
        }
    }
    for (bound, at) in [("gte", question.from), ("lte", question.to)] {
        if let Some(at) = at {
            must.push(json!({"range": {"timestamp": {bound: micros(at)}}}));
        }
    }
    for clause in &question.query.clauses {
        let condition = condition(&clause.condition);
        if clause.negated {
            must_not.push(condition);
        } else {
            must.push(condition);
        }
    }
    let mut body = json!({
        "size": question.limit,
        "query": {"bool": {"filter": must, "must_not": must_not}},
        "sort": [{"timestamp": "desc"}, {"event_id": "desc"}],
        "track_total_hits": false,
    });
    if let Some(after) = question.after {
        body["search_after"] = json!([micros(after.timestamp), after.event_id]);
    }
    body
}

fn condition(condition: &Condition) -> Value {
    match condition {
        Condition::Phrase { path, words } => {
            let (field, words) = tokens(path.as_deref(), words);
            json!({"match_phrase": {field: words.join(" ")}})
        }
        Condition::Begin { path, begin } => {
            let (field, begin) = tokens(path.as_deref(), std::slice::from_ref(begin));
            json!({"prefix": {field: begin.concat()}})
        }
        Condition::Exact { value, begin } => {
            let kind = if *begin { "prefix" } else { "term" };
            json!({kind: {"exact": value}})
        }
        Condition::Number { path, low, high } => {
            let value = range(*low, *high);
            json!({"nested": {"path": "numbers", "query": {"bool": {"filter": [
                {"term": {"numbers.path": path}}, {"range": {"numbers.value": value}},
            ]}}}})
        }
        Condition::Time { low, high } => {
            let micros = |(at, itself)| (micros(at), itself);
            json!({"range": {"timestamp": range(low.map(micros), high.map(micros))}})
        }
    }
}

/// The field of the index, and the words as they stand in it.
fn tokens(path: Option<&str>, words: &[String]) -> (&'static str, Vec<String>) {
    match path {
        None => ("words", words.to_vec()),
        Some(path) => {
            let all = words.iter().map(|word| format!("{path}:{word}"));
            ("fields", all.collect())
        }
    }
}

fn range<T: serde::Serialize>(low: Option<(T, bool)>, high: Option<(T, bool)>) -> Value {
    let mut range = json!({});
    for (bound, itself, alone) in [(low, "gte", "gt"), (high, "lte", "lt")] {
        if let Some((bound, included)) = bound {
            range[if included { itself } else { alone }] = json!(bound);
        }
    }
    range
}
