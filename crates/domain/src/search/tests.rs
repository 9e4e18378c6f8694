use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::envelope::Origin;
use crate::event::Event;
use crate::{Context, EventCategory, EventSource, Limits, TenantId, decode};

fn event(data: &serde_json::Value) -> Event {
    let body = json!({"event_type": "Order.Placed", "user_id": "u-1", "data": data}).to_string();
    let now = time::macros::datetime!(2026-11-21 08:00 UTC);
    let context = Context {
        origin: Origin::Http,
        tenant: &TenantId::default(),
        received_at: now,
        now,
        fresh_id: Uuid::nil(),
        default_source: EventSource::Backend,
        default_category: EventCategory::UserAction,
        content_type: None,
        limits: Limits::default(),
    };
    decode(body.as_bytes(), &context).unwrap()
}

fn parse(text: &str) -> Vec<Clause> {
    Query::parse(text).unwrap().clauses
}

fn phrase(path: Option<&str>, words: &[&str]) -> Condition {
    Condition::Phrase {
        path: path.map(str::to_owned),
        words: words.iter().map(|word| (*word).to_owned()).collect(),
    }
}

fn one(text: &str) -> Condition {
    let mut clauses = parse(text);
    assert_eq!(clauses.len(), 1, "{clauses:?}");
    clauses.remove(0).condition
}

#[test]
fn each_form_of_clause_is_read() {
    assert_eq!(one("Red"), phrase(None, &["red"]));
    assert_eq!(one("ORD-17"), phrase(None, &["ord", "17"]));
    assert_eq!(one(r#""red \"shoes\"""#), phrase(None, &["red", "shoes"]));
    assert_eq!(one("data.Title:Red"), phrase(Some("data.title"), &["red"]));
    assert_eq!(
        one(r#"metadata.note:"red shoes""#),
        phrase(Some("metadata.note"), &["red", "shoes"])
    );
    let begin = |path: Option<&str>, begin: &str| Condition::Begin {
        path: path.map(str::to_owned),
        begin: begin.to_owned(),
    };
    assert_eq!(one("sho*"), begin(None, "sho"));
    assert_eq!(one("data.title:sho*"), begin(Some("data.title"), "sho"));
    let exact = |value: &str, begin| Condition::Exact {
        value: value.to_owned(),
        begin,
    };
    assert_eq!(
        one("type:Order.Placed"),
        exact("event_type=order.placed", false)
    );
    assert_eq!(one("source:backend"), exact("event_source=backend", false));
    assert_eq!(one("event_type:order.*"), exact("event_type=order.", true));
    assert_eq!(one(r#"user:"a b""#), exact("user_id=a b", false));
    let number = |low, high| Condition::Number {
        path: "data.amount".to_owned(),
        low,
        high,
    };
    assert_eq!(one("data.amount:>=10"), number(Some((10.0, true)), None));
    assert_eq!(one("data.amount:<1e3"), number(None, Some((1000.0, false))));
    assert_eq!(
        one("data.amount:[10 TO 20}"),
        number(Some((10.0, true)), Some((20.0, false)))
    );
    assert_eq!(
        one("data.amount:[* TO -2]"),
        number(None, Some((-2.0, true)))
    );
    assert_eq!(
        one("data.amount:>2026-01-01"),
        number(Some((1_767_225_600.0, false)), None)
    );
    let Condition::Time { low, high } = one("timestamp:{2026-01-01 TO *]") else {
        panic!("no time");
    };
    assert_eq!(
        low,
        Some((time::macros::datetime!(2026-01-01 0:00 UTC), false))
    );
    assert_eq!(high, None);
    let all = parse(r#"-red -data.a:[1 TO 2] - blue "#.trim_end_matches("- blue "));
    assert!(all.iter().all(|clause| clause.negated), "{all:?}");
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (text, place, words) in [
        ("", "", "is needed"),
        ("red \"blue", "character 5", "not closed"),
        ("red foo:bar", "character 5", "\"foo\" is no field"),
        ("data.a:[1 2]", "character 8", "[10 TO 20]"),
        ("data.a:[1 TO 2", "character 8", "[10 TO 20]"),
        ("äö data.a:>=x", "character 11", "\"x\" is no number"),
        ("timestamp:2026", "character 11", "range"),
        ("timestamp:>soon", "character 11", "no date"),
        ("a*", "character 1", "at least 2"),
        ("ab-cd*", "character 1", "one word"),
        ("!!!", "character 1", "no letter"),
        ("user_id:", "character 9", "of what"),
        ("data.:x", "character 1", "is no field"),
    ] {
        let error = Query::parse(text).unwrap_err();
        assert_eq!(error.path, "q");
        assert!(
            error.message.contains(place) && error.message.contains(words),
            "{text}: {error:?}"
        );
    }
    assert!(Query::parse(&"a ".repeat(33)).is_err());
    assert!(Query::parse(&"a".repeat(1_001)).is_err());
    assert!(Query::parse(&format!("\"{}\"", "a ".repeat(17))).is_err());
}

#[test]
fn a_document_has_words_fields_and_numbers() {
    let of = Document::of(&event(&json!({
        "title": "Red shoes", "amount": 12.50, "at": "2026-01-01", "odd key'": true,
        "items": [{"sku": "A-1"}, {"sku": "B-2"}], "none": null,
    })));
    assert_eq!(of.words.split(' ').count(), of.fields.split(' ').count());
    assert!(
        of.words.starts_with("order placed _ backend _ "),
        "{}",
        of.words
    );
    assert!(of.words.contains(" red shoes _"), "{}", of.words);
    assert!(
        of.fields.contains(" data.title:red data.title:shoes _"),
        "{}",
        of.fields
    );
    assert!(
        of.fields
            .contains("data.items.sku:a data.items.sku:1 _ data.items.sku:b")
    );
    assert!(of.fields.contains("data.odd_key_:true"), "{}", of.fields);
    assert!(of.exact.contains(&"event_type=order.placed".to_owned()));
    assert!(of.exact.contains(&"user_id=u-1".to_owned()));
    assert_eq!(
        of.numbers,
        [
            ("data.amount".to_owned(), 12.5),
            ("data.at".to_owned(), 1_767_225_600.0),
        ]
    );
}

#[test]
fn a_document_is_bounded() {
    let of = Document::of(&event(
        &json!({"a": "same ".repeat(300), "b": "x y ".repeat(40_000)}),
    ));
    assert_eq!(of.words.matches("same").count(), 250);
    assert!(of.words.split(' ').count() <= 5_000);
    let of = Document::of(&event(&json!({"a": vec![1; 2_000]})));
    assert_eq!(of.numbers.len(), 500);
}

#[test]
fn what_was_found_is_shown() {
    let of = event(&json!({"title": "A <b>red</b> & blue shoe", "n": 17, "other": "red"}));
    let shown = |text: &str| {
        let found = highlight(&of, &Query::parse(text).unwrap());
        found
            .into_iter()
            .map(|one| format!("{} {}", one.field, one.fragment))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        shown("data.title:red sho*"),
        ["data.title A &lt;b&gt;<em>red</em>&lt;/b&gt; &amp; blue <em>shoe</em>"]
    );
    assert_eq!(shown("red -blue").len(), 2);
    assert_eq!(shown("17"), ["data.n <em>17</em>"]);
    assert_eq!(shown("type:order.*"), ["event_type <em>Order.Placed</em>"]);
    assert!(shown("data.n:>3").is_empty());
    let long = event(&json!({"t": format!("{} needle {}", "ä ".repeat(300), "ö ".repeat(300))}));
    let found = highlight(&long, &Query::parse("needle").unwrap());
    assert!(found[0].fragment.contains("<em>needle</em>"));
    assert!(found[0].fragment.chars().count() < 150);
}

proptest! {
    #[test]
    fn any_question_is_read_or_refused(text in "\\PC{0,80}") {
        let of = event(&json!({"a": text.clone()}));
        if let Ok(query) = Query::parse(&text) {
            let _ = highlight(&of, &query);
        }
        let document = Document::of(&of);
        prop_assert_eq!(document.words.split(' ').count(), document.fields.split(' ').count());
    }

    #[test]
    fn any_question_of_signs_is_read_or_refused(text in "[-a \":*\\[\\]{}<>=.\\\\]{0,40}|data\\.[-a \":*\\[\\]{}<>=1TO]{0,20}") {
        let _ = Query::parse(&text);
    }

    /// What the question says of a text that stands in the event is found in its document.
    #[test]
    fn a_text_is_found_by_itself(text in "[a-zÄ0-9.,-]{1,12}( [a-zÄ0-9.,-]{1,12}){0,3}") {
        let quoted = format!("\"{text}\"");
        if let Ok(query) = Query::parse(&quoted) {
            let document = Document::of(&event(&json!({"a": text})));
            let Condition::Phrase { words, .. } = &query.clauses[0].condition else { unreachable!() };
            let whole = format!(" {} ", document.words);
            let wanted = format!(" {} ", words.join(" "));
            prop_assert!(whole.contains(&wanted), "{} in {}", wanted, whole);
        }
    }
}
