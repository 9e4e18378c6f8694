//! What each envelope accepts and refuses.

mod cloudevents;
mod detection;
mod domain_events;
mod frontend;
mod limits;
mod native;
mod properties;
mod routing;
mod segment;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;
use uuid::Uuid;

use super::*;
use crate::json::Json;
use crate::{EventCategory, EventSource, Limits, TenantId};

const RECEIVED: OffsetDateTime = datetime!(2024-05-01 12:00:00.5 UTC);
const FRESH: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);
const A_UUID: &str = "0b1f7d0e-8d51-4b6f-9d53-0c5d0a1b2c3d";

fn tenant() -> &'static TenantId {
    static TENANT: std::sync::LazyLock<TenantId> =
        std::sync::LazyLock::new(|| TenantId::parse("acme").unwrap());
    &TENANT
}

fn context(origin: Origin) -> Context<'static> {
    Context {
        origin,
        tenant: tenant(),
        received_at: RECEIVED,
        now: RECEIVED,
        fresh_id: FRESH,
        default_source: EventSource::Backend,
        default_category: EventCategory::UserAction,
        content_type: None,
        limits: Limits::default(),
    }
}

fn read(origin: Origin, body: &Value) -> Result<Event, DecodeError> {
    decode(body.to_string().as_bytes(), &context(origin))
}

fn accepted(origin: Origin, body: &Value) -> Event {
    read(origin, body).unwrap_or_else(|error| panic!("{body}: {error}"))
}

/// Path and code of every complaint.
fn complaints(origin: Origin, body: &Value) -> Vec<(String, Code)> {
    match read(origin, body) {
        Err(DecodeError::Fields(errors)) => errors.into_iter().map(|e| (e.path, e.code)).collect(),
        other => panic!("{body}: {other:?}"),
    }
}

/// `base` with one member set.
fn with(base: &Value, key: &str, value: Value) -> Value {
    let mut body = base.clone();
    body[key] = value;
    body
}

/// Each field alone is refused with exactly its own path and code.
fn refuses_each(origin: Origin, base: &Value, table: &[(&str, Value, Code)]) {
    accepted(origin, base);
    for (key, value, code) in table {
        let body = with(base, key, value.clone());
        assert_eq!(
            complaints(origin, &body),
            [((*key).to_owned(), *code)],
            "{body}"
        );
    }
}

/// The same fields, all wrong at once, are all complained about.
fn refuses_all(origin: Origin, base: &Value, table: &[(&str, Value, Code)]) {
    let mut body = base.clone();
    for (key, value, _) in table {
        body[*key] = value.clone();
    }
    let sorted = |mut list: Vec<(String, Code)>| {
        list.sort_by(|a, b| a.0.cmp(&b.0));
        list
    };
    let want = table
        .iter()
        .map(|(key, _, code)| ((*key).to_owned(), *code));
    assert_eq!(sorted(complaints(origin, &body)), sorted(want.collect()));
}

/// Every text field of our own form.
const TEXTS: [&str; 7] = [
    "user_id",
    "session_id",
    "organization_id",
    "device_id",
    "correlation_id",
    "aggregate_type",
    "aggregate_id",
];

/// Every JSON column.
const OBJECTS: [&str; 4] = ["data", "metadata", "context", "properties"];

fn object(text: &str) -> Json {
    Json::from_stored(text.to_owned())
}

fn wrong_types(
    objects: &[&'static str],
    times: &[&'static str],
) -> Vec<(&'static str, Value, Code)> {
    let mut table = Vec::new();
    for key in TEXTS {
        table.push((key, json!(7), Code::WrongType));
    }
    for key in objects {
        table.push((*key, json!(["not", "an object"]), Code::WrongType));
    }
    for key in times {
        table.push((*key, json!(1_700_000_000), Code::WrongType));
    }
    table.push(("version", json!({}), Code::WrongType));
    table.push(("schema_version", json!(true), Code::WrongType));
    table.push(("expected_version", json!("7"), Code::WrongType));
    table
}
