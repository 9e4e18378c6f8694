//! The routes: one table for the router and the description of the API.

pub mod dead_letters;
pub mod events;
pub mod listing;
pub mod sse;
pub mod stats;
pub mod users;

use std::time::{Duration, Instant};

use actix_cors::Cors;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING};
use actix_web::middleware::{Compress, Next, from_fn};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, Resource, web};
use domain::TenantId;
use serde::Serialize;
use service::Problem;
use service::http::{get, post};

use crate::state::State;

/// Everything is served under both (C01).
pub const PREFIXES: [&str; 2] = ["/api/v1/events", "/api/events"];

/// Bytes of a request body.
const MAX_BODY: usize = 256 * 1024;
/// How long a request body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A route below each prefix.
pub struct Route {
    /// Its path, `/…`.
    pub path: &'static str,
    /// The path it is described under; an alias has that of the other.
    pub described_as: &'static str,
    resource: fn(&str) -> Resource,
}

const fn route(path: &'static str, resource: fn(&str) -> Resource) -> Route {
    alias(path, path, resource)
}

const fn alias(
    path: &'static str,
    described_as: &'static str,
    resource: fn(&str) -> Resource,
) -> Route {
    Route {
        path,
        described_as,
        resource,
    }
}

/// All routes, in the order the router tries them: those with fixed words before `/{event_id}`,
/// which would take any word (C41).
pub const ROUTES: &[Route] = &[
    route("/query", |path| post(path, events::query)),
    route("/stats", |path| get(path, stats::statistics)),
    alias("/statistics", "/stats", |path| get(path, stats::statistics)),
    route("/history", |path| get(path, events::history)),
    route("/unprocessed", |path| get(path, events::unprocessed)),
    route("/dead-letters", |path| get(path, dead_letters::list)),
    alias("/dead_letters", "/dead-letters", |path| {
        get(path, dead_letters::list)
    }),
    route("/dead-letters/{id}", |path| get(path, dead_letters::by_id)),
    alias("/dead_letters/{id}", "/dead-letters/{id}", |path| {
        get(path, dead_letters::by_id)
    }),
    route("/user/{user_id}", |path| get(path, users::events)),
    alias("/users/{user_id}", "/user/{user_id}", |path| {
        get(path, users::events)
    }),
    route("/{event_id}", |path| get(path, events::by_id)),
];

/// Adds the routes to a worker's application.
pub fn routes(app: &mut web::ServiceConfig, state: &State) {
    app.app_data(web::Data::new(state.clone()));
    app.service(
        get("/openapi.json", crate::openapi::json)
            .wrap(Compress::default())
            .wrap(from_fn(measure)),
    );
    // Not compressed: a compressor would hold messages back.
    app.service(
        get(sse::PATH, sse::listen)
            .wrap(from_fn(measure))
            .wrap(cors(state.cors_origins.as_deref())),
    );
    for prefix in PREFIXES {
        for route in ROUTES {
            app.service(
                (route.resource)(&format!("{prefix}{}", route.path))
                    .wrap(Compress::default())
                    .wrap(from_fn(measure)),
            );
        }
    }
}

/// What a page of another origin may do: listen, also with a client of its own making.
fn cors(origins: Option<&[String]>) -> Cors {
    service::cors::layer(origins)
        .allowed_methods([Method::GET, Method::HEAD, Method::OPTIONS])
        .allowed_headers([
            ACCEPT,
            AUTHORIZATION,
            CACHE_CONTROL,
            sse::LAST_EVENT_ID,
            service::request_id::HEADER,
        ])
}

async fn measure<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, actix_web::Error> {
    let started = Instant::now();
    let response = next.call(request).await?;
    let request = response.request();
    if let Some(state) = request.app_data::<web::Data<State>>() {
        let route = request.match_pattern().unwrap_or_default();
        let method = match request.method().as_str() {
            known @ ("GET" | "HEAD" | "POST") => known,
            _ => "other",
        };
        state
            .metrics
            .http_seconds
            .with_label_values(&[route.as_str(), method, response.status().as_str()])
            .observe(started.elapsed().as_secs_f64());
    }
    Ok(response)
}

/// Whose events a request is about: until there is authentication, those of the one tenant.
fn tenant(_request: &HttpRequest) -> TenantId {
    TenantId::default()
}

/// Reads the body of a question.
async fn body(request: &HttpRequest, payload: web::Payload) -> Result<web::Bytes, Problem> {
    let kind = request.content_type();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    let json = essence.is_empty()
        || essence.eq_ignore_ascii_case("text/plain")
        || essence.to_ascii_lowercase().ends_with("json");
    if !json {
        return Err(Problem::unsupported_media_type(format!(
            "Content-Type {essence} is not supported; use application/json"
        )));
    }
    if let Some(encoding) = request.headers().get(CONTENT_ENCODING)
        && encoding != "identity"
    {
        return Err(Problem::unsupported_media_type(
            "Send the question without Content-Encoding",
        ));
    }
    match tokio::time::timeout(BODY_TIMEOUT, payload.to_bytes_limited(MAX_BODY)).await {
        Err(_) => Err(Problem::timeout("The body came too slowly")),
        Ok(Err(_)) => Err(Problem::too_large(format!(
            "The body is larger than {MAX_BODY} bytes"
        ))),
        Ok(Ok(Err(error))) => Err(Problem::bad_request(format!(
            "The body could not be read: {error}"
        ))),
        Ok(Ok(Ok(bytes))) => Ok(bytes),
    }
}

/// An answer of the moment, not to be kept.
fn fresh(body: &impl Serialize) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header(("cache-control", "no-store"))
        .json(body)
}

/// A page that would be larger than an answer may be.
fn too_much(limit: u32, fits: usize, max_bytes: usize) -> Problem {
    Problem::unprocessable(
        "limit",
        domain::field::Code::OutOfRange,
        format!(
            "the first {fits} rows fill the {max_bytes} bytes an answer may hold; ask for fewer \
             than {limit}"
        ),
    )
}
