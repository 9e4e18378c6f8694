//! The frontend form.

use super::*;

fn base() -> Value {
    json!({"event_type": "button_click", "data": {"id": "buy"}})
}

#[test]
fn source_and_category_are_the_frontends() {
    for (body, category) in [
        (json!({}), EventCategory::UserInteraction),
        (json!({"category": null}), EventCategory::UserInteraction),
        (
            json!({"category": "user_interaction"}),
            EventCategory::UserInteraction,
        ),
        (
            json!({"category": " business_action "}),
            EventCategory::BusinessAction,
        ),
        (
            json!({"event_category": "system_event", "event_source": "backend"}),
            EventCategory::SystemEvent,
        ),
        (
            json!({"category": "system_event", "event_category": "order"}),
            EventCategory::SystemEvent,
        ),
    ] {
        let event = accepted(Origin::Frontend, &with(&body, "event_type", json!("x")));
        assert_eq!(
            (event.event_source, event.event_category),
            (EventSource::Frontend, category),
            "{body}"
        );
    }
}

#[test]
fn another_category_is_refused() {
    for (value, code) in [
        (json!("order"), Code::IllegalValue),
        (json!("nonsense"), Code::IllegalValue),
        (json!(""), Code::IllegalValue),
        (json!(4), Code::WrongType),
        (json!({}), Code::WrongType),
    ] {
        let body = with(&base(), "category", value);
        assert_eq!(
            complaints(Origin::Frontend, &body),
            [("category".into(), code)],
            "{body}"
        );
    }
}

#[test]
fn a_wrong_type_is_named_alone_and_together_with_the_others() {
    let mut table = wrong_types(&OBJECTS, &["timestamp"]);
    table.push(("event_type", json!(null), Code::Missing));
    table.push(("category", json!([]), Code::WrongType));
    table.push(("page_url", json!({}), Code::WrongType));
    refuses_each(Origin::Frontend, &base(), &table);
    refuses_all(Origin::Frontend, &base(), &table);
}

#[test]
fn data_must_be_structured() {
    for bad in [json!("a bare string"), json!(1), json!([1]), json!(true)] {
        let body = with(&base(), "data", bad);
        assert_eq!(
            complaints(Origin::Frontend, &body),
            [("data".into(), Code::WrongType)],
            "{body}"
        );
    }
}

#[test]
fn no_other_envelope_and_no_word_of_tenant_or_receipt() {
    let body = json!({
        "event_type": "x", "specversion": "1.0", "type": "y", "payload": {"a": 1},
        "tenant_id": "other", "received_at": "2020-01-01",
    });
    let event = accepted(Origin::Frontend, &body);
    assert_eq!(event.event_type, "x");
    assert_eq!(event.data, Json::default());
    assert_eq!((&event.tenant_id, event.received_at), (tenant(), RECEIVED));
}
