//! Routes requests to the services by the rules of `deploy/edge/edge.conf.template`, so that clients
//! see no difference between the shapes.

use actix_web::HttpResponse;
use actix_web::guard::{self, GuardContext};
use actix_web::http::Method;
use actix_web::web::{self, ServiceConfig};

use super::openapi;

/// Adds all routes: the common ones first, then those of ingest behind its guard, then the others.
pub(super) fn routes(
    app: &mut ServiceConfig,
    ingest: &impl Fn(&mut ServiceConfig),
    bridge: &impl Fn(&mut ServiceConfig),
    query: &impl Fn(&mut ServiceConfig),
) {
    app.service(service::http::get("/", index));
    app.service(service::http::get("/openapi.json", openapi::serve));
    app.service(
        web::scope("")
            .guard(guard::fn_guard(is_for_ingest))
            .configure(ingest),
    );
    app.configure(bridge);
    app.configure(query);
}

/// GET /: the addresses to begin with.
async fn index() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({
        "service": "tidegate",
        "version": service::health::VERSION,
        "openapi": "/openapi.json",
        "health": "/health",
        "ready": "/ready",
        "metrics": "/metrics",
    }))
}

fn is_for_ingest(request: &GuardContext<'_>) -> bool {
    let head = request.head();
    is_ingest(&head.method, head.uri.path())
}

/// Whether ingest has the route; GET on the two paths for single events is a query.
fn is_ingest(method: &Method, path: &str) -> bool {
    let whole = path.strip_suffix('/').unwrap_or(path);
    let below = |directory: &str| {
        path.strip_prefix(directory)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match whole {
        "/api/events" | "/api/v1/events" => *method == Method::POST || *method == Method::OPTIONS,
        "/api/events/create" | "/api/v1/events/create" => true,
        "/api/events/batch" | "/api/v1/events/batch" => true,
        "/tidegate.js" => true,
        _ => {
            path.starts_with("/api/frontend/")
                || path.starts_with("/webhooks/")
                || path.starts_with("/v1/")
                || below("/api/v1/events/frontend")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_go_where_the_edge_sends_them() {
        for (method, path, to_ingest) in [
            (Method::POST, "/api/events", true),
            (Method::POST, "/api/v1/events/", true),
            (Method::OPTIONS, "/api/v1/events", true),
            (Method::GET, "/api/v1/events", false),
            (Method::GET, "/api/events/create", true),
            (Method::POST, "/api/v1/events/batch", true),
            (Method::POST, "/api/v1/events/query", false),
            (Method::GET, "/api/v1/events/batches", false),
            (Method::GET, "/api/frontend/health", true),
            (Method::GET, "/api/frontend", false),
            (Method::POST, "/api/v1/events/frontend", true),
            (Method::POST, "/api/v1/events/frontend/batch", true),
            (Method::GET, "/api/v1/events/frontends", false),
            (Method::GET, "/api/v1/sse/users/u", false),
            (Method::POST, "/webhooks/segment", true),
            (Method::GET, "/tidegate.js", true),
            (Method::POST, "/v1/track", true),
            (Method::GET, "/health", false),
        ] {
            assert_eq!(is_ingest(&method, path), to_ingest, "{method} {path}");
        }
    }
}
