//! One event, and listings of events.

use actix_web::http::header::{CACHE_CONTROL, CONTENT_ENCODING, ETAG, IF_NONE_MATCH};
use actix_web::{HttpRequest, HttpResponse, web};
use domain::timestamp;
use serde::{Deserialize, Serialize};
use service::answer::Answer;
use service::{EventResponse, Problem};
use store::event_reads::{self, Filter, StatusFilter, Window};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::listing::{self, EventList, Page};
use super::page::page;
use super::request::{body, only_about, own, tenant};
use crate::cache::Key;
use crate::parameters::{MAX_LIMIT, Parameters};
use crate::state::State;

/// What `POST /query` takes (S4-23); everything is optional, conditions hold at once, times are
/// inclusive, unknown fields are ignored.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(
    dead_code,
    reason = "describes the body; Parameters reads it, naming every wrong field"
)]
pub struct EventQuery {
    user_id: Option<String>,
    event_type: Option<String>,
    /// frontend, backend, system, iot_device, external_api or scheduled.
    event_source: Option<String>,
    event_category: Option<String>,
    /// pending, processing, processed, failed or archived.
    status: Option<String>,
    /// Also `started_at`. A time without zone is UTC.
    #[schema(format = DateTime)]
    start_time: Option<String>,
    /// Also `ended_at`.
    #[schema(format = DateTime)]
    end_time: Option<String>,
    /// Stored at this time or later.
    #[schema(format = DateTime)]
    created_start: Option<String>,
    /// Stored at this time or earlier.
    #[schema(format = DateTime)]
    created_end: Option<String>,
    session_id: Option<String>,
    organization_id: Option<String>,
    device_id: Option<String>,
    correlation_id: Option<String>,
    aggregate_type: Option<String>,
    aggregate_id: Option<String>,
    /// An object that the event's data must contain.
    #[schema(value_type = Option<Object>)]
    data: Option<serde_json::Value>,
    /// An object that the event's metadata must contain.
    #[schema(value_type = Option<Object>)]
    metadata: Option<serde_json::Value>,
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    #[schema(maximum = 100_000, default = 0)]
    offset: Option<u32>,
    /// The `next_cursor` of the page before, with the same filter.
    cursor: Option<String>,
    /// false leaves `total` null and spares the counting.
    #[schema(default = true)]
    count: Option<bool>,
}

/// An event by its id: a UUID, or the id its client gave it, `{source}/{id}` for a CloudEvent (C10).
/// Where that stands for several events, a backend's comes before a frontend's.
///
/// # Errors
/// 404 if there is none, 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/events/{event_id}", tag = "events",
    params(("event_id" = String, Path, description = "UUID, or the client's own id (`{source}/{id}` for a CloudEvent)")),
    responses((status = 200, body = EventResponse), (status = 304, description = "Not modified"),
        (status = 404, description = "No such event"), (status = 503, description = "Database down")))]
pub async fn by_id(
    request: HttpRequest,
    state: web::Data<State>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let tenant = tenant(&request);
    let ids = domain::id::candidates(&tenant, &id);
    let found = state
        .read("event", async |client| {
            event_reads::find_any(client, &tenant, &ids).await
        })
        .await?;
    let may = |user: Option<&str>| only_about(&request, user).is_ok();
    let Some(found) = found.filter(|found| may(found.event.user_id.as_deref())) else {
        return Err(Problem::not_found(format!("Event not found: {id}")));
    };
    // The content never changes; with the status `updated_at` does.
    let updated = found.updated_at.unix_timestamp_nanos() / 1_000;
    let etag = format!(
        "\"{}-{updated:x}-{}\"",
        found.event.event_id.simple(),
        found.status
    );
    let known = request
        .headers()
        .get_all(IF_NONE_MATCH)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|known| known.trim().trim_start_matches("W/") == etag || known.trim() == "*");
    let mut answer = if known {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    answer
        .insert_header((ETAG, etag))
        .insert_header((CACHE_CONTROL, "private, no-cache"));
    if known {
        return Ok(answer.finish());
    }
    // A strong tag names these very bytes, so they are not compressed on the way.
    answer.insert_header((CONTENT_ENCODING, "identity"));
    let body = serde_json::to_vec(&listing::response(&found));
    let body = body.map_err(|error| Problem::internal(&error))?;
    let held = state.hold(body.len())?;
    answer.content_type("application/json");
    Ok(answer.body(Answer::new(body, held)))
}

/// Events under a filter (S4-23 to S4-26).
///
/// # Errors
/// 400 and 422 for a wrong question, 503 while the database does not answer.
#[utoipa::path(post, path = "/api/v1/events/query", tag = "events", request_body = EventQuery,
    responses((status = 200, body = EventList), (status = 400, description = "No JSON, or an unknown value"),
        (status = 413, description = "Too large"), (status = 415, description = "Not JSON"),
        (status = 422, description = "A wrong type, range, date or cursor"),
        (status = 503, description = "Database down or question too wide")))]
pub async fn query(
    request: HttpRequest,
    state: web::Data<State>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body = body(&request, payload).await?;
    let mut parameters = Parameters::from_json(&body)?;
    let mut filter = parameters.filter(tenant(&request));
    own(&request, &mut filter)?;
    let list = parameters.list("query", filter, 100, true);
    parameters.finish()?;
    let page = listing::read(&state, "query", &list).await?;
    page.answer(&state, Page::list)
}

/// The most recent events (S3-26 to S3-28); takes every condition of `POST /query`.
///
/// # Errors
/// As [`query`].
#[utoipa::path(get, path = "/api/v1/events/history", tag = "events",
    params(("event_type" = Option<String>, Query), ("aggregate_id" = Option<String>, Query),
        ("limit" = Option<u32>, Query, description = "1 to 1000, default 10"),
        ("offset" = Option<u32>, Query), ("cursor" = Option<String>, Query),
        ("count" = Option<bool>, Query, description = "true counts all of them; default false")),
    responses((status = 200, body = EventList), (status = 400, description = "An unknown value"),
        (status = 422, description = "A wrong parameter"), (status = 503, description = "Database down")))]
pub async fn history(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut parameters = Parameters::from_query(request.query_string())?;
    let mut filter = parameters.filter(tenant(&request));
    own(&request, &mut filter)?;
    let list = parameters.list("history", filter, 10, false);
    parameters.finish()?;
    let page = listing::read(&state, "history", &list).await?;
    page.answer(&state, Page::list)
}

/// Events that wait, are being handled or have failed (S3-48).
#[derive(Debug, Serialize, ToSchema)]
pub struct UnprocessedList<'a> {
    /// How many there are; the same as `total`.
    pub count: Option<u64>,
    /// The page.
    #[serde(flatten)]
    pub list: EventList<'a>,
}

/// The newest events.
#[derive(Debug, Serialize, ToSchema)]
pub struct RecentEvents<'a> {
    /// The events, newest first.
    pub events: Vec<EventResponse<'a>>,
    /// The limit used.
    pub limit: u32,
    /// When they were read.
    #[serde(serialize_with = "timestamp::serialize")]
    pub calculated_at: OffsetDateTime,
}

/// The newest events of a tenant, of a type or of a user (S1-37), for many who ask again and again: read
/// once for all who ask the same within a twentieth of a second (CACHE_RECENT_MS). A user is shown the user's own.
///
/// # Errors
/// 422 for wrong parameters, 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/events/recent", tag = "events",
    params(("event_type" = Option<String>, Query), ("user_id" = Option<String>, Query),
        ("limit" = Option<u32>, Query, description = "1 to 1000, default 20")),
    responses((status = 200, body = RecentEvents), (status = 400, description = "An empty type"), (status = 403, description = "Another user's"),
        (status = 422, description = "A wrong parameter"), (status = 503, description = "Database down")))]
pub async fn recent(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut parameters = Parameters::from_query(request.query_string())?;
    let mut filter = Filter {
        tenant_id: tenant(&request),
        event_type: parameters.event_type(),
        user_id: parameters.text("user_id"),
        ..Filter::default()
    };
    let limit = parameters.integer("limit", 1, MAX_LIMIT).unwrap_or(20);
    parameters.finish()?;
    own(&request, &mut filter)?;
    let key = Key::new(
        "recent",
        &filter.tenant_id,
        &[&filter, &limit],
        state.kept.recent,
    );
    let window = Window {
        limit,
        offset: 0,
        after: None,
    };
    let load = async || {
        let now = service::clock::now();
        let found = state.read("recent", async |client| {
            let edges = state.edges(client).await?;
            let max_bytes = state.max_response_bytes;
            event_reads::list(client, &edges, &filter, &window, max_bytes).await
        });
        let (rows, _held, _) = page(&state, found.await?, limit)?;
        let recent = RecentEvents {
            events: rows.iter().map(listing::response).collect(),
            limit,
            calculated_at: now,
        };
        serde_json::value::to_raw_value(&recent).map_err(|error| Problem::internal(&error))
    };
    state.answer_kept(key, load).await
}

/// Events that are not processed yet, or never were (S3-48); takes every condition of
/// `POST /query` but `status`.
///
/// # Errors
/// As [`query`].
#[utoipa::path(get, path = "/api/v1/events/unprocessed", tag = "events",
    params(("limit" = Option<u32>, Query, description = "1 to 1000, default 100"),
        ("offset" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = UnprocessedList), (status = 422, description = "A wrong parameter"),
        (status = 503, description = "Database down")))]
pub async fn unprocessed(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut parameters = Parameters::from_query(request.query_string())?;
    let mut filter = parameters.filter(tenant(&request));
    filter.status = StatusFilter::Unprocessed;
    own(&request, &mut filter)?;
    let list = parameters.list("unprocessed", filter, 100, true);
    parameters.finish()?;
    let page = listing::read(&state, "unprocessed", &list).await?;
    page.answer(&state, |page| UnprocessedList {
        count: page.total.count,
        list: page.list(),
    })
}
