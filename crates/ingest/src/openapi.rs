//! The description of this service's API: every handler is described where it stands, its aliases are
//! added here from the paths that the router uses.

use utoipa::OpenApi;
use utoipa::openapi::path::PathItem;
use utoipa::openapi::{Content, Ref, RefOr};

use crate::http::route::{FRONTEND_HEALTH, Route};
use crate::http::schema::{SegmentCall, SegmentTrack};
use crate::http::{batch, events, frontend, segment};
use crate::segment::call;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tidegate ingest",
        version = "1.0.0",
        description = "Takes events over HTTP and answers once the event log has them.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        events::receive,
        events::create,
        batch::create,
        frontend::collect,
        frontend::collect_many,
        frontend::health,
        segment::take,
        segment::webhook
    ),
    components(schemas(SegmentCall, SegmentTrack))
)]
struct Api;

fn all_paths() -> impl Iterator<Item = &'static [&'static str]> {
    let events = Route::ALL.into_iter().map(Route::paths);
    events.chain([&FRONTEND_HEALTH[..]])
}

/// The whole description.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = Api::openapi();
    for paths in all_paths() {
        let (path, aliases) = (paths[0], &paths[1..]);
        let Some(item) = document.paths.paths.get(path).cloned() else {
            continue;
        };
        for alias in aliases {
            let mut item: PathItem = item.clone();
            for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
                if let (Some(RefOr::T(body)), Some(call)) =
                    (&mut operation.request_body, call(alias))
                {
                    let schema = match call {
                        "track" => "SegmentTrack",
                        _ => "SegmentCall",
                    };
                    let content = Content::new(Some(Ref::from_schema_name(schema)));
                    body.content
                        .insert("application/json".to_owned(), content.into());
                }
                if let Some(id) = &mut operation.operation_id {
                    id.push_str(&suffix(alias));
                }
            }
            document.paths.paths.insert((*alias).to_owned(), item);
        }
    }
    document
}

/// What tells the operation under an alias apart.
fn suffix(alias: &str) -> String {
    match alias.strip_prefix("/v1/") {
        Some(call) => format!("_{call}"),
        None => "_v1".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_and_alias_is_described_under_an_id_of_its_own() {
        let document = serde_json::to_value(document()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let mut routed: Vec<_> = all_paths().flatten().copied().collect();
        assert_eq!(routed.len(), 27);
        routed.sort_unstable();
        let mut described: Vec<_> = paths.keys().map(String::as_str).collect();
        described.sort_unstable();
        assert_eq!(described, routed);
        let mut ids: Vec<_> = paths
            .values()
            .flat_map(|item| item.as_object().unwrap().values())
            .map(|operation| operation["operationId"].as_str().unwrap())
            .collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), routed.len());
        for (path, item) in paths {
            let Some(operation) = item.get("post") else {
                continue;
            };
            assert_eq!(operation["requestBody"]["required"], true, "{path}");
        }
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for name in ["AnyJson", "EventRequest", "EventBatch", "FrontendRequest"] {
            assert!(schemas.contains_key(name), "{name}");
        }
    }
}
