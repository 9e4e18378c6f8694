//! Erasures of users, and their receipts. The processor erases.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use domain::field::Code;
use domain::timestamp;
use serde::{Deserialize, Serialize};
use service::Problem;
use service::auth::Principal;
use store::erasures;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::page::{fresh, fresh_as};
use super::request::{body, named_tenant, within};
use crate::parameters::Parameters;
use crate::state::State;

/// Who is to be erased.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(
    dead_code,
    reason = "describes the body; Parameters reads it, naming every wrong field"
)]
pub struct ErasureRequest {
    /// The user.
    #[schema(example = "u-1", max_length = 255)]
    user_id: String,
    /// Default: that of who asks. Others only for an admin of the default tenant.
    tenant: Option<String>,
    /// Takes the events out of the counts too; otherwise these stay, they name nobody.
    #[schema(default = false)]
    counts: Option<bool>,
    /// Shows how many events there are; erases nothing.
    #[schema(default = false)]
    dry_run: Option<bool>,
}

/// What would be erased.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErasurePreview {
    /// Always true.
    pub dry_run: bool,
    /// Whose user.
    pub tenant: String,
    /// The user's events now.
    pub events: i64,
}

/// An erasure, and once it is `completed` its receipt.
#[derive(Debug, Serialize, ToSchema)]
pub struct Erasure {
    /// Its id.
    pub id: Uuid,
    /// Whose user.
    pub tenant: String,
    /// Who; null once it is completed, as nothing names the user any more.
    #[schema(required = true)]
    pub user_id: Option<String>,
    /// `running` or `completed`.
    #[schema(example = "completed")]
    pub status: &'static str,
    /// Whether the counts go too.
    pub counts: bool,
    /// What was accepted until then is erased, and does not come back when it is read again. When it was
    /// asked for.
    #[serde(serialize_with = "timestamp::serialize")]
    pub accepted_until: OffsetDateTime,
    /// Rows erased, by table; `projections` are states refolded, `live` messages of live channels,
    /// `counts` events that are not counted any more.
    pub erased: BTreeMap<String, u64>,
    /// Records dropped since, when they were read again from a log or redriven.
    pub dropped: i64,
    /// What remains elsewhere.
    #[schema(required = true)]
    pub remains: Option<Remains>,
    /// What it waits for.
    #[schema(required = true)]
    pub problem: Option<String>,
    /// When it was completed.
    #[serde(serialize_with = "timestamp::serialize_option")]
    #[schema(required = true)]
    pub ended_at: Option<OffsetDateTime>,
}

/// What remains of a user outside of the database, and what an administrator has to decide about.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Remains {
    /// Topics in which records of the user can still lie.
    pub kafka: Vec<Topic>,
    /// Whether the live channels were reached from the processor that erased.
    pub live_reached: bool,
    /// Subscriptions that name the user.
    pub subscriptions: Vec<String>,
    /// Projections that are about this user alone.
    pub projections: Vec<String>,
}

/// A topic in which records of the user can still lie.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Topic {
    /// Its full name.
    #[schema(example = "events.backend.service")]
    pub topic: String,
    /// When Kafka has deleted them at the latest, by the topic's settings; null: never.
    #[schema(required = true, format = DateTime)]
    pub gone_by: Option<String>,
}

/// Erasures.
#[derive(Debug, Serialize, ToSchema)]
pub struct Erasures {
    /// The newest first.
    pub erasures: Vec<Erasure>,
}

impl From<erasures::Erasure> for Erasure {
    fn from(of: erasures::Erasure) -> Self {
        Self {
            id: of.id,
            tenant: of.tenant.to_string(),
            user_id: of.user_id,
            status: of.state.as_str(),
            counts: of.counts,
            accepted_until: of.until,
            erased: of.places,
            dropped: of.dropped,
            remains: serde_json::from_value(of.remains).ok(),
            problem: of.problem,
            ended_at: of.ended_at,
        }
    }
}

/// Erases a user: the events with all that hangs on them, whatever else names the user, and the live
/// channel. The answer comes at once; ask for the receipt by its id.
///
/// # Errors
/// 403 for another tenant, 422 for a wrong field, 503 while the database does not answer.
#[utoipa::path(post, path = "/api/v1/admin/erasures", tag = "erasures", operation_id = "create_erasure",
    request_body = ErasureRequest,
    responses((status = 202, body = Erasure), (status = 200, body = ErasurePreview, description = "A dry run"),
        (status = 400, description = "No JSON"), (status = 403, description = "Not an admin, or of another tenant"),
        (status = 422, description = "A wrong field"), (status = 503, description = "Database down")))]
pub async fn create(
    request: HttpRequest,
    state: web::Data<State>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body = body(&request, payload).await?;
    let mut parameters = Parameters::from_json(&body)?;
    let user = parameters.text("user_id").filter(|user| !user.is_empty());
    if user.is_none() {
        parameters.refuse("user_id", Code::Missing, "is required: who is to be erased");
    }
    let tenant = named_tenant(&mut parameters, &request);
    let counts = parameters.boolean("counts").unwrap_or(false);
    let dry_run = parameters.boolean("dry_run").unwrap_or(false);
    parameters.finish()?;
    let (tenant, user) = (tenant?, user.unwrap_or_default());
    if dry_run {
        let events = state
            .read("erasures", async |client| {
                erasures::count(client, &tenant, &user).await
            })
            .await?;
        return Ok(fresh(&ErasurePreview {
            dry_run,
            tenant: tenant.to_string(),
            events,
        }));
    }
    let begun = state
        .change("erasures", async |db| {
            erasures::begin(db, &tenant, &user, counts).await
        })
        .await?;
    tracing::info!(erasure = %begun.id, %tenant, "a user is to be erased");
    Ok(fresh_as(StatusCode::ACCEPTED, &Erasure::from(begun)))
}

/// Erasures, the newest first: all of the tenant (an admin of the default tenant is shown those of all), or
/// those of a user.
///
/// # Errors
/// 403 for another tenant, 422 for a wrong parameter, 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/admin/erasures", tag = "erasures", operation_id = "list_erasures",
    params(("user_id" = Option<String>, Query, description = "Only of this user, of `tenant`"),
        ("tenant" = Option<String>, Query, description = "Default: that of who asks"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, default 100")),
    responses((status = 200, body = Erasures), (status = 403, description = "Not an admin, or of another tenant"),
        (status = 422, description = "A wrong parameter"), (status = 503, description = "Database down")))]
pub async fn list(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let mut parameters = Parameters::from_query(request.query_string())?;
    let (limit, _) = parameters.page(100);
    let user = parameters.text("user_id");
    let asked = parameters.raw_text("tenant").is_some();
    let tenant = named_tenant(&mut parameters, &request);
    parameters.finish()?;
    let tenant = tenant?;
    let one = asked || !Principal::of(&request).is_operator();
    let found = state
        .read("erasures", async |client| {
            let user = user.as_deref().map(|user| (&tenant, user));
            let within = one.then_some(&tenant);
            erasures::list(client, within, None, user, i64::from(limit)).await
        })
        .await?;
    let erasures = found.into_iter().map(Into::into).collect();
    Ok(fresh(&Erasures { erasures }))
}

/// An erasure: how far it is, and what was erased where.
///
/// # Errors
/// 404 if there is none, 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/admin/erasures/{id}", tag = "erasures", operation_id = "read_erasure",
    params(("id" = String, Path, description = "The id of the erasure")),
    responses((status = 200, body = Erasure), (status = 404, description = "No such erasure"),
        (status = 503, description = "Database down")))]
pub async fn read(
    request: HttpRequest,
    state: web::Data<State>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let unknown = || Problem::not_found("There is no such erasure");
    let id = Uuid::try_parse(&id).map_err(|_| unknown())?;
    let within = within(&request);
    let found = state
        .read("erasures", async |client| {
            erasures::list(client, within.as_ref(), Some(id), None, 1).await
        })
        .await?;
    let found = found.into_iter().next().ok_or_else(unknown)?;
    Ok(fresh(&Erasure::from(found)))
}
