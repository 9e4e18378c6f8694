//! Which envelope a body is taken for, also where two would fit.

use super::*;

/// What the data came from tells which reader ran.
fn data_of(origin: Origin, body: &Value) -> Value {
    accepted(origin, body).data.to_value()
}

#[test]
fn the_telling_key_decides() {
    let (a, b) = (json!({"k": "a"}), json!({"k": "b"}));
    for (body, want) in [
        (json!({"event_type": "x", "data": a, "payload": b}), &a),
        (json!({"event_type": "x", "data": a, "event_data": b}), &a),
        (json!({"event_type": "x", "data": a, "type": "t"}), &a),
        (
            json!({"event_type": "x", "payload": a, "occurred_at": "2024-01-01"}),
            &a,
        ),
        (
            json!({"event_type": "x", "event_data": a, "payload": b}),
            &a,
        ),
        (json!({"event_type": "x", "event_data": a, "type": "t"}), &a),
        // A null says nothing.
        (
            json!({"event_type": "x", "data": null, "payload": a, "event_data": null}),
            &a,
        ),
        (
            json!({"event_type": null, "type": "t", "data": a, "specversion": null}),
            &a,
        ),
        (
            json!({"event_type": "x", "data": null, "event_data": a, "type": null}),
            &a,
        ),
        (json!({"type": "t", "data": a}), &a),
        (
            json!({"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": a, "payload": b}),
            &a,
        ),
    ] {
        for origin in [Origin::Http, Origin::Log] {
            assert_eq!(&data_of(origin, &body), want, "{body}");
        }
    }
    let only_time = accepted(
        Origin::Http,
        &json!({"event_type": "x", "occurred_at": "2024-01-01"}),
    );
    assert_eq!(only_time.timestamp, datetime!(2024-01-01 0:00 UTC));
}

#[test]
fn an_envelope_without_its_type_is_told_which_name_it_lacks() {
    for body in [
        json!({}),
        json!({"data": {}}),
        json!({"payload": {}}),
        json!({"event_data": {}}),
    ] {
        assert_eq!(
            complaints(Origin::Http, &body),
            [("event_type".into(), Code::Missing)],
            "{body}"
        );
    }
}

#[test]
fn the_last_of_equal_keys_counts() {
    let body = br#"{"event_type":"x","data":{"n":1},"event_type":"y","data":{"n":2}}"#;
    let event = decode(body, &context(Origin::Http)).unwrap();
    assert_eq!(
        (event.event_type.as_str(), event.data.as_str()),
        ("y", r#"{"n":2}"#)
    );
}

#[test]
fn what_stands_twice_inside_is_kept_once() {
    let body = br#"{"event_type":"x","data":{"n":1,"m":[{"a":1,"a":2}],"n":2.50},"metadata":{"k":1,"\u006b":2}}"#;
    for origin in [Origin::Http, Origin::Frontend, Origin::Log] {
        let event = decode(body, &context(origin)).unwrap();
        assert_eq!(event.data.as_str(), r#"{"m":[{"a":2}],"n":2.50}"#);
        assert_eq!(event.metadata.as_str(), r#"{"\u006b":2}"#);
    }
    let outside = br#"{"event_type":"x","payload":{},"extra":{"a":1,"a":2},"extra":{"b":1,"b":2}}"#;
    let event = decode(outside, &context(Origin::Log)).unwrap();
    assert_eq!(event.metadata.as_str(), r#"{"extra":{"b":2}}"#);
}

#[test]
fn a_byte_order_mark_is_passed_over() {
    for origin in [Origin::Http, Origin::Frontend, Origin::Log] {
        let body = b"\xef\xbb\xbf{\"event_type\":\"x\"}";
        assert_eq!(decode(body, &context(origin)).unwrap().event_type, "x");
    }
}

#[test]
fn an_event_without_an_id_tells_where_it_would_stand() {
    for (body, want) in [
        (r#"{"event_type":"a","data":{}}"#, Some("event_id")),
        (r#"{"event_type":"a","id":"17"}"#, Some("event_id")),
        (
            r#"{"event_type":"a","payload":{"event_id":"x"},"messageId":"x"}"#,
            Some("event_id"),
        ),
        (
            r#"{"event_type":"a","event_data":{},"event_id":null}"#,
            Some("event_id"),
        ),
        (r#"{"type":"a","data":{}}"#, Some("id")),
        (r#"{"type":"a","event_id":" "}"#, Some("id")),
        (
            r#"{"specversion":"1.0","type":"a","event_id":"x"}"#,
            Some("id"),
        ),
        (
            r#"{"event_type":"a","event_id":"00000000-0000-0000-0000-000000000000"}"#,
            Some("event_id"),
        ),
        (r#"{"event_type":"a","event_id":"x"}"#, None),
        (r#"{"event_type":"a","event_id":7}"#, None),
        (r#"{"type":"a","id":"x"}"#, None),
        (r#"{"type":"a","event_id":"x"}"#, None),
        (r#"{"specversion":"1.0","type":"a","id":"x"}"#, None),
        ("[1]", None),
    ] {
        assert_eq!(missing_id(body), want, "{body}");
    }
}

#[test]
fn a_key_may_be_written_with_escapes() {
    let body = br#"{"\u0065vent_type":"\u0078","d\u0061ta":{"n":1}}"#;
    let event = decode(body, &context(Origin::Http)).unwrap();
    assert_eq!(
        (event.event_type.as_str(), event.data.as_str()),
        ("x", r#"{"n":1}"#)
    );
}

#[test]
fn what_is_no_object_is_told_so() {
    for (text, word) in [
        (" [{}]", "array"),
        ("1", "object"),
        ("\"x\"", "object"),
        ("null", "object"),
    ] {
        for origin in [Origin::Http, Origin::Frontend, Origin::Log] {
            match decode(text.as_bytes(), &context(origin)) {
                Err(DecodeError::Fields(e)) => {
                    assert_eq!(
                        (e[0].path.as_str(), e[0].code, e.len()),
                        ("", Code::WrongType, 1)
                    );
                    assert!(e[0].message.contains(word), "{}", e[0].message);
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}

#[test]
fn what_is_no_json_is_a_syntax_error() {
    for bytes in [
        b"".as_slice(),
        b"  ",
        b"{",
        b"{}x",
        b"\xff{}",
        b"{\"a\":\"\xc3\"}",
    ] {
        let error = decode(bytes, &context(Origin::Http)).unwrap_err();
        assert!(
            matches!(error, DecodeError::Syntax(_)),
            "{bytes:?}: {error:?}"
        );
        assert_eq!(error.reason(), "invalid_json");
    }
    let error = decode(b"{\"a\":\"\xc3\"}", &context(Origin::Http)).unwrap_err();
    assert_eq!(error.to_string(), "invalid UTF-8 at byte 6");
}
