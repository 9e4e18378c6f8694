//! Limits of tenants, where they are not those of the settings.

use actix_web::{HttpRequest, HttpResponse, web};
use domain::field::Code;
use domain::json::whole;
use domain::tenant_limits::TenantLimits;
use domain::{FieldError, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service::Problem;
use store::tenant_limits;
use utoipa::ToSchema;

use super::members::{members, unknown};
use super::page::fresh;
use super::request::{body, within};
use crate::state::State;

/// The limits that a tenant has of its own: 0 is no limit, null is what the service's setting says.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Limits {
    /// Events that a gateway takes in a second; else `TENANT_EVENTS_PER_SECOND`.
    #[schema(required = true, minimum = 0, maximum = 10_000_000)]
    pub events_per_second: Option<i64>,
    /// Bytes of events that a gateway takes on a day, UTC; else `TENANT_BYTES_PER_DAY`.
    #[schema(required = true, minimum = 0, maximum = 1_125_899_906_842_624_i64)]
    pub bytes_per_day: Option<i64>,
    /// Types of events that a gateway takes on a day, UTC; else `TENANT_TYPES_PER_DAY`.
    #[schema(required = true, minimum = 0, maximum = 100_000)]
    pub types_per_day: Option<i64>,
    /// Open live streams in a process; else `SSE_MAX_CONNECTIONS_PER_TENANT`.
    #[schema(required = true, minimum = 0, maximum = 10_000_000)]
    pub connections: Option<i64>,
}

/// Limits to be set in the place of those that are: what is absent or null is as the service's setting says.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(
    dead_code,
    reason = "describes the body, which is read member by member"
)]
pub struct LimitsRequest {
    /// Events that a gateway takes in a second; 0 is no limit.
    #[schema(minimum = 0, maximum = 10_000_000)]
    events_per_second: Option<i64>,
    /// Bytes of events that a gateway takes on a day, UTC; 0 is no limit.
    #[schema(minimum = 0, maximum = 1_125_899_906_842_624_i64)]
    bytes_per_day: Option<i64>,
    /// Types of events that a gateway takes on a day, UTC; 0 is no limit.
    #[schema(minimum = 0, maximum = 100_000)]
    types_per_day: Option<i64>,
    /// Open live streams in a process; 0 is no limit.
    #[schema(minimum = 0, maximum = 10_000_000)]
    connections: Option<i64>,
}

impl From<TenantLimits> for Limits {
    fn from(limits: TenantLimits) -> Self {
        let [events_per_second, bytes_per_day, types_per_day, connections] = limits.values();
        Self {
            events_per_second,
            bytes_per_day,
            types_per_day,
            connections,
        }
    }
}

/// The limits that a tenant has of its own. An admin of a tenant is shown that tenant's.
///
/// # Errors
/// 403 for another tenant, 422 for what is no tenant's name, 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/admin/tenants/{tenant}/limits", tag = "tenants", operation_id = "tenant_limits",
    params(("tenant" = String, Path, description = "letters, digits, `_`, `-` and `.`, at most 64")),
    responses((status = 200, body = Limits), (status = 403, description = "Not an admin, or of another tenant"),
        (status = 422, description = "No name of a tenant"), (status = 503, description = "Database down")))]
pub async fn limits(
    request: HttpRequest,
    state: web::Data<State>,
    tenant: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let tenant = named(&tenant)?;
    if within(&request).is_some_and(|own| own != tenant) {
        return Err(Problem::forbidden());
    }
    let limits = state
        .read("tenants", async |client| {
            tenant_limits::of(client, &tenant).await
        })
        .await?;
    Ok(fresh(&Limits::from(limits)))
}

/// Sets the limits of a tenant; they hold everywhere within five seconds. Only for who runs Tidegate.
///
/// # Errors
/// 400 without a body, 422 for a wrong field, 503 while the database does not answer.
#[utoipa::path(put, path = "/api/v1/admin/tenants/{tenant}/limits", tag = "tenants", operation_id = "set_tenant_limits",
    params(("tenant" = String, Path, description = "letters, digits, `_`, `-` and `.`, at most 64")),
    request_body = LimitsRequest,
    responses((status = 200, body = Limits), (status = 400, description = "No JSON, or no body"),
        (status = 403, description = "Not an admin of the default tenant"),
        (status = 422, description = "A wrong field"), (status = 503, description = "Database down")))]
pub async fn set_limits(
    request: HttpRequest,
    state: web::Data<State>,
    tenant: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let tenant = named(&tenant)?;
    let body = body(&request, payload).await?;
    if body.is_empty() {
        // It would take all limits from the tenant, which who forgot the body did not mean.
        let form = "there is no body; {} is what takes all limits of its own from the tenant";
        return Err(Problem::bad_request(form));
    }
    let members = members(&body)?;
    let mut errors = vec![];
    let names = TenantLimits::NAMES;
    unknown(&members, &names.map(|(name, _)| name), &mut errors);
    let values = names.map(|(name, most)| match members.get(name) {
        None | Some(Value::Null) => None,
        Some(value) => {
            let number = whole(value).filter(|number| (0..=most).contains(number));
            if number.is_none() {
                let message = format!("must be a whole number from 0 to {most}");
                errors.push(FieldError::new(name, Code::OutOfRange, message));
            }
            number
        }
    });
    if !errors.is_empty() {
        return Err(Problem::unprocessables(errors));
    }
    let limits = TenantLimits::of(values);
    state
        .read("tenants", async |client| {
            tenant_limits::set(client, &tenant, limits).await
        })
        .await?;
    tracing::info!(%tenant, ?limits, "limits of a tenant were set");
    Ok(fresh(&Limits::from(limits)))
}

fn named(name: &str) -> Result<TenantId, Problem> {
    TenantId::parse(name).ok_or_else(|| {
        let message = format!("must be {}", TenantId::FORM);
        Problem::unprocessable("tenant", Code::BadFormat, message)
    })
}
