//! Routes requests to the services by the rules of `deploy/edge/edge.conf.template`, so that clients
//! see no difference between the shapes.

use actix_web::guard::{self, GuardContext};
use actix_web::web::{self, ServiceConfig};

/// Adds all routes: the common ones first, then those of ingest behind its guard, then the others.
pub(super) fn routes(
    app: &mut ServiceConfig,
    ingest: &impl Fn(&mut ServiceConfig),
    bridge: &impl Fn(&mut ServiceConfig),
    query: &impl Fn(&mut ServiceConfig),
) {
    app.service(
        web::scope("")
            .guard(guard::fn_guard(is_for_ingest))
            .configure(ingest),
    );
    app.configure(bridge);
    app.configure(query);
}

fn is_for_ingest(request: &GuardContext<'_>) -> bool {
    is_ingest(request.head().uri.path())
}

/// Whether ingest has the route.
fn is_ingest(path: &str) -> bool {
    let whole = path.strip_suffix('/').unwrap_or(path);
    let below = |directory: &str| {
        path.strip_prefix(directory)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match whole {
        "/api/events"
        | "/api/v1/events"
        | "/api/events/create"
        | "/api/v1/events/create"
        | "/api/events/batch"
        | "/api/v1/events/batch"
        | "/tidegate.js" => true,
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
        for (path, to_ingest) in [
            ("/api/events", true),
            ("/api/v1/events/", true),
            ("/api/v1/events", true),
            ("/api/events/create", true),
            ("/api/v1/events/batch", true),
            ("/api/v1/events/query", false),
            ("/api/v1/events/batches", false),
            ("/api/frontend/health", true),
            ("/api/frontend", false),
            ("/api/v1/events/frontend", true),
            ("/api/v1/events/frontend/batch", true),
            ("/api/v1/events/frontends", false),
            ("/api/v1/sse/users/u", false),
            ("/webhooks/segment", true),
            ("/tidegate.js", true),
            ("/v1/track", true),
            ("/health", false),
        ] {
            assert_eq!(is_ingest(path), to_ingest, "{path}");
        }
    }
}
