//! Which subscriptions there are.

use actix_web::{HttpRequest, HttpResponse, web};
use service::Problem;
use store::subscriptions::{self, Subscription};
use uuid::Uuid;

use super::view::SubscriptionView;
use crate::http::page::fresh;
use crate::http::request::tenant;
use crate::state::State;

/// All subscriptions, the oldest first, without their secrets (S4-42).
///
/// # Errors
/// 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/events/subscriptions", tag = "subscriptions",
    responses((status = 200, body = Vec<SubscriptionView>), (status = 503, description = "Database down")))]
pub async fn list(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let tenant = tenant(&request);
    let all = state
        .read("subscriptions", async |client| {
            subscriptions::list(client, &tenant).await
        })
        .await?;
    let all: Vec<_> = all.iter().map(SubscriptionView::new).collect();
    state.answer(state.hold(0)?, &all)
}

/// One subscription, without its secret.
///
/// # Errors
/// 404 if there is none, 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/events/subscriptions/{subscription_id}", tag = "subscriptions",
    params(("subscription_id" = Uuid, Path, description = "The subscription")),
    responses((status = 200, body = SubscriptionView), (status = 404, description = "No such subscription"),
        (status = 503, description = "Database down")))]
pub async fn read(
    request: HttpRequest,
    state: web::Data<State>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let found = find(&request, &state, &id).await?;
    Ok(fresh(&SubscriptionView::new(&found)))
}

/// The subscription of that number.
///
/// # Errors
/// 404 if there is none, 503 while the database does not answer.
pub(super) async fn find(
    request: &HttpRequest,
    state: &State,
    id: &str,
) -> Result<Subscription, Problem> {
    let (tenant, number) = (tenant(request), number(id)?);
    let found = state
        .read("subscriptions", async |client| {
            subscriptions::get(&***client, &tenant, number).await
        })
        .await?;
    found.ok_or_else(|| missing(id))
}

/// The number in a path; what is none belongs to no subscription.
pub(super) fn number(id: &str) -> Result<Uuid, Problem> {
    id.parse().map_err(|_| missing(id))
}

pub(super) fn missing(id: &str) -> Problem {
    Problem::not_found(format!("Subscription not found: {id}"))
}
