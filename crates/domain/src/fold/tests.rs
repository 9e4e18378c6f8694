use std::sync::Arc;

use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::*;
use crate::envelope::Origin;
use crate::{Context, Event, EventCategory, EventSource, Limits, TenantId};

pub(crate) fn event(n: u128, event_type: &str, data: Value) -> Event {
    let tenant = TenantId::default();
    let cx = Context {
        origin: Origin::Http,
        tenant: &tenant,
        received_at: OffsetDateTime::UNIX_EPOCH,
        now: OffsetDateTime::UNIX_EPOCH,
        fresh_id: Uuid::from_u128(n),
        default_source: EventSource::Backend,
        default_category: EventCategory::UserAction,
        content_type: None,
        limits: Limits::default(),
    };
    let body = json!({"event_type": event_type, "user_id": "u", "data": data});
    crate::decode(body.to_string().as_bytes(), &cx).unwrap()
}

/// The state after these data, and the errors on the way.
fn folded(fold: Value, data: &[Value]) -> (Value, Vec<String>) {
    let fold = Fold::parse(&fold).unwrap();
    assert_eq!(Fold::parse(&fold.to_value()).unwrap(), fold);
    let (mut state, mut errors) = (State::new(), vec![]);
    let extensions = Extensions {
        reducers: [("longest".to_owned(), longest())].into(),
        ..Extensions::default()
    };
    for (n, data) in (1..).zip(data) {
        let event = event(n, if n % 2 == 0 { "even" } else { "odd" }, data.clone());
        let done = fold.apply(&extensions, &mut state, &event);
        errors.extend(done.err().map(|error| error.to_string()));
    }
    (Value::Object(state), errors)
}

fn longest() -> Reducer {
    Arc::new(|state, event| {
        let length = event.data.to_value()["text"].as_str().map(str::len);
        let length = length.ok_or_else(|| "no text".to_owned())?;
        let before = state.get("longest").and_then(Value::as_u64).unwrap_or(0);
        let mut state = state.clone();
        state.insert("longest".to_owned(), before.max(length as u64).into());
        Ok(state)
    })
}

#[test]
fn each_rule_folds_as_it_says() {
    let data = [
        json!({"a": 1, "b": {"c": 0.1}, "tag": "x"}),
        json!({"a": 5, "b": {"c": 0.2}, "tag": "y"}),
        json!({"a": 3, "tag": "x"}),
    ];
    for (fold, want) in [
        (
            json!({"rule": "last_by_type"}),
            json!({"odd": data[2], "even": data[1]}),
        ),
        (
            json!({"rule": "merge"}),
            json!({"a": 3, "b": {"c": 0.2}, "tag": "x"}),
        ),
        (json!({"rule": "count"}), json!({"count": 3})),
        (json!({"rule": "sum", "field": "a"}), json!({"sum": 9})),
        (json!({"rule": "sum", "field": "b.c"}), json!({"sum": 0.3})),
        (json!({"rule": "min", "field": "/a"}), json!({"min": 1})),
        (
            json!({"rule": "max", "field": "a", "as": "most"}),
            json!({"most": 5}),
        ),
        (
            json!({"rule": "set", "field": "tag"}),
            json!({"values": ["x", "y"]}),
        ),
        (
            json!([{"rule": "count"}, {"rule": "sum", "field": "a", "as": "total"}]),
            json!({"count": 3, "total": 9}),
        ),
    ] {
        assert_eq!(folded(fold.clone(), &data), (want, vec![]), "{fold}");
    }
    let (state, _) = folded(json!({"rule": "last", "count": 2}), &data);
    let types = |n: usize| state["events"][n]["event_type"].clone();
    assert_eq!(state["events"].as_array().map(Vec::len), Some(2));
    assert_eq!((types(0), types(1)), (json!("even"), json!("odd")));
    assert_eq!(state["events"][1]["data"], data[2]);
}

#[test]
fn what_cannot_be_folded_is_named_and_leaves_the_state() {
    let data = [
        json!({"a": {"b": 1}}),
        json!({"a": {"b": "two"}}),
        json!({"a": {"b": 3}}),
    ];
    let fold = json!([{"rule": "count"}, {"rule": "sum", "field": "a.b"}]);
    let (state, errors) = folded(fold, &data);
    assert_eq!(state, json!({"count": 2, "sum": 4}));
    assert_eq!(errors, ["data.a.b is no number"]);
    let (_, errors) = folded(json!({"rule": "set", "field": "/a"}), &data[..1]);
    assert_eq!(errors, ["data.a is no text, number or truth value"]);
    let (_, errors) = folded(json!({"rule": "reducer", "name": "none"}), &data[..1]);
    assert_eq!(errors, ["this process has no reducer none"]);
    let big = json!({"text": "x".repeat(200_000)});
    let (state, errors) = folded(json!({"rule": "last_by_type"}), &[big.clone(), big]);
    assert_eq!(state.as_object().map(State::len), Some(1));
    assert_eq!(errors, ["the state would be larger than 262144 bytes"]);
    let (state, errors) = folded(
        json!({"rule": "reducer", "name": "longest"}),
        &[json!({"text": "four"}), json!({}), json!({"text": "two"})],
    );
    assert_eq!(state, json!({"longest": 4}));
    assert_eq!(errors, ["reducer longest: no text"]);
}

#[test]
fn a_definition_names_every_wrong_field() {
    let parse = |value: Value| match Definition::parse(&value) {
        Ok(definition) => vec![definition.fold.to_value()["rule"].to_string()],
        Err(errors) => errors.into_iter().map(|error| error.path).collect(),
    };
    let with = |fold: Value| parse(json!({"name": "n", "entity_type": "order", "fold": fold}));
    assert_eq!(
        parse(json!({"name": "n", "entity_type": "order"})),
        ["\"last_by_type\""]
    );
    assert_eq!(
        parse(json!({"entity_type": "a:b", "event_types": ["a.*", ""], "fold": {"rule": "sun"}})),
        ["name", "entity_type", "event_types[1]", "fold.rule"]
    );
    for (fold, path) in [
        (json!({}), "fold.rule"),
        (json!({"rule": "sum"}), "fold.field"),
        (json!({"rule": "sum", "field": 7}), "fold.field"),
        (json!({"rule": "sum", "field": "a..b"}), "fold.field"),
        (json!({"rule": "count", "field": "a"}), "fold.field"),
        (json!({"rule": "last", "count": 0}), "fold.count"),
        (json!({"rule": "reducer"}), "fold.name"),
        (json!([{"rule": "count"}, {"rule": "max"}]), "fold[1].field"),
        (json!([]), "fold"),
        (json!("count"), "fold"),
    ] {
        assert_eq!(with(fold.clone()), [path], "{fold}");
    }
}

#[test]
fn sums_are_exact_and_bounded() {
    let sum = |numbers: &str| {
        let numbers: Vec<Value> = serde_json::from_str(numbers).unwrap();
        let data: Vec<_> = numbers.into_iter().map(|n| json!({"n": n})).collect();
        let (state, errors) = folded(json!({"rule": "sum", "field": "n"}), &data);
        (state["sum"].to_string(), errors)
    };
    assert_eq!(sum("[19.99, 0.01, -5]").0, "15");
    assert_eq!(sum("[0.1, 0.2, 0.3, -0.7]").0, "-0.1");
    assert_eq!(sum("[9007199254740993, 1]").0, "9007199254740994");
    assert_eq!(sum("[1e300, 1e300]").0, "2e+300");
    let (_, errors) = sum("[1.7e308, 1.7e308]");
    assert_eq!(errors, ["data.n makes the sum too large"]);
}

#[test]
fn an_event_concerns_the_entity_of_its_stream() {
    let definition = |value: Value| Definition::parse(&value).unwrap();
    let mine = event(1, "a.b", json!({}));
    let of_users = definition(json!({"name": "n", "entity_type": "user", "event_types": ["a.*"]}));
    assert_eq!(of_users.entity(&mine).as_deref(), Some("u"));
    assert!(of_users.takes("a.b") && !of_users.takes("b.a"));
    let of_one = definition(json!({"name": "n", "entity_type": "user", "entity_id": "v"}));
    assert_eq!(of_one.entity(&mine), None);
    let mut order = mine;
    order.aggregate_type = Some("order".to_owned());
    order.aggregate_id = Some("7:b".to_owned());
    assert_eq!(of_users.entity(&order), None);
    let of_orders = definition(json!({"name": "n", "entity_type": "order"}));
    assert_eq!(of_orders.entity(&order).as_deref(), Some("7:b"));
}
