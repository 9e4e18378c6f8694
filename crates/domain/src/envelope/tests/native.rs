//! Our own form and the canonical one.

use super::*;

fn base() -> Value {
    json!({"event_type": "order.created", "data": {"n": 1}})
}

#[test]
fn only_the_type_is_needed() {
    let event = accepted(Origin::Http, &json!({"event_type": "x"}));
    assert_eq!(
        event,
        Event {
            event_id: FRESH,
            client_event_id: None,
            tenant_id: tenant().clone(),
            event_type: "x".into(),
            event_source: EventSource::Backend,
            event_category: EventCategory::UserAction,
            user_id: None,
            session_id: None,
            organization_id: None,
            device_id: None,
            correlation_id: None,
            aggregate_type: None,
            aggregate_id: None,
            expected_version: None,
            data: Json::default(),
            metadata: Json::default(),
            context: Json::default(),
            properties: Json::default(),
            timestamp: RECEIVED,
            received_at: RECEIVED,
            version: "1.0.0".into(),
            schema_version: "1.0.0".into(),
        }
    );
}

#[test]
fn every_field_is_read() {
    let event = accepted(
        Origin::Http,
        &json!({
            "event_id": A_UUID, "event_type": "order.created", "event_source": "iot_device",
            "event_category": "order", "user_id": "u", "session_id": "s", "organization_id": "o",
            "device_id": "d", "correlation_id": "c", "aggregate_type": "order", "aggregate_id": "7",
            "expected_version": 3, "data": {"a": 1}, "metadata": {"b": 2}, "context": {"c": 3},
            "properties": {"d": 4}, "timestamp": "2024-05-01T10:00:00+02:00", "version": 2,
            "schema_version": "2024-05",
        }),
    );
    assert_eq!(event.event_id.to_string(), A_UUID);
    assert_eq!(event.client_event_id, None);
    assert_eq!(event.event_source, EventSource::IotDevice);
    assert_eq!(event.event_category, EventCategory::Order);
    for (field, want) in [
        (&event.user_id, "u"),
        (&event.session_id, "s"),
        (&event.organization_id, "o"),
        (&event.device_id, "d"),
        (&event.correlation_id, "c"),
        (&event.aggregate_type, "order"),
        (&event.aggregate_id, "7"),
    ] {
        assert_eq!(field.as_deref(), Some(want));
    }
    assert_eq!(event.expected_version, Some(3));
    assert_eq!(event.data, object(r#"{"a":1}"#));
    assert_eq!(event.metadata, object(r#"{"b":2}"#));
    assert_eq!(event.context, object(r#"{"c":3}"#));
    assert_eq!(event.properties, object(r#"{"d":4}"#));
    assert_eq!(event.timestamp, datetime!(2024-05-01 08:00 UTC));
    assert_eq!(
        (event.version.as_str(), event.schema_version.as_str()),
        ("2", "2024-05")
    );
}

#[test]
fn a_wrong_type_is_named_alone_and_together_with_the_others() {
    let mut table = wrong_types(&OBJECTS, &["timestamp"]);
    table.push(("event_id", json!(5), Code::WrongType));
    table.push(("event_type", json!(["x"]), Code::WrongType));
    table.push(("event_source", json!(1), Code::WrongType));
    table.push(("event_category", json!({}), Code::WrongType));
    table.push(("page_url", json!(1), Code::WrongType));
    for origin in [Origin::Http, Origin::Log] {
        refuses_each(origin, &base(), &table);
        refuses_all(origin, &base(), &table);
    }
}

#[test]
fn a_wrong_value_is_named_alone_and_together_with_the_others() {
    let long = "ä".repeat(256);
    let mut table = vec![
        ("event_id", json!(long), Code::OutOfRange),
        ("version", json!("x".repeat(21)), Code::OutOfRange),
        ("schema_version", json!("1\n2"), Code::BadFormat),
        ("timestamp", json!("yesterday"), Code::BadFormat),
        ("expected_version", json!(-1), Code::OutOfRange),
        ("event_type", json!("a\tb"), Code::IllegalValue),
    ];
    for key in TEXTS {
        table.push((key, json!(long), Code::OutOfRange));
    }
    refuses_each(Origin::Http, &base(), &table);
    refuses_all(Origin::Http, &base(), &table);
    for key in TEXTS {
        let control = with(&base(), key, json!("a\u{7}b"));
        assert_eq!(
            complaints(Origin::Http, &control),
            [(key.into(), Code::BadFormat)]
        );
        let fits = with(&base(), key, json!("ä".repeat(255)));
        accepted(Origin::Http, &fits);
    }
}

#[test]
fn any_printable_text_is_an_event_type() {
    for fits in [
        "a",
        "Order Created",
        "a_b-c.d:e/f@g+h#i",
        "订单",
        "$pageview",
        "Order Completed!",
        "Player Create 🍔",
        "A & B",
        "50% off",
        "<b>\"a\\b\"</b>, {x}*",
        "👩\u{200d}🚀",
        &"x".repeat(255),
        &"🍔".repeat(255),
    ] {
        let event = accepted(Origin::Http, &json!({"event_type": format!("  {fits} ")}));
        assert_eq!(event.event_type, *fits);
    }
    for (bad, code) in [
        (json!(null), Code::Missing),
        (json!(""), Code::IllegalValue),
        (json!(" \t "), Code::IllegalValue),
        (json!("a\tb"), Code::IllegalValue),
        (json!("a\u{7f}"), Code::IllegalValue),
        (json!("a\u{9b}b"), Code::IllegalValue),
        (json!("x".repeat(256)), Code::IllegalValue),
        (json!(1), Code::WrongType),
    ] {
        let body = json!({"event_type": bad, "data": {}});
        assert_eq!(
            complaints(Origin::Http, &body),
            [("event_type".into(), code)],
            "{body}"
        );
    }
    assert_eq!(
        complaints(Origin::Http, &json!({})),
        [("event_type".into(), Code::Missing)]
    );
}

#[test]
fn texts_are_trimmed_and_empty_or_null_is_absent() {
    for (value, want) in [
        (json!("  a b\u{a0}\u{2003}"), Some("a b")),
        (json!("\n x \t"), Some("x")),
        (json!(""), None),
        (json!("   "), None),
        (json!(null), None),
    ] {
        for key in TEXTS {
            let event = accepted(Origin::Http, &with(&base(), key, value.clone()));
            let canonical: Value = serde_json::from_slice(&event.to_canonical()).unwrap();
            assert_eq!(canonical.get(key).and_then(Value::as_str), want, "{key}");
        }
    }
    for key in OBJECTS {
        let event = accepted(Origin::Http, &with(&base(), key, json!(null)));
        let canonical: Value = serde_json::from_slice(&event.to_canonical()).unwrap();
        assert!(canonical.get(key).is_none_or(|v| *v == json!({})), "{key}");
    }
}

#[test]
fn an_id_that_is_no_uuid_is_mapped_in_the_tenants_namespace_and_kept() {
    let event = accepted(Origin::Http, &with(&base(), "event_id", json!(" evt_1 ")));
    assert_eq!(
        event.event_id,
        crate::id::Space::Backend.event_id(tenant(), "evt_1")
    );
    assert_eq!(event.client_event_id.as_deref(), Some("evt_1"));
    for empty in ["", " "] {
        let event = accepted(Origin::Http, &with(&base(), "event_id", json!(empty)));
        assert_eq!((event.event_id, event.client_event_id), (FRESH, None));
    }
}

#[test]
fn aliases_stand_in_for_absent_names_and_unknown_values_fall_to_the_defaults() {
    for (body, source, category) in [
        (
            json!({"source": "scheduled", "category": "payment"}),
            EventSource::Scheduled,
            EventCategory::Payment,
        ),
        (
            json!({"event_source": "system", "source": "frontend", "event_category": "task", "category": "click"}),
            EventSource::System,
            EventCategory::Task,
        ),
        (
            json!({"event_source": null, "source": " frontend ", "event_category": null, "category": "click"}),
            EventSource::Frontend,
            EventCategory::Click,
        ),
        (
            json!({"source": "web", "category": "web"}),
            EventSource::Backend,
            EventCategory::UserAction,
        ),
        (
            json!({"event_source": "", "event_category": ""}),
            EventSource::Backend,
            EventCategory::UserAction,
        ),
    ] {
        let event = accepted(Origin::Http, &with(&body, "event_type", json!("x")));
        assert_eq!(
            (event.event_source, event.event_category),
            (source, category),
            "{body}"
        );
    }
    let event = accepted(
        Origin::Http,
        &json!({"event_type": "x", "data": {}, "occurred_at": "2024-04-01"}),
    );
    assert_eq!(event.timestamp, datetime!(2024-04-01 0:00 UTC));
}

#[test]
fn a_page_address_joins_the_context_and_may_be_long() {
    let url = format!("https://shop.example/?q={}", "x".repeat(2000));
    let body = json!({"event_type": "x", "context": {"page_url": "old", "a": 1}, "page_url": url});
    let event = accepted(Origin::Http, &body);
    assert_eq!(event.context.to_value(), json!({"page_url": url, "a": 1}));
    let body = with(&base(), "page_url", json!("x".repeat(4097)));
    assert_eq!(
        complaints(Origin::Http, &body),
        [("page_url".into(), Code::OutOfRange)]
    );
}

#[test]
fn whole_numbers_only_and_none_below_zero() {
    for (value, want) in [
        ("0", Some(0)),
        ("-0", Some(0)),
        ("9223372036854775807", Some(i64::MAX)),
        ("\"none\"", Some(0)),
        ("\"any\"", None),
        ("null", None),
    ] {
        let body = format!(
            r#"{{"event_type":"x","aggregate_type":"o","aggregate_id":"7","expected_version":{value}}}"#
        );
        let event = decode(body.as_bytes(), &context(Origin::Http)).unwrap();
        assert_eq!(event.expected_version, want, "{value}");
    }
    // Nothing but a stream with versions can have the one that is expected.
    for rest in ["", r#","aggregate_id":"7""#, r#","user_id":"u""#] {
        for origin in [Origin::Http, Origin::Log] {
            let body = format!(r#"{{"event_type":"x","expected_version":3{rest}}}"#);
            let Err(DecodeError::Fields(errors)) = decode(body.as_bytes(), &context(origin)) else {
                panic!("{body}");
            };
            assert_eq!(
                errors[0].to_string(),
                "expected_version: needs aggregate_type and \
                aggregate_id, whose stream has versions"
            );
        }
    }
    for (value, code) in [
        ("9223372036854775808", Code::OutOfRange),
        ("-1", Code::OutOfRange),
        ("-9223372036854775809", Code::OutOfRange),
        ("1.5", Code::WrongType),
        ("1e3", Code::WrongType),
        ("true", Code::WrongType),
        ("\"1\"", Code::WrongType),
    ] {
        let body = format!(r#"{{"event_type":"x","expected_version":{value}}}"#);
        match decode(body.as_bytes(), &context(Origin::Http)) {
            Err(DecodeError::Fields(e)) => {
                assert_eq!(
                    (e[0].path.as_str(), e[0].code, e.len()),
                    ("expected_version", code, 1)
                );
            }
            other => panic!("{value}: {other:?}"),
        }
    }
}

#[test]
fn only_the_log_may_say_tenant_receipt_and_client_id() {
    let said = json!({
        "event_id": A_UUID, "event_type": "x", "data": {}, "tenant_id": "other",
        "received_at": "2024-05-01T11:00:00Z", "client_event_id": "evt_1",
    });
    let event = accepted(Origin::Http, &said);
    assert_eq!(event.tenant_id, *tenant());
    assert_eq!(
        (event.received_at, event.timestamp, event.client_event_id),
        (RECEIVED, RECEIVED, None)
    );
    let wrong = json!({"event_type": "x", "tenant_id": 1, "received_at": 2, "client_event_id": 3});
    accepted(Origin::Http, &wrong);

    let event = accepted(Origin::Log, &said);
    let received = datetime!(2024-05-01 11:00 UTC);
    assert_eq!(event.tenant_id.as_str(), "other");
    assert_eq!((event.received_at, event.timestamp), (received, received));
    assert_eq!(event.client_event_id.as_deref(), Some("evt_1"));
    assert_eq!(
        complaints(Origin::Log, &with(&wrong, "data", json!({}))),
        [
            ("tenant_id".into(), Code::WrongType),
            ("received_at".into(), Code::WrongType),
            ("client_event_id".into(), Code::WrongType),
        ]
    );
    let bad = json!({"event_type": "x", "tenant_id": "a b"});
    assert_eq!(
        complaints(Origin::Log, &bad),
        [("tenant_id".into(), Code::IllegalValue)]
    );

    // The id is mapped in the namespace of the tenant that the record names.
    let mapped = accepted(
        Origin::Log,
        &json!({"event_id": "e", "event_type": "x", "tenant_id": "other"}),
    );
    assert_eq!(
        mapped.event_id,
        crate::id::Space::Backend.event_id(&mapped.tenant_id, "e")
    );
}

#[test]
fn the_nil_uuid_is_no_id() {
    let event = accepted(
        Origin::Log,
        &with(&base(), "event_id", json!(Uuid::nil().to_string())),
    );
    assert_eq!(event.event_id, FRESH);
}
