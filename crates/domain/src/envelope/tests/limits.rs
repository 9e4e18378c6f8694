//! Size, depth, time bounds, and what PostgreSQL cannot hold.

use super::*;

#[test]
fn size_is_bounded_before_anything_is_read() {
    let cx = Context {
        limits: Limits {
            max_event_bytes: 40,
            ..Limits::default()
        },
        ..context(Origin::Http)
    };
    let body = |pad: usize| format!(r#"{{"event_type":"{}"}}"#, "x".repeat(pad));
    assert_eq!(body(23).len(), 40);
    assert!(decode(body(23).as_bytes(), &cx).is_ok());
    let error = decode(body(24).as_bytes(), &cx).unwrap_err();
    assert_eq!(
        error,
        DecodeError::TooLarge {
            bytes: 41,
            limit: 40
        }
    );
    assert_eq!(error.reason(), "too_large");
    assert!(decode(&[0xff; 41], &cx).is_err_and(|e| e.reason() == "too_large"));
}

/// An object of `depth` containers.
fn nested(depth: usize) -> String {
    format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth))
}

#[test]
fn depth_is_bounded_and_the_place_named() {
    let native = |depth| format!(r#"{{"event_type":"x","data":{}}}"#, nested(depth));
    for origin in [Origin::Http, Origin::Frontend] {
        assert!(decode(native(31).as_bytes(), &context(origin)).is_ok());
        match decode(native(32).as_bytes(), &context(origin)) {
            Err(DecodeError::Fields(e)) => {
                assert_eq!((e[0].code, e.len()), (Code::TooDeep, 1));
                assert_eq!(e[0].path, format!("data{}", ".a".repeat(31)));
            }
            other => panic!("{other:?}"),
        }
    }
    // The canonical form has room for what the gateway wraps; nothing else has.
    assert!(decode(native(35).as_bytes(), &context(Origin::Log)).is_ok());
    assert!(decode(native(36).as_bytes(), &context(Origin::Log)).is_err());
    let other = |depth| format!(r#"{{"event_type":"x","payload":{}}}"#, nested(depth));
    assert!(decode(other(31).as_bytes(), &context(Origin::Log)).is_ok());
    let error = decode(other(32).as_bytes(), &context(Origin::Log)).unwrap_err();
    assert_eq!(error.reason(), "too_deep");
}

#[test]
fn no_configuration_allows_what_cannot_be_read_back() {
    let cx = Context {
        limits: Limits {
            max_json_depth: 100_000,
            ..Limits::default()
        },
        ..context(Origin::Log)
    };
    let body = |depth| format!(r#"{{"event_type":"x","data":{}}}"#, nested(depth));
    let event = decode(body(103).as_bytes(), &cx).unwrap();
    assert!(event.data.to_value().is_object());
    assert!(decode(body(10_000).as_bytes(), &cx).is_err_and(|e| e.reason() == "too_deep"));
}

#[test]
fn what_postgres_cannot_hold_is_refused_with_its_path() {
    for key in OBJECTS {
        for (value, path) in [
            (r#"{"a":["x\u0000"]}"#, "a[0]"),
            (r#"{"a":{"b":"\ud800"}}"#, "a.b"),
            (r#"{"a":"\udc00\ud800"}"#, "a"),
            (r#"{"a":[1,2,1e400]}"#, "a[2]"),
            (r#"{"a":1e-20000}"#, "a"),
            (r#"{"a":[0,1e-16383]}"#, "a[1]"),
        ] {
            for origin in [Origin::Http, Origin::Frontend, Origin::Log] {
                let body = format!(r#"{{"event_type":"x","{key}":{value}}}"#);
                match decode(body.as_bytes(), &context(origin)) {
                    Err(DecodeError::Fields(e)) => {
                        assert_eq!((e[0].code, e.len()), (Code::NotStorable, 1), "{body}");
                        assert_eq!(e[0].path, format!("{key}.{path}"));
                    }
                    other => panic!("{body}: {other:?}"),
                }
            }
        }
    }
    for key in TEXTS
        .into_iter()
        .chain(["event_id", "event_type", "page_url", "version"])
    {
        for value in [r"\u0000", r"a\ud800b", r"\udfff"] {
            let body = format!(r#"{{"event_type":"x","{key}":"{value}"}}"#);
            match decode(body.as_bytes(), &context(Origin::Http)) {
                Err(DecodeError::Fields(e)) => {
                    assert_eq!((e[0].path.as_str(), e[0].code), (key, Code::NotStorable));
                }
                other => panic!("{body}: {other:?}"),
            }
        }
    }
}

#[test]
fn absurd_times_are_refused() {
    let at = |text: &str| json!({"event_type": "x", "data": {}, "timestamp": text});
    for origin in [Origin::Http, Origin::Frontend, Origin::Log] {
        for fits in [
            "2024-05-02T12:00:00.5Z",
            "1970-01-01",
            "2024-05-02T14:00:00.5+02:00",
        ] {
            accepted(origin, &at(fits));
        }
        for late in [
            "2024-05-02T12:00:00.500001Z",
            "9999-12-31",
            "1969-12-31T23:59:59.999999Z",
            "0001-01-01",
        ] {
            assert_eq!(
                complaints(origin, &at(late)),
                [("timestamp".into(), Code::OutOfRange)],
                "{late}"
            );
        }
    }
}

#[test]
fn a_producers_word_for_the_receipt_does_not_widen_the_bound() {
    let body = json!({
        "event_type": "x", "data": {}, "timestamp": "2400-01-01", "received_at": "2400-01-01",
    });
    assert_eq!(
        complaints(Origin::Log, &body),
        [("received_at".into(), Code::OutOfRange)]
    );
    let body = with(&body, "received_at", json!("1960-01-01"));
    assert_eq!(
        complaints(Origin::Log, &body),
        [
            ("received_at".into(), Code::OutOfRange),
            ("timestamp".into(), Code::OutOfRange)
        ]
    );
    // One mistake is one complaint.
    let body = json!({"event_type": "x", "data": {}, "received_at": "1960-01-01"});
    assert_eq!(
        complaints(Origin::Log, &body),
        [("received_at".into(), Code::OutOfRange)]
    );
    let body = with(&body, "timestamp", json!("1960-00-00"));
    assert_eq!(
        complaints(Origin::Log, &body),
        [
            ("timestamp".into(), Code::BadFormat),
            ("received_at".into(), Code::OutOfRange)
        ]
    );
}

#[test]
fn what_a_gateway_took_is_not_refused_for_its_time_by_another_clock() {
    let strict = |origin, received_at, now| Context {
        received_at,
        now,
        limits: Limits {
            max_future_seconds: 0,
            ..Limits::default()
        },
        ..context(origin)
    };
    let taken = datetime!(2024-05-01 12:00:00.123456 UTC);
    let body = json!({"event_type": "x", "data": {}, "timestamp": "2024-05-01T12:00:00.123455Z"});
    let event = decode(
        body.to_string().as_bytes(),
        &strict(Origin::Http, taken, taken),
    )
    .unwrap();
    // The log cuts its own time to milliseconds, and the reader's clock is days behind, or ahead.
    for now in [
        taken,
        taken - Duration::days(40),
        taken + Duration::days(40),
    ] {
        let cx = strict(
            Origin::Log,
            taken.replace_microsecond(123_000).unwrap(),
            now,
        );
        assert_eq!(decode(&event.to_canonical(), &cx).as_ref(), Ok(&event));
    }
    // At the door itself the door's clock decides.
    let body = with(&body, "timestamp", json!("2024-05-01T12:00:00.123457Z"));
    assert!(
        decode(
            body.to_string().as_bytes(),
            &strict(Origin::Http, taken, taken)
        )
        .is_err()
    );
}

#[test]
fn the_time_of_a_record_says_nothing_about_an_event_with_a_time_of_its_own() {
    let at = |timestamp: &str, written, now| {
        let body = json!({"event_type": "x", "data": {}, "timestamp": timestamp});
        let cx = Context {
            received_at: written,
            now,
            ..context(Origin::Log)
        };
        decode(body.to_string().as_bytes(), &cx)
    };
    let long_ago = datetime!(2020-01-01 0:00 UTC);
    let event = at("2024-05-01T12:00:00Z", long_ago, RECEIVED).unwrap();
    assert_eq!(event.timestamp, datetime!(2024-05-01 12:00 UTC));
    assert_eq!(event.received_at, long_ago);
    assert!(
        at(
            "2024-05-03T12:00:00Z",
            datetime!(2024-05-03 12:00:01 UTC),
            RECEIVED
        )
        .is_err()
    );
}

#[test]
fn the_receipt_is_cut_to_what_postgres_keeps() {
    let cx = Context {
        received_at: datetime!(2024-05-01 14:00:00.123456789 +2),
        ..context(Origin::Http)
    };
    let event = decode(br#"{"event_type":"x"}"#, &cx).unwrap();
    assert_eq!(event.received_at, datetime!(2024-05-01 12:00:00.123456 UTC));
    assert!(event.received_at.offset().is_utc());
    assert_eq!(event.timestamp, event.received_at);
}

#[test]
fn errors_read_as_sentences() {
    let error = read(
        Origin::Http,
        &json!({"event_type": "", "data": [], "user_id": 1}),
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "event_type: must not be empty; user_id: must be a string; data: must be an object"
    );
    assert_eq!(error.reason(), "illegal_value");
}
