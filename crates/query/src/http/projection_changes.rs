//! Defining projections: the processor folds and builds what is defined here.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use domain::TenantId;
use domain::field::Code;
use domain::fold::Definition;
use serde::Deserialize;
use serde_json::Value;
use service::Problem;
use store::projections::definitions::{self, Change, Changed};
use utoipa::ToSchema;

use super::page::fresh_as;
use super::projections::ProjectionDefinition;
use super::request::{body, tenant};
use crate::parameters::Parameters;
use crate::state::State;

/// A projection to be defined.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(
    dead_code,
    reason = "describes the body; Definition reads it, naming every wrong field"
)]
pub struct ProjectionRequest {
    /// Its name; of a change, the one in the path.
    #[schema(example = "order-totals")]
    name: String,
    /// What stands before the first colon of the stream id: the type of an aggregate, or `user`.
    #[schema(example = "order")]
    entity_type: String,
    /// Only this entity; by default each of the type.
    entity_id: Option<String>,
    /// Patterns of the event types to fold; by default all.
    event_types: Option<Vec<String>>,
    /// A rule, or an array of up to 16: `last_by_type` (default), `merge`, `count`, `sum`, `min`, `max`,
    /// `set` (each of a `field` of the data), `last` (`count` events) or `reducer` (`name`); `as` is the
    /// member of the state.
    #[schema(value_type = Option<Object>, example = json!({"rule": "sum", "field": "total"}))]
    fold: Option<Value>,
}

/// Defines a projection (S4-40). The processor reads the history of every entity it is about, and then
/// shows it whole; events that come meanwhile are in it.
///
/// # Errors
/// 409 if there is one of that name, 422 for what cannot be folded, 503 while the database does not
/// answer.
#[utoipa::path(post, path = "/api/v1/events/projections", tag = "projections",
    request_body = ProjectionRequest,
    responses((status = 201, body = ProjectionDefinition), (status = 400, description = "No JSON"),
        (status = 409, description = "There is one of that name"),
        (status = 422, description = "A wrong definition"), (status = 503, description = "Database down")))]
pub async fn create(
    request: HttpRequest,
    state: web::Data<State>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let definition = definition(&body(&request, payload).await?, None)?;
    let change = Change::Create(&definition);
    change_to(&state, &tenant(&request), change, StatusCode::CREATED).await
}

/// Defines a projection otherwise: it is built beside the one that is live, and takes its place whole.
///
/// # Errors
/// 404 if there is none of that name, else as [`create`].
#[utoipa::path(put, path = "/api/v1/events/projections/{projection}", tag = "projections",
    params(("projection" = String, Path, description = "The name of the projection")),
    request_body = ProjectionRequest,
    responses((status = 202, body = ProjectionDefinition), (status = 400, description = "No JSON"),
        (status = 404, description = "No such projection"),
        (status = 422, description = "A wrong definition"), (status = 503, description = "Database down")))]
pub async fn replace(
    request: HttpRequest,
    state: web::Data<State>,
    name: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let definition = definition(&body(&request, payload).await?, Some(&name))?;
    let change = Change::Replace(&definition);
    change_to(&state, &tenant(&request), change, StatusCode::ACCEPTED).await
}

/// Rebuilds a projection from the history, beside the one that is live.
///
/// # Errors
/// 404 if none of that name is live, 409 while it is being built.
#[utoipa::path(post, path = "/api/v1/events/projections/{projection}/rebuild", tag = "projections",
    params(("projection" = String, Path, description = "The name of the projection")),
    responses((status = 202, body = ProjectionDefinition), (status = 404, description = "No such projection"),
        (status = 409, description = "It is being built"), (status = 503, description = "Database down")))]
pub async fn rebuild(
    request: HttpRequest,
    state: web::Data<State>,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let change = Change::Rebuild(known(&name)?);
    change_to(&state, &tenant(&request), change, StatusCode::ACCEPTED).await
}

/// Deletes a projection with its states.
///
/// # Errors
/// 404 if there is none of that name.
#[utoipa::path(delete, path = "/api/v1/events/projections/{projection}", tag = "projections",
    params(("projection" = String, Path, description = "The name of the projection")),
    responses((status = 204, description = "Deleted"), (status = 404, description = "No such projection"),
        (status = 503, description = "Database down")))]
pub async fn delete(
    request: HttpRequest,
    state: web::Data<State>,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let (tenant, name) = (tenant(&request), known(&name)?);
    let deleting = state.change("delete_projection", async |db| {
        definitions::delete(db, &tenant, name).await
    });
    if deleting.await? {
        Ok(HttpResponse::NoContent().finish())
    } else {
        Err(Problem::not_found("Projection not found"))
    }
}

/// A name that may be one of the table's.
fn known(name: &str) -> Result<&str, Problem> {
    if name.contains('\0') {
        return Err(Problem::not_found("Projection not found"));
    }
    Ok(name)
}

fn definition(body: &[u8], name: Option<&str>) -> Result<Definition, Problem> {
    // What PostgreSQL cannot hold is refused with its place.
    Parameters::from_json(body)?;
    let mut value: Value = serde_json::from_slice(body)
        .map_err(|error| Problem::bad_request(format!("The body is no JSON: {error}")))?;
    if let (Some(name), Some(members)) = (name, value.as_object_mut()) {
        members.insert("name".to_owned(), name.into());
    }
    Definition::parse(&value).map_err(Problem::fields)
}

async fn change_to(
    state: &State,
    tenant: &TenantId,
    change: Change<'_>,
    status: StatusCode,
) -> Result<HttpResponse, Problem> {
    let changing = state.change("change_projection", async |db| {
        definitions::change(db, tenant, change).await
    });
    match changing.await? {
        Changed::Building(defined) => Ok(fresh_as(status, &ProjectionDefinition::from(*defined))),
        Changed::Unknown => Err(Problem::not_found("Projection not found")),
        Changed::Exists => {
            let message = "there is one of that name, or it is being built just now";
            let problem = Problem::unprocessable("name", Code::IllegalValue, message);
            Err(problem.with_status(StatusCode::CONFLICT))
        }
    }
}
