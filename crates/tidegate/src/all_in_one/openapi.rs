//! `/openapi.json`: the OpenAPI descriptions of all services, merged.

use actix_web::{HttpResponse, web};

/// The merged description as JSON, made once.
#[derive(Debug, Clone)]
pub(super) struct Text(web::Bytes);

impl Text {
    /// Merges the descriptions. A path may belong to both services, with different methods.
    ///
    /// # Errors
    /// The description cannot be written as JSON: a bug.
    pub(super) fn new() -> serde_json::Result<Self> {
        let mut all = query::http::openapi::document().merge_from(ingest::openapi::document());
        all.info.title = "Tidegate".to_owned();
        all.info.description = Some(
            "Takes events, keeps each exactly once, counts them, pushes them live and answers \
             questions about them. Errors are application/problem+json with a `detail`."
                .to_owned(),
        );
        Ok(Self(serde_json::to_vec(&all)?.into()))
    }
}

/// GET /openapi.json.
pub(super) async fn serve(text: web::Data<Text>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(text.0.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

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
        let all: Value = serde_json::from_slice(&Text::new().unwrap().0).unwrap();
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
