//! Making, changing and deleting subscriptions.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use domain::field::Code;
use domain::json::whole;
use domain::{FieldError, subject, timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use service::Problem;
use store::outbox::{Announce, Message};
use store::subscriptions::{self, Changed, Subscription};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;
use webhook::Secret;

use super::body::{Asked, SubscriptionRequest, secret};
use super::reads::{missing, number};
use super::view::{SubscriptionView, moment};
use crate::http::members::{members, unknown};
use crate::http::page::{fresh, fresh_as};
use crate::http::request::{body, tenant};
use crate::state::State;

/// How long an old secret holds beside the new one, in seconds, unless it is said; and at most.
const OVERLAP: u64 = 24 * 3_600;
const MAX_OVERLAP: u64 = 30 * 24 * 3_600;

/// What became of a subscription that is no more.
#[derive(Debug, Serialize, ToSchema)]
pub struct SubscriptionDeleted {
    /// `deleted`.
    #[schema(example = "deleted")]
    pub status: &'static str,
    /// Its number.
    pub subscription_id: Uuid,
}

/// Another secret for a subscription.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the body")]
pub struct RotationRequest {
    /// As when it is made; without it one is made and answered once.
    webhook_secret: Option<String>,
    /// Seconds that the old one still holds: messages are signed with both.
    #[schema(minimum = 0, maximum = 2_592_000, default = 86_400)]
    overlap_seconds: Option<u64>,
}

/// A secret was changed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Rotated {
    /// The subscription.
    pub subscription_id: Uuid,
    /// The secret that was made, this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_secret: Option<String>,
    /// Until when the old one holds.
    #[serde(serialize_with = "moment")]
    #[schema(required = true)]
    pub previous_secret_until: Option<OffsetDateTime>,
}

/// Makes a subscription (S4-43). Events that are stored from then on are sent; a secret that is made
/// here is in the answer, this once. It is announced as `event.subscription.created`.
///
/// # Errors
/// 409 if there is one of that name, 422 for a wrong field, 503 while the database does not answer.
#[utoipa::path(post, path = "/api/v1/events/subscriptions", tag = "subscriptions",
    request_body = SubscriptionRequest,
    responses((status = 201, body = SubscriptionView), (status = 400, description = "No JSON"),
        (status = 409, description = "There is one of that name, or there are too many"),
        (status = 422, description = "A wrong field"), (status = 503, description = "Database down")))]
pub async fn create(
    request: HttpRequest,
    state: web::Data<State>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let tenant = tenant(&request);
    let members = members(&body(&request, payload).await?)?;
    let asked = Asked::read(&members);
    let mut errors = asked.as_ref().err().cloned().unwrap_or_default();
    errors.extend(unreachable(&state, &members).await);
    let (Ok(asked), true) = (asked, errors.is_empty()) else {
        return Err(Problem::unprocessables(errors));
    };
    let (secret, made) = given_or_made(asked.secret)?;
    let kept = config::Secret::new(secret.expose());
    let announce = Announce {
        to: state.announces,
        as_message: announcement,
    };
    let changed = state
        .change("subscriptions", async |db| {
            let id = service::clock::fresh_id();
            subscriptions::create(db, &tenant, id, &asked.settings, &kept, announce).await
        })
        .await?;
    let subscription = outcome(changed, &asked.settings.subscriber_name)?;
    let view = SubscriptionView {
        retry_policy: None,
        webhook_secret: made,
        ..SubscriptionView::new(&subscription)
    };
    Ok(fresh_as(StatusCode::CREATED, &view))
}

/// Changes the fields that are named; null sets one to its default.
///
/// # Errors
/// 404 if there is none, else as [`create`].
#[utoipa::path(patch, path = "/api/v1/events/subscriptions/{subscription_id}", tag = "subscriptions",
    params(("subscription_id" = Uuid, Path, description = "The subscription")),
    request_body = SubscriptionRequest,
    responses((status = 200, body = SubscriptionView), (status = 400, description = "No JSON"),
        (status = 404, description = "No such subscription"), (status = 409, description = "There is one of that name"),
        (status = 422, description = "A wrong field"), (status = 503, description = "Database down")))]
pub async fn change(
    request: HttpRequest,
    state: web::Data<State>,
    id: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let members = members(&body(&request, payload).await?)?;
    let errors = unreachable(&state, &members).await.into_iter().collect();
    change_to(&request, &state, &id, members, errors).await
}

/// Has events sent again, of those stored from now on.
///
/// # Errors
/// 404 if there is none, 503 while the database does not answer.
#[utoipa::path(post, path = "/api/v1/events/subscriptions/{subscription_id}/enable", tag = "subscriptions",
    params(("subscription_id" = Uuid, Path, description = "The subscription")),
    responses((status = 200, body = SubscriptionView), (status = 404, description = "No such subscription"),
        (status = 503, description = "Database down")))]
pub async fn enable(
    request: HttpRequest,
    state: web::Data<State>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    switch(&request, &state, &id, true).await
}

/// Has no more events sent; what was still to be sent waits until it is enabled.
///
/// # Errors
/// 404 if there is none, 503 while the database does not answer.
#[utoipa::path(post, path = "/api/v1/events/subscriptions/{subscription_id}/disable", tag = "subscriptions",
    params(("subscription_id" = Uuid, Path, description = "The subscription")),
    responses((status = 200, body = SubscriptionView), (status = 404, description = "No such subscription"),
        (status = 503, description = "Database down")))]
pub async fn disable(
    request: HttpRequest,
    state: web::Data<State>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    switch(&request, &state, &id, false).await
}

async fn switch(
    request: &HttpRequest,
    state: &State,
    id: &str,
    enabled: bool,
) -> Result<HttpResponse, Problem> {
    let members = [("enabled".to_owned(), enabled.into())]
        .into_iter()
        .collect();
    change_to(request, state, id, members, vec![]).await
}

async fn change_to(
    request: &HttpRequest,
    state: &State,
    id: &str,
    members: Map<String, Value>,
    mut errors: Vec<FieldError>,
) -> Result<HttpResponse, Problem> {
    let (tenant, number) = (tenant(request), number(id)?);
    let mut name = String::new();
    let changed = state
        .change("subscriptions", async |db| {
            let apply = |before: &Subscription| match Asked::changed(before, &members) {
                Ok(settings) if errors.is_empty() => {
                    name.clone_from(&settings.subscriber_name);
                    Some(settings)
                }
                Ok(_) => None,
                Err(wrong) => {
                    errors.extend(wrong);
                    None
                }
            };
            subscriptions::change(db, &tenant, number, apply).await
        })
        .await?;
    match changed {
        None => Err(missing(id)),
        Some(Changed::Declined) => Err(Problem::unprocessables(errors)),
        Some(changed) => {
            let subscription = outcome(changed, &name)?;
            Ok(fresh(&SubscriptionView::new(&subscription)))
        }
    }
}

/// Gives a subscription another secret. Until the old one ceases to hold, messages carry a signature of
/// each.
///
/// # Errors
/// 404 if there is none, 422 for a wrong field, 503 while the database does not answer.
#[utoipa::path(post, path = "/api/v1/events/subscriptions/{subscription_id}/rotate", tag = "subscriptions",
    params(("subscription_id" = Uuid, Path, description = "The subscription")),
    request_body = RotationRequest,
    responses((status = 200, body = Rotated), (status = 400, description = "No JSON"),
        (status = 404, description = "No such subscription"),
        (status = 422, description = "A wrong field"), (status = 503, description = "Database down")))]
pub async fn rotate(
    request: HttpRequest,
    state: web::Data<State>,
    id: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let (tenant, number) = (tenant(&request), number(&id)?);
    let members = members(&body(&request, payload).await?)?;
    let mut errors = vec![];
    unknown(
        &members,
        &["webhook_secret", "overlap_seconds"],
        &mut errors,
    );
    let given = secret(&members, &mut errors);
    let overlap = match members.get("overlap_seconds") {
        None | Some(Value::Null) => OVERLAP,
        Some(value) => whole(value)
            .filter(|seconds| *seconds <= MAX_OVERLAP)
            .unwrap_or_else(|| {
                let message = format!("must be a whole number from 0 to {MAX_OVERLAP}");
                errors.push(FieldError::new(
                    "overlap_seconds",
                    Code::OutOfRange,
                    message,
                ));
                OVERLAP
            }),
    };
    if !errors.is_empty() {
        return Err(Problem::unprocessables(errors));
    }
    let (secret, made) = given_or_made(given)?;
    let kept = config::Secret::new(secret.expose());
    let overlap = u32::try_from(overlap).unwrap_or(u32::MAX);
    let rotated = state
        .change("subscriptions", async |db| {
            subscriptions::rotate(db, &tenant, number, &kept, overlap).await
        })
        .await?;
    let rotated = rotated.ok_or_else(|| missing(&id))?;
    Ok(fresh(&Rotated {
        subscription_id: rotated.subscription_id,
        webhook_secret: made,
        previous_secret_until: rotated.previous.map(|(_, until)| until),
    }))
}

/// Deletes a subscription, with what was still to be sent (S4-45).
///
/// # Errors
/// 404 if there is none, 503 while the database does not answer.
#[utoipa::path(delete, path = "/api/v1/events/subscriptions/{subscription_id}", tag = "subscriptions",
    params(("subscription_id" = Uuid, Path, description = "The subscription")),
    responses((status = 200, body = SubscriptionDeleted), (status = 404, description = "No such subscription"),
        (status = 503, description = "Database down")))]
pub async fn delete(
    request: HttpRequest,
    state: web::Data<State>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let (tenant, number) = (tenant(&request), number(&id)?);
    let deleted = state
        .change("subscriptions", async |db| {
            subscriptions::delete(db, &tenant, number).await
        })
        .await?;
    if !deleted {
        return Err(missing(&id));
    }
    Ok(fresh(&SubscriptionDeleted {
        status: "deleted",
        subscription_id: number,
    }))
}

/// What is wrong with the address, if one is named.
async fn unreachable(state: &State, members: &Map<String, Value>) -> Option<FieldError> {
    let url = members.get("callback_url")?.as_str()?;
    let refused = state.webhooks.endpoint(url.trim()).await.err()?;
    Some(FieldError::new("callback_url", Code::BadFormat, refused))
}

fn given_or_made(given: Option<Secret>) -> Result<(Secret, Option<String>), Problem> {
    match given {
        Some(secret) => Ok((secret, None)),
        None => {
            let made = Secret::random().map_err(|error| Problem::internal(&error))?;
            let shown = made.expose();
            Ok((made, Some(shown)))
        }
    }
}

fn outcome(changed: Changed, name: &str) -> Result<Box<Subscription>, Problem> {
    let detail = match changed {
        Changed::To(subscription) => return Ok(subscription),
        Changed::TooMany => format!(
            "There are {} subscriptions already",
            subscriptions::MAX_SUBSCRIPTIONS
        ),
        Changed::NameTaken | Changed::Declined => {
            format!("There is a subscription named {name} already")
        }
    };
    Err(Problem::new(StatusCode::CONFLICT, detail))
}

/// `event.subscription.created` (S4-101): no secret, and no query of the address, which may hold one.
fn announcement(made: &Subscription) -> Message {
    let view = SubscriptionView::new(made);
    let url = view.callback_url.split('?').next();
    let payload = json!({
        "subscription_id": made.subscription_id,
        "tenant_id": made.tenant_id.as_str(),
        "subscriber_name": view.subscriber_name,
        "subscriber_type": view.subscriber_type,
        "event_types": view.event_types,
        "event_sources": view.event_sources,
        "event_categories": view.event_categories,
        "callback_url": url,
        "enabled": view.enabled,
        "created_at": timestamp::format(made.created_at),
    });
    Message {
        tenant_id: made.tenant_id.as_str().to_owned(),
        subject: subject::SUBSCRIPTION_CREATED.to_owned(),
        key: made.subscription_id.to_string().into_bytes(),
        payload: payload.to_string().into_bytes(),
    }
}
