//! The bridge's two routes.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Deserialize;
use service::Problem;

use super::Routes;
use super::dry_run;

/// What a hand-made event may be, in bytes; the decoder has a limit of its own.
const MAX_BODY: usize = 8 * 1024 * 1024;

/// Adds the routes.
pub(super) fn routes(app: &mut web::ServiceConfig, routes: &Routes) {
    app.service(
        service::http::get("/api/v1/bridge/health", health)
            .app_data(web::Data::new(routes.clone())),
    );
    app.service(
        service::http::post("/api/v1/bridge/test", test)
            .app_data(web::PayloadConfig::new(MAX_BODY))
            .app_data(web::Data::new(routes.clone())),
    );
}

async fn health(routes: web::Data<Routes>) -> HttpResponse {
    HttpResponse::Ok().json(routes.monitor.get_health_status())
}

#[derive(Deserialize)]
struct Parameters {
    #[serde(default)]
    publish: bool,
}

fn unread(error: &actix_web::Error) -> Problem {
    let status = error.as_response_error().status_code();
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        Problem::too_large(format!("the body has more than {MAX_BODY} bytes"))
    } else {
        Problem::bad_request(format!("the body could not be read: {error}"))
    }
}

async fn test(
    routes: web::Data<Routes>,
    parameters: Result<web::Query<Parameters>, actix_web::Error>,
    body: Result<web::Bytes, actix_web::Error>,
) -> HttpResponse {
    let Ok(parameters) = parameters else {
        let detail = "publish must be true or false";
        return Problem::bad_request(detail).respond();
    };
    let body = match body {
        Ok(body) => body,
        Err(error) => return unread(&error).respond(),
    };
    let verdict = dry_run::run(
        &routes.evaluator,
        Some(&routes.monitor.publisher),
        &routes.topic,
        &body,
        parameters.publish,
    )
    .await;
    HttpResponse::Ok().json(verdict.stages)
}
