//! The routes: one table for the router and the description of the API.

use actix_web::{Resource, web};
use service::http::{and, get, post};

use super::{dead_letter_changes, dead_letters, events, receipts, stats, streams, users};
use super::{projection_changes, projections};

/// Everything is served under both (C01).
pub const PREFIXES: [&str; 2] = ["/api/v1/events", "/api/events"];

/// A route below each prefix.
pub struct Route {
    /// Its path, `/…`.
    pub path: &'static str,
    /// The path it is described under; an alias has that of the other.
    pub described_as: &'static str,
    /// Its handler.
    pub(super) resource: fn(&str) -> Resource,
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
    route("/stream/{stream_id}", |path| get(path, streams::read)),
    alias("/streams/{stream_id}", "/stream/{stream_id}", |path| {
        get(path, streams::read)
    }),
    route("/projections", |path| {
        let create = web::post().to(projection_changes::create);
        and(get(path, projections::list), create, "GET, HEAD, POST")
    }),
    route("/projections/{projection}", |path| {
        let replace = web::put().to(projection_changes::replace);
        let delete = web::delete().to(projection_changes::delete);
        let resource = get(path, projections::of_type).route(replace);
        and(resource, delete, "GET, HEAD, PUT, DELETE")
    }),
    route("/projections/{projection}/rebuild", |path| {
        let entity = web::get().to(projections::read);
        and(post(path, projection_changes::rebuild), entity, "GET, POST")
    }),
    route("/projections/{entity_type}/{entity_id}", |path| {
        get(path, projections::read)
    }),
    route("/dead-letters", |path| get(path, dead_letters::list)),
    alias("/dead_letters", "/dead-letters", |path| {
        get(path, dead_letters::list)
    }),
    route("/dead-letters/counts", |path| {
        get(path, dead_letters::counts)
    }),
    route("/dead-letters/redrive", |path| {
        post(path, dead_letter_changes::redrive)
    }),
    route("/dead-letters/discard", |path| {
        post(path, dead_letter_changes::discard)
    }),
    route("/dead-letters/{id}", |path| get(path, dead_letters::by_id)),
    alias("/dead_letters/{id}", "/dead-letters/{id}", |path| {
        get(path, dead_letters::by_id)
    }),
    route("/user/{user_id}", |path| get(path, users::events)),
    alias("/users/{user_id}", "/user/{user_id}", |path| {
        get(path, users::events)
    }),
    route("/{event_id}/receipt", |path| get(path, receipts::read)),
    route("/{event_id}", |path| get(path, events::by_id)),
];
