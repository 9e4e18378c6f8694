//! The one description of the API: what the services say of their routes, merged.

use serde_json::Value;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../service/openapi.json");

/// Where schemas are kept in a description.
const SCHEMAS: &str = "#/components/schemas/";

fn merged() -> String {
    let mut all = query::http::openapi::document()
        .merge_from(ingest::openapi::document())
        .merge_from(processor::bridge::admin::description())
        .merge_from(processor::status::description());
    all.info.title = "Tidegate".to_owned();
    all.info.description = Some(
        "Takes events, keeps each exactly once, counts them, pushes them live and answers questions \
         about them. Errors are application/problem+json with a `detail`.\n\nAll routes have one \
         address at the edge proxy and in the all-in-one process. Of separate services, ingest has \
         those that take events, the processor those of the bridge and the coordinator, and query all others; every one \
         has this description."
            .to_owned(),
    );
    let mut text = serde_json::to_string_pretty(&all).unwrap();
    text.push('\n');
    text
}

/// `scripts/openapi` runs this with WRITE_OPENAPI set.
#[test]
fn the_description_that_is_served_is_that_of_the_code() {
    let merged = merged();
    if std::env::var_os("WRITE_OPENAPI").is_some() {
        std::fs::write(FILE, merged).unwrap();
    } else {
        let kept = std::fs::read_to_string(FILE).unwrap();
        assert!(kept == merged, "{FILE} is stale; run scripts/openapi");
    }
}

/// Every `$ref` of a document.
fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(key, value)| match value {
            Value::String(text) if key == "$ref" => found.push(text.clone()),
            value => references(value, found),
        }),
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn it_has_all_services_and_every_reference_resolves() {
    let all: Value = serde_json::from_str(&merged()).unwrap();
    let paths = all["paths"].as_object().unwrap();
    for (path, method) in [
        ("/api/v1/events/batch", "post"),
        ("/api/v1/events/query", "post"),
        ("/api/v1/bridge/health", "get"),
        ("/api/v1/sse/users/{user_id}", "get"),
    ] {
        assert!(paths[path].get(method).is_some(), "{path}");
    }
    let mut found = Vec::new();
    references(&all, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let name = reference.strip_prefix(SCHEMAS).unwrap();
        let schema = all["components"]["schemas"].get(name);
        assert!(schema.is_some(), "{reference}");
    }
    // A name means the same to both.
    let schemas = |text: serde_json::Result<Value>| text.unwrap()["components"]["schemas"].take();
    let query = schemas(serde_json::to_value(query::http::openapi::document()));
    let ingest = schemas(serde_json::to_value(ingest::openapi::document()));
    let all_of_query = query.as_object().unwrap().iter();
    let shared: Vec<_> = all_of_query
        .filter(|(name, _)| ingest.get(name.as_str()).is_some())
        .collect();
    assert!(shared.iter().any(|(name, _)| *name == "EventResponse"));
    for (name, schema) in shared {
        assert_eq!(*schema, ingest[name], "{name}");
    }
    let operations = paths
        .values()
        .flat_map(|item| item.as_object().unwrap().values());
    let mut ids: Vec<&str> = operations
        .filter_map(|operation| operation["operationId"].as_str())
        .collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
}
