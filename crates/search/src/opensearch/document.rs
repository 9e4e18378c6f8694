//! An event as a document.

use serde_json::{Value, json};
use store::search::Indexed;
use time::OffsetDateTime;
use uuid::Uuid;

/// Settings and fields of the index. Words come ready: they stand apart by spaces. The source is not kept, as
/// what is found is read from PostgreSQL.
pub(super) fn mappings() -> Value {
    let text = json!({"type": "text", "analyzer": "whitespace", "norms": false});
    let keyword = json!({"type": "keyword"});
    json!({
        "mappings": {
            "dynamic": "strict",
            "_source": {"enabled": false},
            "properties": {
                "tenant": keyword,
                "timestamp": {"type": "long"},
                "event_id": keyword,
                "event_type": keyword,
                "event_source": keyword,
                "user_id": keyword,
                "words": text,
                "fields": text,
                "exact": keyword,
                "numbers": {"type": "nested", "properties": {"path": keyword, "value": {"type": "double"}}},
                "generation": {"type": "long"},
            },
        },
    })
}

/// The id of a document: two tenants may have an event of the same id.
pub(super) fn id(event_id: Uuid, tenant: &str) -> String {
    format!("{event_id}/{tenant}")
}

/// The action and the document of `_bulk`.
pub(super) fn written(of: &Indexed<'_>, generation: i64) -> (Value, Value) {
    let event = &of.stored.event;
    let action = json!({"index": {
        "_id": id(event.event_id, event.tenant_id.as_str()), "version": generation, "version_type": "external_gte",
    }});
    let numbers = of.document.numbers.iter();
    let numbers: Vec<Value> = numbers
        .map(|(path, value)| json!({"path": path, "value": value}))
        .collect();
    let document = json!({
        "tenant": event.tenant_id.as_str(),
        "timestamp": micros(event.timestamp),
        "event_id": event.event_id,
        "event_type": event.event_type,
        "event_source": event.event_source.as_str(),
        "user_id": event.user_id,
        "words": of.document.words,
        "fields": of.document.fields,
        "exact": of.document.exact,
        "numbers": numbers,
        "generation": generation,
    });
    (action, document)
}

/// A time as the index has it.
pub(super) fn micros(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
}
