//! The log of deliveries, and delivering once more.

use actix_web::{HttpRequest, HttpResponse, web};
use domain::field::Code;
use domain::{FieldError, timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service::Problem;
use store::webhooks::{self, Lines, Logged};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::reads::{find, number};
use super::view::moment;
use crate::http::members::{members, unknown};
use crate::http::page::fresh;
use crate::http::request::{body, tenant};
use crate::parameters::{MAX_LIMIT, Parameters};
use crate::state::State;

/// An attempt to deliver.
#[derive(Debug, Serialize, ToSchema)]
pub struct Delivery {
    /// Number of the line; grows with time.
    pub id: i64,
    /// To whom.
    pub subscription_id: Uuid,
    /// What.
    pub event_id: Uuid,
    /// The event's type.
    pub event_type: String,
    /// Which attempt it was; the first is 1.
    pub attempt: i32,
    /// `delivered`, `retry` (tried again at `next_attempt_at`) or `failed`.
    #[schema(example = "delivered")]
    pub outcome: String,
    /// What the endpoint answered.
    #[schema(required = true)]
    pub status: Option<i32>,
    /// How long it took.
    pub duration_ms: i32,
    /// Why it was not delivered.
    #[schema(required = true)]
    pub error: Option<String>,
    /// The beginning of the answer.
    #[schema(required = true)]
    pub response: Option<String>,
    /// When it is tried again.
    #[serde(serialize_with = "moment")]
    #[schema(required = true)]
    pub next_attempt_at: Option<OffsetDateTime>,
    /// When it ended.
    #[serde(serialize_with = "timestamp::serialize")]
    pub at: OffsetDateTime,
}

/// Attempts, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryList {
    /// The attempts.
    pub deliveries: Vec<Delivery>,
    /// What to send as `before` for the next page; null at the end.
    #[schema(required = true)]
    pub next_before: Option<i64>,
}

/// Which deliveries are to be repeated.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the body")]
pub struct ResendRequest {
    /// All whose last attempt since then failed.
    #[schema(format = DateTime)]
    since: String,
}

/// What will be delivered once more.
#[derive(Debug, Serialize, ToSchema)]
pub struct Resent {
    /// How many events.
    pub resent: u64,
}

/// The attempts to deliver to a subscription, the newest first.
///
/// # Errors
/// 404 if there is no such subscription, 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/events/subscriptions/{subscription_id}/deliveries", tag = "subscriptions",
    params(("subscription_id" = Uuid, Path, description = "The subscription"),
        ("outcome" = Option<String>, Query, description = "delivered, retry or failed"),
        ("before" = Option<i64>, Query, description = "`next_before` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, 100 unless given")),
    responses((status = 200, body = DeliveryList), (status = 400, description = "An unknown value"),
        (status = 404, description = "No such subscription"),
        (status = 422, description = "A wrong parameter"), (status = 503, description = "Database down")))]
pub async fn of_subscription(
    request: HttpRequest,
    state: web::Data<State>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let found = find(&request, &state, &id).await?;
    let lines = Lines {
        subscription_id: Some(found.subscription_id),
        ..Lines::default()
    };
    list(&request, &state, lines).await
}

/// The attempts to deliver an event, to whomever, the newest first.
///
/// # Errors
/// 404 for what is no id, 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/events/{event_id}/deliveries", tag = "subscriptions",
    params(("event_id" = String, Path, description = "The event"),
        ("outcome" = Option<String>, Query, description = "delivered, retry or failed"),
        ("before" = Option<i64>, Query, description = "`next_before` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, 100 unless given")),
    responses((status = 200, body = DeliveryList), (status = 400, description = "An unknown value"),
        (status = 404, description = "No such event"),
        (status = 422, description = "A wrong parameter"), (status = 503, description = "Database down")))]
pub async fn of_event(
    request: HttpRequest,
    state: web::Data<State>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let lines = Lines {
        event_id: Some(event(&id)?),
        ..Lines::default()
    };
    list(&request, &state, lines).await
}

async fn list(request: &HttpRequest, state: &State, lines: Lines) -> Result<HttpResponse, Problem> {
    let tenant = tenant(request);
    let mut parameters = Parameters::from_query(request.query_string())?;
    let limit = parameters.integer("limit", 1, MAX_LIMIT).unwrap_or(100);
    let lines = Lines {
        outcome: parameters.choice("outcome", &["delivered", "retry", "failed"], |name| name),
        before: parameters.integer("before", 0, u32::MAX).map(i64::from),
        limit,
        ..lines
    };
    parameters.finish()?;
    let found = state
        .read("deliveries", async |client| {
            webhooks::attempts(client, &tenant, &lines).await
        })
        .await?;
    let full = found.len() == usize::try_from(limit).unwrap_or(usize::MAX);
    let next_before = found.last().filter(|_| full).map(|last| last.id);
    let list = DeliveryList {
        deliveries: found.into_iter().map(Delivery::from).collect(),
        next_before,
    };
    state.answer(state.hold(0)?, &list)
}

/// Delivers one event once more, whatever became of it.
///
/// # Errors
/// 404 if there is no such subscription or event, 503 while the database does not answer.
#[utoipa::path(post, path = "/api/v1/events/subscriptions/{subscription_id}/deliveries/{event_id}/resend",
    tag = "subscriptions",
    params(("subscription_id" = Uuid, Path, description = "The subscription"),
        ("event_id" = Uuid, Path, description = "The event")),
    responses((status = 202, body = Resent), (status = 404, description = "No such subscription or event"),
        (status = 503, description = "Database down")))]
pub async fn resend_one(
    request: HttpRequest,
    state: web::Data<State>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let (subscription, event_id) = path.into_inner();
    let (tenant, number, event) = (tenant(&request), number(&subscription)?, event(&event_id)?);
    let since = OffsetDateTime::UNIX_EPOCH;
    let resent = state
        .change("deliveries", async |db| {
            let client = db.client().await?;
            webhooks::resend(&client, &tenant, number, Some(event), since).await
        })
        .await?;
    if resent == 0 {
        let detail = format!("No subscription {subscription}, or no event {event_id}");
        return Err(Problem::not_found(detail));
    }
    Ok(accepted(resent))
}

/// Delivers once more all events whose last attempt failed.
///
/// # Errors
/// 404 if there is no such subscription, 422 for a wrong field, 503 while the database does not answer.
#[utoipa::path(post, path = "/api/v1/events/subscriptions/{subscription_id}/resend", tag = "subscriptions",
    params(("subscription_id" = Uuid, Path, description = "The subscription")),
    request_body = ResendRequest,
    responses((status = 202, body = Resent), (status = 400, description = "No JSON"),
        (status = 404, description = "No such subscription"),
        (status = 422, description = "A wrong field"), (status = 503, description = "Database down")))]
pub async fn resend(
    request: HttpRequest,
    state: web::Data<State>,
    id: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let found = find(&request, &state, &id).await?;
    let members = members(&body(&request, payload).await?)?;
    let mut errors = vec![];
    unknown(&members, &["since"], &mut errors);
    let since = members.get("since").and_then(Value::as_str);
    let since = since.and_then(timestamp::parse);
    if since.is_none() {
        let message = "is required: a date-time such as 2026-11-28T12:00:00Z";
        errors.push(FieldError::new("since", Code::BadFormat, message));
    }
    let (Some(since), true) = (since, errors.is_empty()) else {
        return Err(Problem::unprocessables(errors));
    };
    let tenant = tenant(&request);
    let resent = state
        .change("deliveries", async |db| {
            let client = db.client().await?;
            webhooks::resend(&client, &tenant, found.subscription_id, None, since).await
        })
        .await?;
    Ok(accepted(resent))
}

fn accepted(resent: u64) -> HttpResponse {
    let mut answer = fresh(&Resent { resent });
    *answer.status_mut() = actix_web::http::StatusCode::ACCEPTED;
    answer
}

fn event(id: &str) -> Result<Uuid, Problem> {
    id.parse()
        .map_err(|_| Problem::not_found(format!("Event not found: {id}")))
}

impl From<Logged> for Delivery {
    fn from(line: Logged) -> Self {
        Self {
            id: line.id,
            subscription_id: line.subscription_id,
            event_id: line.event_id,
            event_type: line.event_type,
            attempt: line.attempt,
            outcome: line.outcome,
            status: line.status,
            duration_ms: line.duration_ms,
            error: line.error,
            response: line.response.filter(|text| !text.is_empty()),
            next_attempt_at: line.next_attempt_at,
            at: line.at,
        }
    }
}
