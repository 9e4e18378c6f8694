//! The description of the API, generated from the code.

use actix_web::HttpResponse;
use service::problem::ProblemBody;
use utoipa::OpenApi;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, PathItem};
use utoipa::openapi::{Content, ContentBuilder, Ref, RefOr, ResponseBuilder};

use super::routes::{PREFIXES, ROUTES};
use super::{dead_letter_changes, dead_letters, events, receipts, sse, stats, streams, users};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tidegate query API",
        version = "1.0.0",
        description = "Reads events, statistics and dead letters, and listens to live events. Errors are application/problem+json with a `detail`."
    ),
    paths(
        events::by_id,
        events::query,
        events::history,
        events::unprocessed,
        users::events,
        stats::statistics,
        streams::read,
        receipts::read,
        dead_letters::list,
        dead_letters::by_id,
        dead_letters::counts,
        dead_letter_changes::redrive,
        dead_letter_changes::discard,
        sse::listen
    ),
    components(schemas(ProblemBody))
)]
struct Described;

/// Routes outside the prefixes, with what they answer.
pub const COMMON: [(&str, &str, &str); 5] = [
    ("/health", "application/json", "The process lives"),
    ("/api/v1/health", "application/json", "The process lives"),
    (
        "/ready",
        "application/json",
        "PostgreSQL answers and the schema is up to date; else 503",
    ),
    (
        "/metrics",
        "text/plain",
        "Metrics in the text format of Prometheus",
    ),
    ("/openapi.json", "application/json", "This description"),
];

/// The whole description: every route of the router under every prefix.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = Described::openapi();
    let described = std::mem::take(&mut document.paths.paths);
    let aliases = PREFIXES.iter().flat_map(|prefix| {
        ROUTES.iter().map(move |route| {
            let canonical = format!("{}{}", PREFIXES[0], route.described_as);
            (canonical, format!("{prefix}{}", route.path))
        })
    });
    for (canonical, path) in aliases.chain([(sse::PATH.to_owned(), sse::PATH.to_owned())]) {
        if let Some(item) = described.get(&canonical) {
            let item = completed(item.clone(), &path);
            document.paths.paths.insert(path, item);
        }
    }
    for (path, media_type, says) in COMMON {
        let response = ResponseBuilder::new()
            .description(says)
            .content(media_type, ContentBuilder::new().build());
        let operation = OperationBuilder::new()
            .tag("operation")
            .operation_id(Some(name("get", path)))
            .response("200", response);
        let item = PathItem::new(HttpMethod::Get, operation);
        document.paths.paths.insert(path.to_owned(), item);
    }
    document
}

/// The item under that path: with an operation id of its own, and every error with its body.
fn completed(mut item: PathItem, path: &str) -> PathItem {
    for (method, operation) in [("get", &mut item.get), ("post", &mut item.post)] {
        let Some(operation) = operation else { continue };
        operation.operation_id = Some(name(method, path));
        // What the doc comment says of errors stands in the responses.
        let text = operation.description.take();
        operation.description = text
            .and_then(|text| Some(text.split("# Errors").next()?.trim().to_owned()))
            .filter(|text| !text.is_empty());
        for (status, response) in &mut operation.responses.responses {
            if let RefOr::T(response) = response
                && status.starts_with(['4', '5'])
            {
                let body = Content::new(Some(Ref::from_schema_name("ProblemBody")));
                let media_type = "application/problem+json".to_owned();
                response.content.insert(media_type, body.into());
            }
        }
    }
    item
}

fn name(method: &str, path: &str) -> String {
    let words: String = path
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' {
                c
            } else {
                '_'
            }
        })
        .collect();
    format!("{method}{words}")
}

/// GET /openapi.json.
pub async fn json() -> HttpResponse {
    HttpResponse::Ok().json(document())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn router_and_description_have_the_same_paths() {
        let routed: BTreeSet<String> = PREFIXES
            .iter()
            .flat_map(|prefix| {
                ROUTES
                    .iter()
                    .map(move |route| format!("{prefix}{}", route.path))
            })
            .chain([sse::PATH.to_owned()])
            .chain(COMMON.iter().map(|(path, ..)| (*path).to_owned()))
            .collect();
        let described: BTreeSet<String> = document().paths.paths.into_keys().collect();
        assert_eq!(routed, described);
        // What is described in the code is routed.
        for path in Described::openapi().paths.paths.keys() {
            assert!(routed.contains(path), "{path} is described but not routed");
        }
    }

    #[test]
    fn operation_ids_are_unique() {
        let document = document();
        let ids: Vec<_> = document
            .paths
            .paths
            .values()
            .flat_map(|item| [&item.get, &item.post])
            .flatten()
            .map(|operation| operation.operation_id.clone().unwrap())
            .collect();
        let distinct: BTreeSet<_> = ids.iter().collect();
        assert_eq!(ids.len(), distinct.len());
    }
}
