//! The description of the API: one for all services, at every address, and a page to browse it.
//!
//! `scripts/openapi` writes it from the code of the services, which know nothing of one another.

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, Scope, web};
use utoipa_swagger_ui::{Config, SwaggerUi};

/// The description as JSON.
pub const TEXT: &str = include_str!("../openapi.json");

/// GET /openapi.json.
pub(crate) async fn description() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(TEXT)
}

/// GET /docs.
pub(crate) async fn to_page() -> HttpResponse {
    HttpResponse::Found()
        .insert_header((LOCATION, "/docs/"))
        .finish()
}

/// GET /docs/: the page and all it consists of; it needs nothing from the internet. The scope spares
/// requests for anything else the pattern, which is slow.
pub(crate) fn page() -> Scope {
    let config = Config::from("/openapi.json").validator_url("none");
    web::scope("/docs").service(SwaggerUi::new("/{_:.*}").config(config))
}
