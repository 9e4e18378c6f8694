//! What holds for any body.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

/// Any JSON that PostgreSQL can hold, and a little that it cannot.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        "\\PC{0,10}".prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::hash_map("\\PC{0,6}", inner, 0..4)
                .prop_map(|map| map.into_iter().collect()),
        ]
    })
}

fn an_object() -> impl Strategy<Value = Value> {
    prop::collection::hash_map("[a-z_]{1,8}|user_id|session_id|timestamp", value(), 0..4)
        .prop_map(|map| map.into_iter().collect())
}

fn text() -> impl Strategy<Value = Value> {
    prop_oneof![
        "\\PC{0,20}",
        "[a-z0-9 _:-]{0,260}",
        "\\s?[\"\\\\/a-z]{1,5}\\s?"
    ]
    .prop_map(Into::into)
}

fn time_text() -> impl Strategy<Value = Value> {
    "(19[67]|20[012])[0-9]-[01][0-9]-[0-2][0-9]([T ][0-2][0-9]:[0-5][0-9](:[0-5][0-9](\\.[0-9]{1,9})?)?(Z|[+-]0[0-9]:?[0-5]0)?)?"
        .prop_map(Into::into)
}

/// What a member may well hold, by its name.
fn fitting(key: &'static str) -> BoxedStrategy<Value> {
    match key {
        "specversion" => Just(json!("1.0")).boxed(),
        "data" | "payload" | "event_data" | "metadata" | "context" | "properties" => {
            an_object().boxed()
        }
        "timestamp" | "occurred_at" | "time" | "received_at" => time_text().boxed(),
        "event_type" | "type" => "[A-Za-z0-9 ä._:/@+#-]{1,30}".prop_map(Into::into).boxed(),
        "event_id" | "id" => prop_oneof![
            any::<u128>().prop_map(|n| json!(Uuid::from_u128(n).to_string())),
            text(),
        ]
        .boxed(),
        "expected_version" => (0..=i64::MAX).prop_map(Into::into).boxed(),
        "version" | "schema_version" => prop_oneof![
            "[0-9.]{1,10}".prop_map(Value::from),
            any::<i32>().prop_map(Into::into),
        ]
        .boxed(),
        "tenant_id" => "[a-z]{1,8}".prop_map(Into::into).boxed(),
        "category" | "event_category" => {
            select(vec!["user_interaction", "business_action", "system_event"])
                .prop_map(Into::into)
                .boxed()
        }
        "event_source" => select(vec!["frontend", "scheduled", "web"])
            .prop_map(Into::into)
            .boxed(),
        "data_base64" => Just(json!("AQI=")).boxed(),
        _ => text().boxed(),
    }
}

const ALWAYS: [&[&str]; 6] = [
    &["event_type", "data"],
    &["event_type"],
    &["event_id", "event_type", "aggregate_id", "payload"],
    &["aggregate_id", "event_type", "event_data", "occurred_at"],
    &["id", "type", "source", "data"],
    &["specversion", "id", "type", "source"],
];

const SOMETIMES: [&str; 26] = [
    "timestamp",
    "occurred_at",
    "time",
    "received_at",
    "tenant_id",
    "event_source",
    "category",
    "event_category",
    "user_id",
    "session_id",
    "organization_id",
    "device_id",
    "correlation_id",
    "aggregate_type",
    "aggregate_id",
    "expected_version",
    "metadata",
    "context",
    "properties",
    "version",
    "schema_version",
    "page_url",
    "client_event_id",
    "userid",
    "subject",
    "data_base64",
];

/// A body of one of the envelopes; most are accepted.
fn body() -> impl Strategy<Value = Value> {
    (
        select(ALWAYS.to_vec()),
        prop::sample::subsequence(SOMETIMES.to_vec(), 0..10),
    )
        .prop_flat_map(|(always, sometimes)| {
            let keys: Vec<&'static str> = always.iter().copied().chain(sometimes).collect();
            let values: Vec<_> = keys.iter().map(|key| fitting(key)).collect();
            values.prop_map(move |values| {
                keys.iter()
                    .map(|key| (*key).to_owned())
                    .zip(values)
                    .collect::<Value>()
            })
        })
}

fn origin() -> impl Strategy<Value = Origin> {
    select(vec![Origin::Http, Origin::Frontend, Origin::Log])
}

/// The canonical form reads back to the same event, whatever the surroundings of the reader.
fn reads_back(event: &Event) {
    let canonical = event.to_canonical();
    let derived = serde_json::to_string(event).unwrap();
    assert_eq!(String::from_utf8_lossy(&canonical), derived);
    let stranger = TenantId::default();
    let cx = Context {
        tenant: &stranger,
        fresh_id: Uuid::nil(),
        received_at: RECEIVED.saturating_add(Duration::hours(1)),
        default_source: EventSource::ExternalApi,
        default_category: EventCategory::Alert,
        ..context(Origin::Log)
    };
    let again = decode(&canonical, &cx);
    assert_eq!(
        again.as_ref(),
        Ok(event),
        "{}",
        String::from_utf8_lossy(&canonical)
    );
}

#[test]
fn most_generated_bodies_are_accepted() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let fits = (0..200)
        .filter(|_| {
            read(
                Origin::Log,
                &body().new_tree(&mut runner).unwrap().current(),
            )
            .is_ok()
        })
        .count();
    assert!(
        fits > 60,
        "only {fits} of 200: the round trip would prove little"
    );
}

#[test]
fn the_deepest_of_each_envelope_reads_back() {
    for (head, tail) in [
        (r#"{"event_type":"x","data":"#, "}"),
        (r#"{"event_type":"x","payload":"#, "}"),
        (
            r#"{"specversion":"1.0","id":"1","source":"s","type":"t","data":"#,
            "}",
        ),
        (
            r#"{"specversion":"1.0","id":"1","source":"s","type":"t","extra":"#,
            "}",
        ),
        (
            r#"{"specversion":"1.0","id":"1","source":"s","type":"t","data":["#,
            "]}",
        ),
    ] {
        let inner = if head.ends_with('[') { 30 } else { 31 };
        let body = format!(
            "{head}{}1{}{tail}",
            "{\"a\":".repeat(inner),
            "}".repeat(inner)
        );
        for origin in [Origin::Http, Origin::Log] {
            reads_back(&decode(body.as_bytes(), &context(origin)).unwrap());
        }
    }
}

#[test]
fn odd_spacing_reads_back() {
    let body = b" { \"event_type\" : \" x \" , \"data\" : { } ,\n\"metadata\":{\t},\"context\" : { \"a\" : [ ] } } ";
    reads_back(&decode(body, &context(Origin::Http)).unwrap());
}

proptest! {
    #[test]
    fn the_canonical_form_reads_back(body in body(), origin in origin()) {
        if let Ok(event) = read(origin, &body) {
            reads_back(&event);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64), origin in origin()) {
        let _ = decode(&bytes, &context(origin));
    }

    #[test]
    fn any_json_is_read_or_refused_with_a_reason(value in value(), origin in origin()) {
        match read(origin, &value) {
            Ok(event) => reads_back(&event),
            Err(DecodeError::Fields(errors)) => prop_assert!(!errors.is_empty()),
            Err(error) => prop_assert!(false, "{value}: {error}"),
        }
    }

    #[test]
    fn a_member_of_another_kind_is_read_or_refused(body in body(), at in any::<Index>(), other in value(), origin in origin()) {
        let mut body = body;
        let keys: Vec<String> = body.as_object().unwrap().keys().cloned().collect();
        body[at.get(&keys)] = other;
        match read(origin, &body) {
            Ok(event) => reads_back(&event),
            Err(DecodeError::Fields(errors)) => {
                prop_assert!(!errors.is_empty());
                let mut places: Vec<_> = errors.iter().map(|e| &e.path).collect();
                places.sort();
                places.dedup();
                prop_assert_eq!(places.len(), errors.len(), "one complaint a field: {:?}", errors);
            }
            Err(error) => prop_assert!(false, "{body}: {error}"),
        }
    }

    #[test]
    fn a_changed_byte_is_read_or_refused(body in body(), at in any::<Index>(), to in any::<u8>(), origin in origin()) {
        let mut bytes = body.to_string().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(event) = decode(&bytes, &context(origin)) {
            reads_back(&event);
        }
    }
}
