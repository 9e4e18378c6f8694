//! `/openapi.json`: the OpenAPI descriptions of all services, merged.

use actix_web::{HttpResponse, web};
use anyhow::Context as _;
use serde_json::{Map, Value, json};

/// The path of the schemas in a description.
const SCHEMAS: &str = "#/components/schemas/";

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
    let mut all = serde_json::to_value(query::openapi::document())?;
    let mut ingest = serde_json::to_value(ingest::openapi::document())?;
    tell_apart(&mut ingest, &all, "Ingest");
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

/// Adds `prefix` to the names of the schemas that the other description has too.
fn tell_apart(document: &mut Value, other: &Value, prefix: &str) {
    let Some(schemas) = document["components"]["schemas"].as_object_mut() else {
        return;
    };
    let same: Vec<String> = schemas
        .keys()
        .filter(|name| other["components"]["schemas"].get(name.as_str()).is_some())
        .cloned()
        .collect();
    for name in &same {
        if let Some(schema) = schemas.remove(name) {
            schemas.insert(format!("{prefix}{name}"), schema);
        }
    }
    rename(document, &same, prefix);
}

fn rename(value: &mut Value, names: &[String], prefix: &str) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                if key == "$ref"
                    && let Some(name) = value.as_str().and_then(|text| text.strip_prefix(SCHEMAS))
                    && names.iter().any(|known| known == name)
                {
                    *value = json!(format!("{SCHEMAS}{prefix}{name}"));
                } else {
                    rename(value, names, prefix);
                }
            }
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| rename(item, names, prefix)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        // The two answer different things under one name.
        let schemas = &all["components"]["schemas"];
        assert_ne!(schemas["EventResponse"], schemas["IngestEventResponse"]);
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
