use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::*;
use crate::envelope::Origin;
use crate::{Context, Limits, TenantId};

fn event(body: Value) -> Event {
    let cx = Context {
        origin: Origin::Log,
        tenant: &TenantId::default(),
        received_at: OffsetDateTime::UNIX_EPOCH,
        now: OffsetDateTime::UNIX_EPOCH,
        fresh_id: Uuid::nil(),
        default_source: EventSource::Backend,
        default_category: EventCategory::UserAction,
        content_type: None,
        limits: Limits::default(),
    };
    crate::decode(body.to_string().as_bytes(), &cx).unwrap()
}

fn order() -> Event {
    event(json!({
        "event_type": "order.placed", "event_category": "order", "user_id": "u-1",
        "data": {"total": 100, "big": 9_007_199_254_740_993_i64, "currency": "EUR", "gone": null,
            "paid": true, "at": "2026-11-28T10:00:00Z", "items": [{"sku": "a.b"}, {"sku": "c"}],
            "tags": ["new", 7], "a.b": {"c": 1}},
        "metadata": {"source": "shop"}, "properties": {"plan": "pro"}, "context": {"page": "/x"},
    }))
}

fn selector(source: Value) -> Selector {
    Selector::read(&source).unwrap_or_else(|errors| panic!("{source}: {errors:?}"))
}

#[test]
fn every_part_has_to_agree_and_an_empty_one_agrees_to_all() {
    let order = order();
    let no_user = event(json!({"event_type": "order.placed", "data": {}}));
    assert!(selector(json!({})).matches(&order) && selector(json!({})).matches(&no_user));
    for (source, want) in [
        (json!({"event_types": ["user.*", "order.*"]}), true),
        (json!({"event_types": ["user.*"]}), false),
        (
            json!({"event_types": ["order.placed"], "event_sources": ["backend", "system"]}),
            true,
        ),
        (
            json!({"event_types": ["order.placed"], "event_sources": ["system"]}),
            false,
        ),
        (json!({"event_categories": ["order"]}), true),
        (json!({"event_categories": ["payment"]}), false),
        (json!({"users": ["u-2", "u-1"]}), true),
        (json!({"users": ["u-2"]}), false),
        (
            json!({"event_types": [], "users": null, "filter": null}),
            true,
        ),
        (
            json!({"users": ["u-1"], "filter": {"field": "data.total", "value": 101}}),
            false,
        ),
    ] {
        assert_eq!(selector(source.clone()).matches(&order), want, "{source}");
    }
    assert!(!selector(json!({"users": ["u-1"]})).matches(&no_user));
}

#[test]
fn each_comparison_means_what_it_says() {
    let order = order();
    let view = View::new(&order);
    for (field, op, value, want) in [
        ("data.total", "eq", json!(100), true),
        ("data.total", "eq", json!(100.0), true),
        ("data.total", "eq", json!("100"), false),
        ("data.big", "eq", json!(9_007_199_254_740_992_i64), false),
        ("data.big", "gt", json!(9_007_199_254_740_992_i64), true),
        ("data.none", "eq", json!(1), false),
        ("data.none", "ne", json!(1), true),
        ("data.gone", "exists", json!(false), true),
        ("data.total", "ne", json!(100), false),
        ("data.total", "gt", json!(100), false),
        ("data.total", "gt", json!(99.5), true),
        ("data.total", "gte", json!(100), true),
        ("data.total", "lt", json!(100), false),
        ("data.total", "lte", json!(100), true),
        ("data.none", "lt", json!(100), false),
        ("data.currency", "gt", json!(1), false),
        ("data.at", "gte", json!("2026-11-28"), true),
        ("data.at", "lt", json!("2026-11-28"), false),
        ("data.paid", "eq", json!(true), true),
        ("data.paid", "exists", json!(null), true),
        ("data.currency", "contains", json!("UR"), true),
        ("data.currency", "contains", json!("ur"), false),
        ("data.tags", "contains", json!(7.0), true),
        ("data.tags", "contains", json!("ne"), false),
        ("data.items", "contains", json!({"sku": "c"}), true),
        ("data.items.0.sku", "eq", json!("a.b"), true),
        ("data.items.2.sku", "exists", json!(true), false),
        ("data.total.x", "exists", json!(true), false),
        ("data.currency", "in", json!(["USD", "EUR"]), true),
        ("data.total", "in", json!([1, 2]), false),
        ("metadata.source", "eq", json!("shop"), true),
        ("properties.plan", "eq", json!("pro"), true),
        ("context.page", "eq", json!("/x"), true),
    ] {
        let source = json!({"field": field, "op": op, "value": value});
        let filter = Filter::read(&source, "filter").unwrap();
        assert_eq!(filter.matches(&view), want, "{source}");
    }
    let dotted = json!({"field": ["data", "a.b", "c"], "value": 1});
    assert!(Filter::read(&dotted, "").unwrap().matches(&view));
}

#[test]
fn conditions_are_joined() {
    let yes = json!({"field": "data.total", "value": 100});
    let no = json!({"field": "data.total", "op": "lt", "value": 1});
    let other = json!({"field": "data.paid", "value": true});
    let order = order();
    for (source, want) in [
        (json!({"and": [yes, other]}), true),
        (json!({"and": [no, other]}), false),
        (json!({"or": [no, yes]}), true),
        (json!({"or": [no]}), false),
        (json!({"not": no}), true),
        (
            json!({"not": {"and": [yes, {"or": [no, {"not": other}]}]}}),
            true,
        ),
    ] {
        let filter = Filter::read(&source, "filter").unwrap();
        assert_eq!(filter.matches(&View::new(&order)), want, "{source}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let deep = (0..MAX_DEPTH).fold(
        json!({"field": "data.a", "value": 1}),
        |inner, _| json!({"not": inner}),
    );
    let many = vec![json!({"field": "data.a", "value": 1}); MAX_CONDITIONS];
    let range = |low: Value, high: Value| {
        json!({"filter": {"and": [{"field": "data.a", "op": "gt", "value": low},
            {"field": "data.a", "op": "lt", "value": high}]}})
    };
    for (source, want) in [
        (json!([]), ""),
        (json!({"types": []}), "types"),
        (json!({"event_types": "a"}), "event_types"),
        (json!({"event_types": ["a", ""]}), "event_types[1]"),
        (json!({"event_types": ["a\u{7}"]}), "event_types[0]"),
        (json!({"event_types": [7]}), "event_types[0]"),
        (json!({"event_sources": ["web"]}), "event_sources[0]"),
        (json!({"event_categories": ["web"]}), "event_categories[0]"),
        (json!({"users": [" "]}), "users[0]"),
        (json!({"users": vec!["u"; MAX_ENTRIES + 1]}), "users"),
        (json!({"filter": []}), "filter"),
        (json!({"filter": {}}), "filter.field"),
        (
            json!({"filter": {"field": "total", "value": 1}}),
            "filter.field",
        ),
        (
            json!({"filter": {"field": "data", "value": 1}}),
            "filter.field",
        ),
        (json!({"filter": {"field": 7, "value": 1}}), "filter.field"),
        (
            json!({"filter": {"field": "data.a", "op": "like", "value": 1}}),
            "filter.op",
        ),
        (json!({"filter": {"field": "data.a"}}), "filter.value"),
        (
            json!({"filter": {"field": "data.a", "op": "gt", "value": true}}),
            "filter.value",
        ),
        (
            json!({"filter": {"field": "data.a", "op": "in", "value": []}}),
            "filter.value",
        ),
        (
            json!({"filter": {"field": "data.a", "op": "exists", "value": 1}}),
            "filter.value",
        ),
        (
            json!({"filter": {"field": "data.a", "value": "a\u{0}"}}),
            "filter.value",
        ),
        (
            json!({"filter": {"field": "data.a", "value": 1, "x": 1}}),
            "filter.x",
        ),
        (json!({"filter": {"or": []}}), "filter.or"),
        (
            json!({"filter": {"and": [{"field": "data.a", "value": 1}, {"not": 1}]}}),
            "filter.and[1].not",
        ),
        (
            json!({"filter": {"not": {"field": "data.a", "value": 1}, "or": []}}),
            "filter.or",
        ),
        (
            json!({"filter": deep}),
            &format!("filter{}", ".not".repeat(MAX_DEPTH)),
        ),
        (
            json!({"filter": {"and": many}}),
            &format!("filter.and[{}]", MAX_CONDITIONS - 1),
        ),
        // What cannot match.
        (range(json!(2), json!(1)), "filter.and"),
        (range(json!(1), json!(1)), "filter.and"),
        (range(json!(1), json!("1")), "filter.and"),
        (
            json!({"filter": {"and": [{"field": "data.a", "value": 1}, {"field": "data.a", "value": 2}]}}),
            "filter.and",
        ),
        (
            json!({"filter": {"and": [{"field": "data.a", "value": 1}, {"field": "data.a", "op": "gt", "value": 1}]}}),
            "filter.and",
        ),
        (
            json!({"filter": {"and": [{"field": "data.a", "op": "exists", "value": false}, {"field": "data.a", "value": 2}]}}),
            "filter.and",
        ),
    ] {
        let errors = Selector::read(&source).expect_err(&source.to_string());
        assert!(
            errors.iter().any(|error| error.path == want),
            "{source}: {errors:?}"
        );
    }
    selector(range(json!(1), json!(2)));
}

#[test]
fn it_is_written_as_it_is_read() {
    let source = json!({
        "event_types": ["order.*"], "event_sources": ["backend"], "event_categories": ["order"],
        "users": ["u-1"], "filter": {"or": [{"field": "data.a", "value": 1}]},
    });
    let read: Selector = serde_json::from_value(source.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), source);
    let again: Selector = serde_json::from_value(serde_json::to_value(&read).unwrap()).unwrap();
    assert_eq!(read, again);
    let error = serde_json::from_value::<Selector>(json!({"user": []})).unwrap_err();
    assert_eq!(error.to_string(), "user: is not known");
}
