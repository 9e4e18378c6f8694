//! The domain envelopes and the bus map.

use super::*;

fn payload() -> Value {
    json!({
        "event_id": "evt_1", "event_type": "UserRegistered", "aggregate_id": "u1",
        "payload": {"user_id": 42, "session_id": " s ", "timestamp": "2024-04-30T00:00:00"},
        "metadata": {"correlation_id": "c"},
    })
}

fn generic() -> Value {
    json!({
        "aggregate_id": "wf-9", "event_type": "WorkflowExecutionStarted",
        "event_data": {"user_id": "u2"}, "occurred_at": "2024-04-30T23:00:00Z",
    })
}

fn bus() -> Value {
    json!({
        "id": "b-1", "type": "payment.done", "source": "billing", "subject": "invoice/9",
        "data": {"user_id": "u3", "device_id": "d3"}, "time": "2024-04-29",
    })
}

#[test]
fn the_payload_envelope_maps() {
    let event = accepted(Origin::Log, &payload());
    assert_eq!(
        event.event_id,
        crate::id::Space::Backend.event_id(tenant(), "evt_1")
    );
    assert_eq!(event.client_event_id.as_deref(), Some("evt_1"));
    assert_eq!(event.event_category, EventCategory::UserLifecycle);
    assert_eq!(event.event_source, EventSource::Backend);
    assert_eq!(event.aggregate_id.as_deref(), Some("u1"));
    assert_eq!(event.user_id.as_deref(), Some("42"));
    assert_eq!(event.session_id.as_deref(), Some("s"));
    assert_eq!(event.correlation_id.as_deref(), Some("c"));
    assert_eq!(event.data.to_value(), payload()["payload"]);
    assert_eq!(event.timestamp, datetime!(2024-04-30 0:00 UTC));
    assert_eq!(event.received_at, RECEIVED);
}

#[test]
fn members_that_no_field_takes_are_kept_in_the_metadata() {
    for base in [payload(), generic()] {
        let mut body = with(&base, "trace_id", json!("t-\"1"));
        body["step"] = json!(7);
        body["trace"] = json!({"parent": [null]});
        body["nothing"] = json!(null);
        body["tenant_id"] = json!("other");
        body["metadata"] = json!({"step": 1, "own": true});
        for origin in [Origin::Http, Origin::Log] {
            let event = accepted(origin, &body);
            assert_eq!(
                event.metadata.to_value(),
                json!({"step": 7, "own": true, "trace_id": "t-\"1", "trace": {"parent": [null]}})
            );
            // On the log too, in its canonical form.
            let canonical = event.to_canonical();
            assert_eq!(decode(&canonical, &context(Origin::Log)), Ok(event));
        }
        let event = accepted(Origin::Log, &with(&base, "metadata", json!({})));
        assert_eq!(event.metadata, Json::default(), "all of it is known");
    }
}

#[test]
fn the_generic_envelope_maps() {
    let event = accepted(Origin::Http, &generic());
    assert_eq!(event.event_id, FRESH);
    assert_eq!(event.event_category, EventCategory::Task);
    assert_eq!(event.aggregate_id.as_deref(), Some("wf-9"));
    assert_eq!(event.user_id.as_deref(), Some("u2"));
    assert_eq!(event.data, object(r#"{"user_id":"u2"}"#));
    assert_eq!(event.timestamp, datetime!(2024-04-30 23:00 UTC));
}

#[test]
fn the_bus_map_maps() {
    let event = accepted(Origin::Http, &bus());
    assert_eq!(event.client_event_id.as_deref(), Some("b-1"));
    assert_eq!(event.event_type, "payment.done");
    assert_eq!(event.event_category, EventCategory::Payment);
    assert_eq!(event.event_source, EventSource::Backend);
    assert_eq!(event.user_id.as_deref(), Some("u3"));
    assert_eq!(event.device_id.as_deref(), Some("d3"));
    assert_eq!(
        event.metadata.to_value(),
        json!({"source_service": "billing", "event_id": "b-1"})
    );
    assert_eq!(event.context.to_value(), json!({"subject": "invoice/9"}));
    assert_eq!(event.timestamp, datetime!(2024-04-29 0:00 UTC));
}

#[test]
fn a_bus_map_without_a_type_is_unknown_on_the_log_and_refused_at_the_door() {
    for body in [
        with(&bus(), "type", json!(null)),
        with(&bus(), "type", json!(" ")),
        json!({"id": "1", "source": "s", "data": {}}),
    ] {
        let event = accepted(Origin::Log, &body);
        assert_eq!(
            (event.event_type.as_str(), event.event_category),
            ("unknown", EventCategory::System)
        );
    }
    assert_eq!(
        complaints(Origin::Http, &with(&bus(), "type", json!(null))),
        [("type".into(), Code::Missing)]
    );
    assert_eq!(
        complaints(Origin::Http, &with(&bus(), "type", json!(""))),
        [("type".into(), Code::IllegalValue)]
    );
    assert_eq!(
        complaints(Origin::Log, &with(&bus(), "type", json!(1))),
        [("type".into(), Code::WrongType)]
    );
}

#[test]
fn the_outside_wins_over_the_payload_and_a_category_of_its_own_over_the_rule() {
    let mut body = with(&payload(), "user_id", json!("outer"));
    body["correlation_id"] = json!("outer");
    body["occurred_at"] = json!("2024-04-28");
    body["event_category"] = json!("security");
    body["event_source"] = json!("iot_device");
    let event = accepted(Origin::Log, &body);
    assert_eq!(event.user_id.as_deref(), Some("outer"));
    assert_eq!(event.correlation_id.as_deref(), Some("outer"));
    assert_eq!(event.timestamp, datetime!(2024-04-28 0:00 UTC));
    assert_eq!(event.event_category, EventCategory::Security);
    assert_eq!(event.event_source, EventSource::IotDevice);
}

#[test]
fn what_is_unusable_inside_a_payload_is_no_complaint() {
    for inner in [
        json!({}),
        json!([1]),
        json!(true),
        json!(""),
        json!("a\u{1}b"),
        json!("x".repeat(256)),
    ] {
        let body = with(
            &payload(),
            "payload",
            json!({"user_id": inner, "session_id": inner, "timestamp": inner}),
        );
        let event = accepted(Origin::Log, &body);
        assert_eq!(
            (event.user_id, event.session_id, event.timestamp),
            (None, None, RECEIVED)
        );
    }
}

#[test]
fn a_wrong_type_is_named_alone_and_together_with_the_others() {
    for (base, objects, times) in [
        (
            payload(),
            ["payload", "metadata", "context", "properties"],
            "occurred_at",
        ),
        (
            generic(),
            ["event_data", "metadata", "context", "properties"],
            "occurred_at",
        ),
        (
            bus(),
            ["data", "metadata", "context", "properties"],
            "timestamp",
        ),
    ] {
        let mut table = wrong_types(&objects, &[times]);
        let named = if base.get("type").is_some() {
            table.push(("id", json!(1), Code::WrongType));
            table.push(("source", json!({}), Code::WrongType));
            table.push(("subject", json!([]), Code::WrongType));
            "type"
        } else {
            table.push(("event_id", json!(1), Code::WrongType));
            table.push(("event_source", json!({}), Code::WrongType));
            table.push(("event_category", json!([]), Code::WrongType));
            "event_type"
        };
        table.push((named, json!({}), Code::WrongType));
        for origin in [Origin::Http, Origin::Log] {
            refuses_each(origin, &base, &table);
            refuses_all(origin, &base, &table);
        }
        let illegal = with(&base, named, json!("a\tb"));
        assert_eq!(
            complaints(Origin::Log, &illegal),
            [(named.into(), Code::IllegalValue)]
        );
    }
}
