//! Events of browsers and apps.

use actix_web::{HttpRequest, HttpResponse, web};
use domain::timestamp;
use serde::Serialize;
use service::problem::ProblemBody;
use utoipa::ToSchema;

use super::answer::{self, Collected, CollectedBatch};
use super::batch::many;
use super::events::single;
use super::route::Route;
use super::schema::{FrontendBatchRequest, FrontendRequest};
use crate::accept;
use crate::state::State;

/// POST /api/frontend/events, /api/v1/events/frontend (S0-20, S0-21, S4-52).
#[utoipa::path(
    post,
    path = "/api/frontend/events",
    tag = "frontend",
    summary = "Take one event of a browser or app",
    description = "Also as text/plain, which `navigator.sendBeacon` sends. The client's address, user agent and referring page are kept in `context.client_info`.",
    params(("Idempotency-Key" = Option<String>, Header, pattern = "^[!-~]{1,255}$", description = "As on the backend routes.")),
    request_body = FrontendRequest,
    responses(
        (status = 200, description = "Taken", body = Collected),
        (status = "default", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn collect(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> HttpResponse {
    single(
        &request,
        payload,
        &state,
        Route::Frontend,
        answer::collected,
    )
    .await
}

/// POST /api/frontend/events/batch, /api/v1/events/frontend/batch (S0-22 to S0-24, S4-53).
#[utoipa::path(
    post,
    path = "/api/frontend/events/batch",
    tag = "frontend",
    summary = "Take many events of a browser or app",
    params(
        ("partial" = Option<bool>, Query, description = "Take the good elements and list the bad ones."),
        ("Idempotency-Key" = Option<String>, Header, pattern = "^[!-~]{1,255}$", description = "As on the backend routes."),
    ),
    request_body = FrontendBatchRequest,
    responses(
        (status = 200, description = "Taken", body = CollectedBatch),
        (status = "default", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn collect_many(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> HttpResponse {
    many(
        &request,
        payload,
        &state,
        Route::FrontendBatch,
        accept::frontend_many,
        answer::collected_many,
    )
    .await
}

/// Whether events of browsers and apps can be taken (S0-19).
#[derive(Debug, Serialize, ToSchema)]
pub struct FrontendHealth {
    /// `healthy`: the process lives.
    #[schema(example = "healthy")]
    status: &'static str,
    /// `frontend-event-collection`
    #[schema(example = "frontend-event-collection")]
    service: &'static str,
    /// Whether the event log can be reached.
    kafka_connected: bool,
    /// Whether NATS can be reached; where there is none the same as `kafka_connected` (C05).
    nats_connected: bool,
    /// Now.
    #[schema(value_type = String, format = DateTime)]
    timestamp: String,
}

/// GET /api/frontend/health, /api/v1/events/frontend/health (S0-19, S4-51).
#[utoipa::path(
    get,
    path = "/api/frontend/health",
    tag = "health",
    summary = "Whether events of browsers and apps can be taken",
    responses((status = 200, description = "The process lives", body = FrontendHealth)),
)]
pub async fn health(state: web::Data<State>) -> HttpResponse {
    let connected = state.writer.connected();
    HttpResponse::Ok().json(FrontendHealth {
        status: "healthy",
        service: "frontend-event-collection",
        kafka_connected: connected,
        nats_connected: state
            .nats
            .as_ref()
            .map_or(connected, |nats| nats.connected()),
        timestamp: timestamp::format(service::clock::now()),
    })
}
