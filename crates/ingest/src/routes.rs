//! Which handler answers which path.

use actix_web::web;
use service::auth::Access;
use service::http::{get, post};

use crate::http::route::{FRONTEND_HEALTH, Route};
use crate::http::{batch, browser_client, events, frontend, segment};
use crate::state::State;

/// Registers every route; `/health`, `/ready` and `/metrics` come from the service crate.
pub(crate) fn routes(app: &mut web::ServiceConfig, state: &web::Data<State>) {
    let mut scope = web::scope("").app_data(state.clone());
    for route in Route::ALL {
        let access = route.access();
        for &path in route.paths() {
            scope = scope.service(match route {
                Route::Events => post(path, access, events::receive),
                Route::Create => post(path, access, events::create),
                Route::Batch => post(path, access, batch::create),
                Route::Frontend => post(path, access, frontend::collect),
                Route::FrontendBatch => post(path, access, frontend::collect_many),
                Route::Segment => post(path, access, segment::take),
                Route::Rudderstack => post(path, access, segment::webhook),
            });
        }
    }
    for path in FRONTEND_HEALTH {
        scope = scope.service(get(path, Access::Public, frontend::health));
    }
    let scope = scope
        .service(get(
            browser_client::PATH,
            Access::Public,
            browser_client::serve,
        ))
        .default_service(web::to(service::problem::not_found));
    app.service(scope.wrap(service::cors::layer(state.config.cors_origins.as_deref())));
}
