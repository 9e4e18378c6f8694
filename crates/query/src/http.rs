//! The HTTP side: the routes and what surrounds them.

pub mod anomalies;
pub mod audits;
mod body_schema;
pub mod console;
pub mod counts;
pub mod dead_letter_changes;
pub mod dead_letter_schema;
pub mod dead_letters;
pub mod erasures;
pub mod events;
pub mod faults;
pub mod keys;
pub mod listing;
mod members;
pub mod openapi;
mod page;
mod parameter_schema;
pub mod processors;
pub mod projection_changes;
pub mod projections;
pub mod receipts;
pub mod replay_preview;
pub mod replay_request;
pub mod replays;
pub mod reports;
mod request;
pub mod routes;
mod schema_parts;
pub mod search;
pub mod sse;
pub mod stats;
pub mod streams;
pub mod subscriptions;
pub mod tenant_list;
pub mod tenants;
pub mod users;

use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::{Compress, Next, from_fn};
use actix_web::web;
use service::auth::Access;
use service::http::get;

use crate::state::State;
use routes::{OTHER_ROUTES, PREFIXES, ROUTES, Route};

/// Adds the routes to a worker's application.
pub fn routes(app: &mut web::ServiceConfig, state: &State) {
    app.app_data(web::Data::new(state.clone()));
    let cors = || service::cors::layer(state.cors_origins.as_deref());
    // Not compressed: a compressor would hold messages back.
    app.service(
        get(sse::PATH, Access::OwnOrTicket, sse::listen)
            .wrap(from_fn(measure))
            .wrap(cors()),
    );
    app.service(
        get(console::stream::PATH, Access::Read, console::stream::stream)
            .wrap(from_fn(measure))
            .wrap(cors()),
    );
    // The root is this service's in both shapes.
    for path in ["/", "/console"] {
        app.service(get(path, Access::Public, console::to_page));
    }
    app.service(get(console::PATH, Access::Public, console::page).wrap(Compress::default()));
    app.service(get("/console/{file}", Access::Public, console::part).wrap(Compress::default()));
    let events = PREFIXES.iter().flat_map(|prefix| {
        let path = move |route: &'static Route| (format!("{prefix}{}", route.path), route);
        ROUTES.iter().map(path)
    });
    let others = OTHER_ROUTES
        .iter()
        .map(|route| (route.path.to_owned(), route));
    for (path, route) in events.chain(others) {
        app.service(
            (route.resource)(&path)
                .wrap(Compress::default())
                .wrap(from_fn(measure))
                .wrap(cors()),
        );
    }
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
            known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE") => known,
            _ => "other",
        };
        state
            .metrics
            .reads
            .http_seconds
            .with_label_values(&[route.as_str(), method, response.status().as_str()])
            .observe(started.elapsed().as_secs_f64());
    }
    Ok(response)
}
