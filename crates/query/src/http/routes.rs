//! The routes: one table for the router and the description of the API.

use actix_web::Resource;
use actix_web::http::Method;
use service::auth::Access;
use service::http::{and, get, on, post};

use super::anomalies::{alerts, rules, trial};
use super::sse::tickets;
use super::subscriptions::{changes, deliveries, reads, trials};
use super::{
    audits, counts, dead_letter_changes, dead_letters, erasures, events, keys, processors,
    receipts, stats, streams, tenant_list, users,
};
use super::{projection_changes, projections, replays, reports, search, tenants};

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
    route("/query", |path| post(path, Access::Own, events::query)),
    route("/stats", |path| get(path, Access::Read, stats::statistics)),
    alias("/statistics", "/stats", |path| {
        get(path, Access::Read, stats::statistics)
    }),
    route("/counts", |path| get(path, Access::Read, counts::counts)),
    route("/search", |path| get(path, Access::Own, search::search)),
    route("/search/indexes", |path| {
        get(path, Access::Operator, search::indexes)
    }),
    route("/search/reindex", |path| {
        post(path, Access::Operator, search::reindex)
    }),
    route("/recent", |path| get(path, Access::Own, events::recent)),
    route("/history", |path| get(path, Access::Own, events::history)),
    route("/unprocessed", |path| {
        get(path, Access::Own, events::unprocessed)
    }),
    route("/stream/{stream_id}", |path| {
        get(path, Access::Own, streams::read)
    }),
    alias("/streams/{stream_id}", "/stream/{stream_id}", |path| {
        get(path, Access::Own, streams::read)
    }),
    route("/projections", |path| {
        let create = on(
            Method::POST,
            path,
            Access::Admin,
            projection_changes::create,
        );
        let list = get(path, Access::Read, projections::list);
        and(list, [create], "GET, HEAD, POST")
    }),
    route("/projections/{projection}", |path| {
        let replace = on(
            Method::PUT,
            path,
            Access::Admin,
            projection_changes::replace,
        );
        let delete = on(
            Method::DELETE,
            path,
            Access::Admin,
            projection_changes::delete,
        );
        let read = get(path, Access::Read, projections::of_type);
        and(read, [replace, delete], "GET, HEAD, PUT, DELETE")
    }),
    route("/projections/{projection}/rebuild", |path| {
        let entity = on(Method::GET, path, Access::Read, projections::read_rebuild);
        let rebuild = post(path, Access::Replay, projection_changes::rebuild);
        and(rebuild, [entity], "GET, POST")
    }),
    route("/projections/{entity_type}/{entity_id}", |path| {
        get(path, Access::Read, projections::read)
    }),
    route("/dead-letters", |path| {
        get(path, Access::Admin, dead_letters::list)
    }),
    route("/processors", |path| {
        let create = on(Method::POST, path, Access::Admin, processors::create);
        let list = get(path, Access::Admin, processors::list);
        and(list, [create], "GET, HEAD, POST")
    }),
    route("/processors/{processor_id}", |path| {
        let change = on(Method::PUT, path, Access::Admin, processors::change);
        let delete = on(Method::DELETE, path, Access::Admin, processors::delete);
        let read = get(path, Access::Admin, processors::read);
        and(read, [change, delete], "GET, HEAD, PUT, DELETE")
    }),
    route("/processors/{processor_id}/toggle", |path| {
        let toggle = on(Method::PUT, path, Access::Admin, processors::toggle);
        and(actix_web::web::resource(path.to_owned()), [toggle], "PUT")
    }),
    route("/replay", |path| {
        post(path, Access::Replay, replays::create)
    }),
    route("/replays", |path| get(path, Access::Replay, replays::list)),
    route("/replays/{replay_id}", |path| {
        get(path, Access::Replay, replays::read_one)
    }),
    route("/replays/{replay_id}/{verb}", |path| {
        post(path, Access::Replay, replays::change)
    }),
    alias("/dead_letters", "/dead-letters", |path| {
        get(path, Access::Admin, dead_letters::list)
    }),
    route("/dead-letters/counts", |path| {
        get(path, Access::Admin, dead_letters::counts)
    }),
    route("/dead-letters/redrive", |path| {
        post(path, Access::Admin, dead_letter_changes::redrive)
    }),
    route("/dead-letters/discard", |path| {
        post(path, Access::Admin, dead_letter_changes::discard)
    }),
    route("/dead-letters/{id}", |path| {
        get(path, Access::Admin, dead_letters::by_id)
    }),
    alias("/dead_letters/{id}", "/dead-letters/{id}", |path| {
        get(path, Access::Admin, dead_letters::by_id)
    }),
    route("/subscriptions", |path| {
        let create = on(Method::POST, path, Access::Admin, changes::create);
        let list = get(path, Access::Admin, reads::list);
        and(list, [create], "GET, HEAD, POST")
    }),
    route("/subscriptions/dry-run", |path| {
        post(path, Access::Admin, trials::dry_run)
    }),
    route("/subscriptions/{subscription_id}", |path| {
        let change = on(Method::PATCH, path, Access::Admin, changes::change);
        let delete = on(Method::DELETE, path, Access::Admin, changes::delete);
        let read = get(path, Access::Admin, reads::read);
        and(read, [change, delete], "GET, HEAD, PATCH, DELETE")
    }),
    route("/subscriptions/{subscription_id}/enable", |path| {
        post(path, Access::Admin, changes::enable)
    }),
    route("/subscriptions/{subscription_id}/disable", |path| {
        post(path, Access::Admin, changes::disable)
    }),
    route("/subscriptions/{subscription_id}/rotate", |path| {
        post(path, Access::Admin, changes::rotate)
    }),
    route("/subscriptions/{subscription_id}/test", |path| {
        post(path, Access::Admin, trials::test)
    }),
    route("/subscriptions/{subscription_id}/deliveries", |path| {
        get(path, Access::Admin, deliveries::of_subscription)
    }),
    route(
        "/subscriptions/{subscription_id}/deliveries/{event_id}/resend",
        |path| post(path, Access::Admin, deliveries::resend_one),
    ),
    route("/subscriptions/{subscription_id}/resend", |path| {
        post(path, Access::Admin, deliveries::resend)
    }),
    route("/{event_id}/deliveries", |path| {
        get(path, Access::Admin, deliveries::of_event)
    }),
    route("/user/{user_id}", |path| {
        get(path, Access::Own, users::events)
    }),
    alias("/users/{user_id}", "/user/{user_id}", |path| {
        get(path, Access::Own, users::events)
    }),
    route("/{event_id}/receipt", |path| {
        get(path, Access::Own, receipts::read)
    }),
    route("/{event_id}", |path| get(path, Access::Own, events::by_id)),
];

/// The routes that have one address.
pub const OTHER_ROUTES: &[Route] = &[
    route(tickets::PATH, |path| {
        post(path, Access::Own, tickets::create)
    }),
    route("/api/v1/anomalies", |path| {
        get(path, Access::Read, alerts::list)
    }),
    route("/api/v1/anomalies/rules", |path| {
        let create = on(Method::POST, path, Access::Admin, rules::create);
        let list = get(path, Access::Read, rules::list);
        and(list, [create], "GET, HEAD, POST")
    }),
    route("/api/v1/anomalies/rules/trial", |path| {
        post(path, Access::Admin, trial::run)
    }),
    route("/api/v1/anomalies/rules/{name}", |path| {
        let replace = on(Method::PUT, path, Access::Admin, rules::replace);
        let delete = on(Method::DELETE, path, Access::Admin, rules::delete);
        let read = get(path, Access::Read, rules::read);
        and(read, [replace, delete], "GET, HEAD, PUT, DELETE")
    }),
    route("/api/v1/reports/instrumentation", |path| {
        get(path, Access::Read, reports::instrumentation)
    }),
    route("/api/v1/admin/audits", |path| {
        let create = on(Method::POST, path, Access::Operator, audits::create);
        let list = get(path, Access::Operator, audits::list);
        and(list, [create], "GET, HEAD, POST")
    }),
    route("/api/v1/admin/audits/{id}", |path| {
        get(path, Access::Operator, audits::read)
    }),
    route("/api/v1/admin/tenants", |path| {
        get(path, Access::Operator, tenant_list::list)
    }),
    route("/api/v1/admin/keys", |path| {
        let create = on(Method::POST, path, Access::Admin, keys::create);
        let list = get(path, Access::Admin, keys::list);
        and(list, [create], "GET, HEAD, POST")
    }),
    route("/api/v1/admin/tenants/{tenant}/limits", |path| {
        let set = on(Method::PUT, path, Access::Operator, tenants::set_limits);
        let read = get(path, Access::Admin, tenants::limits);
        and(read, [set], "GET, HEAD, PUT")
    }),
    route("/api/v1/admin/erasures", |path| {
        let create = on(Method::POST, path, Access::Admin, erasures::create);
        let list = get(path, Access::Admin, erasures::list);
        and(list, [create], "GET, HEAD, POST")
    }),
    route("/api/v1/admin/erasures/{id}", |path| {
        get(path, Access::Admin, erasures::read)
    }),
    route("/api/v1/admin/keys/{id}/rotate", |path| {
        post(path, Access::Admin, keys::rotate)
    }),
    route("/api/v1/admin/keys/{id}/revoke", |path| {
        post(path, Access::Admin, keys::revoke)
    }),
];
