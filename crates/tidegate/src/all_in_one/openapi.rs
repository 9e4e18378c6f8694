//! `/openapi.json`: the OpenAPI descriptions of all services, merged.

use actix_web::{HttpResponse, web};
use anyhow::Context as _;
use serde_json::{Map, Value, json};

/// The merged description as JSON, made once.
#[derive(Debug, Clone)]
pub(super) struct Text(web::Bytes);

impl Text {
    /// Merges the descriptions.
    ///
    /// # Errors
    /// A description is not an object: a bug.
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self(serde_json::to_vec(&document()?)?.into()))
    }
}

/// GET /openapi.json.
pub(super) async fn serve(text: web::Data<Text>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(text.0.clone())
}

fn document() -> anyhow::Result<Value> {
    let mut all = serde_json::to_value(query::http::openapi::document())?;
    let mut ingest = serde_json::to_value(ingest::openapi::document())?;
    all["info"]["title"] = json!("Tidegate");
    all["info"]["description"] = json!(
        "Takes events, keeps each exactly once, counts them, pushes them live and answers questions \
         about them. Errors are application/problem+json with a `detail`."
    );
    for (path, item) in members(&mut ingest["paths"])? {
        let known = members(&mut all["paths"])?.entry(path).or_insert(json!({}));
        // One path may belong to both services, with different methods.
        for (method, operation) in item.as_object().into_iter().flatten() {
            known[method] = operation.clone();
        }
    }
    for (name, schema) in members(&mut ingest["components"]["schemas"])? {
        all["components"]["schemas"][name] = schema.clone();
    }
    Ok(all)
}

fn members(value: &mut Value) -> anyhow::Result<&mut Map<String, Value>> {
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut().context("a description is no object")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where schemas are kept in a description.
    const SCHEMAS: &str = "#/components/schemas/";

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
    fn the_description_has_both_services_and_every_reference_resolves() {
        let all = document().unwrap();
        let paths = all["paths"].as_object().unwrap();
        assert!(paths["/api/v1/events/batch"].get("post").is_some());
        assert!(paths["/api/v1/events/query"].get("post").is_some());
        let mut found = Vec::new();
        references(&all, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let name = reference.strip_prefix(SCHEMAS).unwrap();
            assert!(
                all["components"]["schemas"].get(name).is_some(),
                "{reference}"
            );
        }
        // A name means the same to both.
        let [query, ingest] = [
            query::http::openapi::document(),
            ingest::openapi::document(),
        ]
        .map(|document| serde_json::to_value(document).unwrap()["components"]["schemas"].take());
        let shared: Vec<_> = query
            .as_object()
            .unwrap()
            .iter()
            .filter(|(name, _)| ingest.get(name.as_str()).is_some())
            .collect();
        assert!(shared.iter().any(|(name, _)| *name == "EventResponse"));
        for (name, schema) in shared {
            assert_eq!(*schema, ingest[name], "{name}");
        }
        let mut ids: Vec<&str> = paths
            .values()
            .flat_map(|item| item.as_object().unwrap().values())
            .filter_map(|operation| operation["operationId"].as_str())
            .collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }
}
