//! CloudEvents, structured.

use super::*;

fn base() -> Value {
    json!({"specversion": "1.0", "id": "a-1", "source": "/shop", "type": "com.example.order.created"})
}

#[test]
fn attributes_map_and_the_rest_is_kept() {
    let mut body = base();
    for (key, value) in [
        ("time", json!("2024-04-30T00:00:00.123456789Z")),
        ("data", json!({"user_id": "u", "session_id": 5})),
        ("datacontenttype", json!("application/json")),
        ("subject", json!("order/7")),
        ("organizationid", json!("o")),
        ("deviceid", json!("d")),
        ("correlationid", json!("c")),
        ("aggregatetype", json!("order")),
        ("aggregateid", json!("7")),
        ("traceparent", json!("00-x")),
        ("priority", json!(3)),
    ] {
        body[key] = value;
    }
    let event = accepted(Origin::Http, &body);
    assert_eq!(
        event.event_id,
        crate::id::Space::CloudEvent("/shop").event_id(tenant(), "a-1")
    );
    assert_eq!(event.client_event_id.as_deref(), Some("a-1"));
    assert_eq!(event.event_type, "com.example.order.created");
    assert_eq!(event.event_category, EventCategory::Order);
    assert_eq!(event.timestamp, datetime!(2024-04-30 0:00:00.123456 UTC));
    for (field, want) in [
        (&event.user_id, "u"),
        (&event.session_id, "5"),
        (&event.organization_id, "o"),
        (&event.device_id, "d"),
        (&event.correlation_id, "c"),
        (&event.aggregate_type, "order"),
        (&event.aggregate_id, "7"),
    ] {
        assert_eq!(field.as_deref(), Some(want));
    }
    assert_eq!(
        event.context.to_value(),
        json!({"cloudevent": {
            "specversion": "1.0", "source": "/shop", "datacontenttype": "application/json",
            "subject": "order/7", "traceparent": "00-x", "priority": 3,
        }})
    );
}

#[test]
fn equal_ids_of_two_sources_are_two_events_but_a_uuid_is_itself() {
    let other = with(&base(), "source", json!("/warehouse"));
    assert_ne!(
        accepted(Origin::Http, &base()).event_id,
        accepted(Origin::Http, &other).event_id
    );
    let event = accepted(Origin::Http, &with(&base(), "id", json!(A_UUID)));
    assert_eq!(
        (event.event_id.to_string().as_str(), event.client_event_id),
        (A_UUID, None)
    );
}

#[test]
fn data_of_any_kind_is_kept() {
    for (key, value, want) in [
        ("data", json!({"a": 1}), json!({"a": 1})),
        ("data", json!([1, "x"]), json!({"value": [1, "x"]})),
        ("data", json!("text"), json!({"value": "text"})),
        ("data", json!(false), json!({"value": false})),
        ("data", json!(null), json!({})),
        ("data_base64", json!("AQI="), json!({"base64": "AQI="})),
        ("data_base64", json!("+/8="), json!({"base64": "+/8="})),
    ] {
        let event = accepted(Origin::Http, &with(&base(), key, value));
        assert_eq!(event.data.to_value(), want);
    }
}

#[test]
fn what_is_wrong_is_named_alone_and_together() {
    let mut table = vec![
        ("specversion", json!(1.0), Code::WrongType),
        ("id", json!(1), Code::WrongType),
        ("source", json!([]), Code::WrongType),
        ("type", json!({}), Code::WrongType),
        ("time", json!(5), Code::WrongType),
        ("data_base64", json!(5), Code::WrongType),
        ("userid", json!(5), Code::WrongType),
        ("sessionid", json!(5), Code::WrongType),
        ("organizationid", json!(5), Code::WrongType),
        ("deviceid", json!(5), Code::WrongType),
        ("correlationid", json!(5), Code::WrongType),
        ("aggregatetype", json!(5), Code::WrongType),
        ("aggregateid", json!(5), Code::WrongType),
    ];
    refuses_each(Origin::Http, &base(), &table);
    refuses_all(Origin::Http, &base(), &table);
    table = vec![
        ("specversion", json!("0.3"), Code::IllegalValue),
        ("id", json!("x".repeat(256)), Code::OutOfRange),
        ("source", json!(" "), Code::Missing),
        ("type", json!(""), Code::IllegalValue),
        ("time", json!("noon"), Code::BadFormat),
        ("data_base64", json!("AQI"), Code::BadFormat),
    ];
    refuses_each(Origin::Log, &base(), &table);
    refuses_all(Origin::Log, &base(), &table);
    for bad in ["A===", "A=I=", "A\u{e9}IA", "AQ I="] {
        let body = with(&base(), "data_base64", json!(bad));
        assert_eq!(
            complaints(Origin::Http, &body),
            [("data_base64".into(), Code::BadFormat)],
            "{bad}"
        );
    }
    let both = with(
        &with(&base(), "data", json!({})),
        "data_base64",
        json!("AQI="),
    );
    assert_eq!(
        complaints(Origin::Http, &both),
        [("data_base64".into(), Code::IllegalValue)]
    );
}

#[test]
fn the_media_type_insists_on_the_required_attributes() {
    for media_type in [
        "application/cloudevents+json",
        "Application/CloudEvents+JSON; charset=utf-8",
        "application/cloudevents-batch+json",
    ] {
        let cx = Context {
            content_type: Some(media_type),
            ..context(Origin::Http)
        };
        let Err(DecodeError::Fields(errors)) = decode(br#"{"event_type":"x","data":{}}"#, &cx)
        else {
            panic!("{media_type} was not heeded");
        };
        let found: Vec<_> = errors.iter().map(|e| (e.path.as_str(), e.code)).collect();
        assert_eq!(
            found,
            ["specversion", "type", "source", "id"].map(|key| (key, Code::Missing))
        );
    }
    for media_type in ["application/json", "", "application/cloudevent"] {
        let cx = Context {
            content_type: Some(media_type),
            ..context(Origin::Http)
        };
        assert!(
            decode(br#"{"event_type":"x","data":{}}"#, &cx).is_ok(),
            "{media_type}"
        );
    }
}

/// Reads an event in binary mode; headers are attributes, decoded.
fn binary(headers: &[(&str, &str)], media_type: Option<&str>, data: &[u8]) -> Event {
    let attributes = headers.iter().map(|(name, value)| (*name, (*value).into()));
    let text = super::binary::structured(attributes, media_type, data).unwrap();
    let cx = Context {
        content_type: Some(super::binary::MEDIA_TYPE),
        ..context(Origin::Http)
    };
    decode(text.as_bytes(), &cx).unwrap_or_else(|error| panic!("{text}: {error}"))
}

const HEADERS: [(&str, &str); 6] = [
    ("specversion", "1.0"),
    ("id", "a-1"),
    ("source", "/sh\"op"),
    ("type", "order.created"),
    ("userid", "u"),
    ("data", "no attribute"),
];

#[test]
fn binary_and_structured_are_one_event() {
    let one = binary(
        &HEADERS,
        Some("application/json; charset=utf-8"),
        br#"{"type":"x","n":1.50}"#,
    );
    let two = accepted(
        Origin::Log,
        &json!({"specversion": "1.0", "id": "a-1", "source": "/sh\"op", "type": "order.created",
            "userid": "u", "data": {"type": "x", "n": 1.50}}),
    );
    assert_eq!(one.event_id, two.event_id);
    assert_eq!(one.content_hash(), two.content_hash());
    assert_eq!(
        (one.event_type.as_str(), one.user_id.as_deref()),
        ("order.created", Some("u"))
    );
    assert_eq!(one.data.as_str(), r#"{"type":"x","n":1.50}"#);
}

#[test]
fn binary_data_is_kept_by_its_media_type() {
    for (media_type, data, want) in [
        (None, "[1]", json!({"value": [1]})),
        (
            Some("application/vnd.a+json"),
            "\u{feff}{\"a\":1}",
            json!({"a": 1}),
        ),
        (Some("text/plain"), "1 \"x\"", json!({"value": "1 \"x\""})),
        (
            Some("application/octet-stream"),
            "\u{1}\u{2}",
            json!({"base64": "AQI="}),
        ),
        (Some("application/json"), "", json!({})),
    ] {
        let event = binary(&HEADERS, media_type, data.as_bytes());
        assert_eq!(event.data.to_value(), want, "{media_type:?}");
    }
    for data in ["", "{", "1,\"id\":\"b\"", "{} {}"] {
        let made = super::binary::structured(std::iter::empty(), None, data.as_bytes());
        assert_eq!(made.is_err(), !data.is_empty(), "{data}");
    }
}
