//! Which handler answers which path.

use actix_cors::Cors;
use actix_web::http::Method;
use actix_web::http::header::{ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use actix_web::web;
use service::http::{get, post};

use crate::http::request::{IDEMPOTENCY_KEY, TRACEPARENT};
use crate::http::route::{FRONTEND_HEALTH, OPENAPI, Route};
use crate::http::wait::PREFER;
use crate::http::{batch, browser_client, events, frontend, segment};
use crate::openapi;
use crate::state::State;

const ANONYMOUS_ID: HeaderName = HeaderName::from_static("anonymousid");

/// Registers every route; `/health`, `/ready` and `/metrics` come from the service crate.
pub(crate) fn routes(app: &mut web::ServiceConfig, state: &web::Data<State>) {
    let mut scope = web::scope("").app_data(state.clone());
    for route in Route::ALL {
        for &path in route.paths() {
            scope = scope.service(match route {
                Route::Events => post(path, events::receive),
                Route::Create => post(path, events::create),
                Route::Batch => post(path, batch::create),
                Route::Frontend => post(path, frontend::collect),
                Route::FrontendBatch => post(path, frontend::collect_many),
                Route::Segment => post(path, segment::take),
                Route::Rudderstack => post(path, segment::webhook),
            });
        }
    }
    for path in FRONTEND_HEALTH {
        scope = scope.service(get(path, frontend::health));
    }
    let scope = scope
        .service(get(browser_client::PATH, browser_client::serve))
        .service(get(OPENAPI, openapi::serve))
        .default_service(web::to(service::problem::not_found));
    app.service(scope.wrap(cors(state.config.cors_origins.as_deref())));
}

fn cors(origins: Option<&[String]>) -> Cors {
    service::cors::layer(origins)
        .allowed_methods([Method::GET, Method::HEAD, Method::POST, Method::OPTIONS])
        .allowed_headers([
            ACCEPT,
            AUTHORIZATION,
            CONTENT_TYPE,
            CONTENT_ENCODING,
            IDEMPOTENCY_KEY,
            PREFER,
            TRACEPARENT,
            ANONYMOUS_ID,
            service::request_id::HEADER,
        ])
}
