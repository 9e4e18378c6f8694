use serde_json::{Value, json};
use time::macros::datetime;

use std::collections::HashSet;

use super::*;

const FRESH: Uuid = Uuid::from_u128(42);

struct Setting {
    tenant: TenantId,
    client: Option<ClientInfo>,
    limits: Limits,
    personal: PersonalData,
    key: Option<&'static str>,
    content_type: Option<&'static str>,
}

impl Setting {
    fn backend() -> Self {
        Self {
            tenant: TenantId::default(),
            client: None,
            limits: Limits::default(),
            personal: PersonalData::default(),
            key: None,
            content_type: None,
        }
    }

    fn frontend() -> Self {
        Self {
            client: Some(ClientInfo {
                ip: Some("1.2.3.4".parse().unwrap()),
                user_agent: Some("test".to_owned()),
                referer: None,
            }),
            ..Self::backend()
        }
    }

    fn intake(&self) -> Intake<'_> {
        Intake {
            tenant: &self.tenant,
            received_at: datetime!(2026-01-02 03:04:05 UTC),
            limits: self.limits,
            personal: &self.personal,
            max_batch_events: 5,
            client: self.client.as_ref(),
            content_type: self.content_type,
            idempotency: self.key.map(|key| ("create", key)),
            fresh_id: || FRESH,
            sibling: "/other",
        }
    }

    fn one(&self, body: impl AsRef<[u8]>) -> Result<Accepted, Refused> {
        one(body.as_ref(), &self.intake())
    }

    fn many(&self, body: impl AsRef<[u8]>) -> Result<Batch, Refused> {
        many(body.as_ref(), &self.intake(), false)
    }
}

fn paths(refused: Refused) -> Vec<(String, Code)> {
    match refused {
        Refused::Fields(errors) | Refused::Elements { errors, .. } => {
            errors.into_iter().map(|e| (e.path, e.code)).collect()
        }
        other => panic!("no fields: {other:?}"),
    }
}

fn canonical(accepted: &Accepted) -> Value {
    serde_json::from_slice(&accepted.canonical).unwrap()
}

#[test]
fn one_event_becomes_canonical() {
    let body = r#"{"event_type":"user_click","user_id":"12345","timestamp":"2024-01-01T12:00:00Z","metadata":{"page":"/home"}}"#;
    let accepted = Setting::backend().one(body).unwrap();
    assert_eq!(
        canonical(&accepted),
        json!({
            "event_id": FRESH, "tenant_id": "default", "event_type": "user_click",
            "event_source": "backend", "event_category": "user_action", "user_id": "12345",
            "timestamp": "2024-01-01T12:00:00Z", "received_at": "2026-01-02T03:04:05Z",
            "version": "1.0.0", "schema_version": "1.0.0", "data": {}, "metadata": {"page": "/home"},
        })
    );
}

#[test]
fn what_is_no_json_is_a_syntax_error_whatever_its_shape() {
    let backend = Setting::backend();
    for body in [
        &b""[..],
        b" ",
        b"{",
        b"[1,",
        b"nope",
        b"{\"event_type\":\"a\"} x",
        b"\xff{}",
        b"{\"event_type\":\"\xff\"}",
    ] {
        for result in [
            backend.one(body).map(drop),
            backend.many(body).map(drop),
            frontend_many(body, &Setting::frontend().intake(), false).map(drop),
        ] {
            assert!(
                matches!(result, Err(Refused::Syntax(_))),
                "{body:?}: {result:?}"
            );
        }
    }
}

#[test]
fn a_byte_order_mark_is_skipped() {
    let body = b"\xEF\xBB\xBF{\"event_type\":\"a\"}";
    assert_eq!(Setting::backend().one(body).unwrap().event.event_type, "a");
}

#[test]
fn the_wrong_shape_names_the_right_route() {
    for result in [
        Setting::backend().one("[{\"event_type\":\"a\"}]").map(drop),
        Setting::backend().many("{\"event_type\":\"a\"}").map(drop),
        frontend_many(b"[{}]", &Setting::frontend().intake(), false).map(drop),
    ] {
        let Err(Refused::Fields(errors)) = result else {
            panic!("{result:?}");
        };
        assert_eq!(errors[0].code, Code::WrongType);
        assert!(errors[0].message.contains("/other"), "{}", errors[0]);
    }
}

#[test]
fn a_batch_is_all_or_nothing_and_every_fault_is_named() {
    let body = r#"[{"event_type":"a"},{"event_type":1,"user_id":2},{"event_type":"b","data":"x"},{"event_type":""}]"#;
    let refused = Setting::backend().many(body).unwrap_err();
    assert_eq!((refused.reason(), refused.events()), ("wrong_type", 4));
    let mut found = paths(refused);
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(
        found,
        [
            ("[1].event_type".to_owned(), Code::WrongType),
            ("[1].user_id".to_owned(), Code::WrongType),
            ("[2].data".to_owned(), Code::WrongType),
            ("[3].event_type".to_owned(), Code::IllegalValue),
        ]
    );
}

#[test]
fn a_partial_batch_takes_the_good_ones() {
    let intake_of = Setting::backend();
    let body = br#"[{"event_type":"a"},7,{"event_type":"b"}]"#;
    let batch = many(body, &intake_of.intake(), true).unwrap();
    let types: Vec<_> = batch
        .accepted
        .iter()
        .map(|a| a.event.event_type.as_str())
        .collect();
    assert_eq!(types, ["a", "b"]);
    assert_eq!(batch.rejected.len(), 1);
    assert_eq!(batch.rejected[0].index, 1);
    assert_eq!(batch.rejected[0].errors[0].path, "[1]");
    let refused = many(b"[7,{}]", &intake_of.intake(), true).unwrap_err();
    assert!(
        matches!(refused, Refused::Elements { events: 2, .. }),
        "{refused:?}"
    );
}

#[test]
fn what_is_no_json_is_refused_whole_whatever_stands_before_it() {
    let backend = Setting::backend();
    let nul = r#"{"event_type":"a\u0000"}"#;
    for body in [
        r#"[{"event_type":"a"},{"event_type":"b"}"#.to_owned(),
        r#"[{"event_type":"a"},{"event_type":"b",}]"#.to_owned(),
        r#"[{"event_type":"a"},]"#.to_owned(),
        r#"[{"event_type":"a"}]]"#.to_owned(),
        format!(r#"[{nul},{{"event_type":"a"}},{{"event_type":}}]"#),
        format!(r#"[{{"event_type":"a"}},{nul}}}]"#),
        format!("[{},01]", ["1"; 9].join(",")),
    ] {
        for partial in [false, true] {
            let refused = many(body.as_bytes(), &backend.intake(), partial);
            assert!(matches!(refused, Err(Refused::Syntax(_))), "{body}");
        }
    }
    // That is JSON.
    let body = format!(r#"[{nul},{{"event_type":"a"}}]"#);
    let batch = many(body.as_bytes(), &backend.intake(), true).unwrap();
    assert_eq!((batch.accepted.len(), batch.rejected[0].index), (1, 0));
}

#[test]
fn the_number_of_events_is_bounded() {
    let backend = Setting::backend();
    assert_eq!(
        paths(backend.many(" [ ] ").unwrap_err()),
        [(String::new(), Code::OutOfRange)]
    );
    let full = format!("[{}]", [r#"{"event_type":"a"}"#; 5].join(","));
    assert_eq!(backend.many(full).unwrap().accepted.len(), 5);
    let over = format!("[{}]", vec!["1"; 1_000_000].join(","));
    let Err(Refused::TooLarge(detail)) = backend.many(over) else {
        panic!("not too large");
    };
    assert!(
        detail.contains("1000000") && detail.contains('5'),
        "{detail}"
    );
}

fn ids(batch: &Batch) -> Vec<Uuid> {
    let accepted = batch.accepted.iter();
    accepted.map(|one| one.event.event_id).collect()
}

#[test]
fn an_idempotency_key_gives_ids_to_those_without() {
    let setting = Setting {
        key: Some("k"),
        ..Setting::backend()
    };
    let own = Uuid::from_u128(7);
    let body = format!(
        r#"[{{"event_type":"a"}},{{"event_type":"a","event_id":"{own}"}},{{"event_type":"a"}}]"#
    );
    let first = ids(&setting.many(&body).unwrap());
    assert_eq!(first, ids(&setting.many(&body).unwrap()));
    assert_eq!(first[1], own);
    assert_ne!(first[0], first[2]);
    let spelled = setting
        .one("{ \"data\": {}, \"event_type\": \"\\u0061\" }")
        .unwrap();
    assert_eq!(spelled.event.event_id, first[0]);
}

#[test]
fn an_idempotency_key_means_the_same_only_with_the_same_content() {
    let setting = Setting {
        key: Some("1"),
        ..Setting::backend()
    };
    let sent = |body: &str| many(body.as_bytes(), &setting.intake(), true).unwrap();
    let whole = ids(&sent(
        r#"[{"event_type":"a"},{"event_type":"b"},{"event_type":"c"},{"event_type":"d"}]"#,
    ));
    // The second half alone is known; with one element mended, only that one is new.
    let half = ids(&sent(r#"[{"event_type":"c"},{"event_type":"d"}]"#));
    assert_eq!(half, whole[2..]);
    let mended = ids(&sent(
        r#"[{"event_type":"b"},{"event_type":"a","user_id":"u"}]"#,
    ));
    assert_eq!(mended[0], whole[1]);
    assert!(!whole.contains(&mended[1]));
    // Another user, another route and another tenant never meet.
    let one = |route, tenant: &str, body: &str| {
        let tenant = TenantId::parse(tenant).unwrap();
        let intake = Intake {
            tenant: &tenant,
            idempotency: Some((route, "1")),
            ..setting.intake()
        };
        one(body.as_bytes(), &intake).unwrap().event.event_id
    };
    let distinct: HashSet<Uuid> = [
        one("create", "default", r#"{"event_type":"a"}"#),
        one("events", "default", r#"{"event_type":"a"}"#),
        one("create", "other", r#"{"event_type":"a"}"#),
        one("create", "default", r#"{"event_type":"a","user_id":"u"}"#),
        one("create", "default", r#"{"event_type":"a","user_id":"v"}"#),
    ]
    .into();
    assert_eq!(distinct.len(), 5);
    assert!(distinct.contains(&whole[0]));
}

#[test]
fn too_large_is_told_apart_before_and_after_wrapping() {
    let mut setting = Setting::backend();
    setting.limits.max_event_bytes = 1000;
    let long = |length: usize| format!(r#"{{"event_type":"{}"}}"#, "a".repeat(length));
    assert!(matches!(setting.one(long(1200)), Err(Refused::TooLarge(_))));
    let data = |length: usize| {
        format!(
            r#"{{"event_type":"a","data":{{"x":"{}"}}}}"#,
            "x".repeat(length)
        )
    };
    assert!(setting.one(data(600)).is_ok());
    // Fits as sent, but not with what the canonical form adds.
    assert!(data(900).len() < 1000);
    assert!(matches!(setting.one(data(900)), Err(Refused::TooLarge(_))));
    let batch = format!("[{}]", data(900));
    assert!(matches!(setting.many(batch), Err(Refused::TooLarge(_))));
    let mixed = format!("[{},{{}}]", data(900));
    assert!(matches!(setting.many(mixed), Err(Refused::Elements { .. })));
}

#[test]
fn frontend_events_carry_who_sent_them() {
    let setting = Setting::frontend();
    let accepted = setting
        .one(r#"{"event_type":"page_view","category":"business_action","page_url":"https://x/"}"#)
        .unwrap();
    let event = canonical(&accepted);
    assert_eq!(event["event_source"], "frontend");
    assert_eq!(event["event_category"], "business_action");
    assert_eq!(
        event["context"],
        json!({"page_url": "https://x/", "client_info": {"ip": "1.2.3.4", "user_agent": "test"}})
    );
    assert_eq!(
        paths(
            setting
                .one(r#"{"event_type":"a","category":"nope"}"#)
                .unwrap_err()
        ),
        [("category".to_owned(), Code::IllegalValue)]
    );
}

#[test]
fn a_frontend_batch_has_events_and_client_info() {
    let setting = Setting::frontend();
    let intake = setting.intake();
    let body = br#"{"events":[{"event_type":"a"},{"event_type":"b"}],"client_info":{"browser":"Firefox","user_agent":"mine"}}"#;
    let batch = frontend_many(body, &intake, false).unwrap();
    for accepted in &batch.accepted {
        assert_eq!(
            canonical(accepted)["context"]["client_info"],
            json!({"ip": "1.2.3.4", "user_agent": "mine", "browser": "Firefox"})
        );
    }
    for (body, path) in [
        (r#"{}"#, "events"),
        (r#"{"events":null}"#, "events"),
        (r#"{"events":{}}"#, "events"),
        (r#"{"events":[]}"#, "events"),
        (
            r#"{"events":[{"event_type":"a"}],"client_info":"x"}"#,
            "client_info",
        ),
        (
            r#"{"events":[{"event_type":"a"}],"client_info":{"a":"\u0000"}}"#,
            "client_info.a",
        ),
        (
            r#"{"events":[{"event_type":"a"},{"event_type":"a","user_id":1}]}"#,
            "events[1].user_id",
        ),
    ] {
        let refused = frontend_many(body.as_bytes(), &intake, false).unwrap_err();
        assert_eq!(paths(refused)[0].0, path, "{body}");
    }
}

#[test]
fn cloudevents_are_read_where_they_are_declared() {
    let setting = Setting {
        content_type: Some("application/cloudevents+json"),
        ..Setting::backend()
    };
    let body = r#"{"specversion":"1.0","id":"1","source":"/a","type":"order.paid","data":{"n":1}}"#;
    let event = setting.one(body).unwrap().event;
    assert_eq!(event.event_type, "order.paid");
    assert!(setting.one(r#"{"event_type":"a"}"#).is_err());
}

#[test]
fn nothing_unstorable_passes() {
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    for (value, code) in [
        ("\"\\u0000\"", Code::NotStorable),
        ("\"\\ud800\"", Code::NotStorable),
        ("1e400", Code::NotStorable),
        (deep.as_str(), Code::TooDeep),
    ] {
        let event = format!(r#"{{"event_type":"a","data":{{"x":{value}}}}}"#);
        let (path, found) = paths(Setting::backend().one(&event).unwrap_err()).remove(0);
        assert!(
            path.starts_with("data.x") && found == code,
            "{path} {found:?}"
        );
        let (path, found) =
            paths(Setting::backend().many(format!("[{event}]")).unwrap_err()).remove(0);
        assert!(
            path.starts_with("[0].data.x") && found == code,
            "{path} {found:?}"
        );
    }
    let refused = Setting::backend().many(deep).unwrap_err();
    assert_eq!(paths(refused)[0].1, Code::TooDeep);
}
