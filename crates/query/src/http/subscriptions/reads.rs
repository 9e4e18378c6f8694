//! Which subscriptions there are.

use actix_web::{HttpRequest, HttpResponse, web};
use service::Problem;
use store::subscription_list;
use store::subscriptions::{self, Subscription};
use uuid::Uuid;

use super::view::SubscriptionView;
use crate::http::page::fresh;
use crate::http::request::tenant;
use crate::parameters::{MAX_LIMIT, Parameters};
use crate::state::State;

/// Subscriptions, the oldest first, without their secrets (S4-42), and what failed last of each.
///
/// # Errors
/// 422 for a wrong parameter, 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/events/subscriptions", tag = "subscriptions",
    params(("limit" = Option<u32>, Query, description = "default 1000"), ("offset" = Option<u32>, Query)),
    responses((status = 200, body = Vec<SubscriptionView>), (status = 422, description = "A wrong parameter"),
        (status = 503, description = "Database down")))]
pub async fn list(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let tenant = tenant(&request);
    let mut parameters = Parameters::from_query(request.query_string())?;
    let page = parameters.page(MAX_LIMIT);
    parameters.finish()?;
    let (found, failures) = state
        .read("subscriptions", async |client| {
            let found = subscription_list::page(client, &tenant, page).await?;
            let ids: Vec<Uuid> = found.iter().map(|one| one.subscription_id).collect();
            let failures = subscription_list::failures(client, &ids).await?;
            Ok((found, failures))
        })
        .await?;
    let view = |one| SubscriptionView::new(one).failed(failures.get(&one.subscription_id));
    let found: Vec<_> = found.iter().map(view).collect();
    state.answer(state.hold(0)?, &found)
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
