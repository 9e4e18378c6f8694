//! Whose events there are.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use service::Problem;
use store::tenants::{self, Overview};
use utoipa::ToSchema;

use super::page::fresh;
use super::tenants::Limits;
use crate::parameters::{MAX_LIMIT, Parameters};
use crate::state::State;

/// A tenant, and what there is of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Tenant {
    /// Its name.
    pub tenant: String,
    /// Its events, ever.
    pub events: i64,
    /// Those of today, UTC.
    pub events_today: i64,
    /// Types that they are counted by.
    pub event_types: i64,
    /// The first day with events, UTC; null without any.
    #[schema(required = true, format = Date)]
    pub first_day: Option<String>,
    /// The last one.
    #[schema(required = true, format = Date)]
    pub last_day: Option<String>,
    /// Open dead letters.
    pub dead_letters: i64,
    /// API keys that are good.
    pub keys: i64,
    /// Database roles that read it alone.
    pub readers: Vec<String>,
    /// Its own limits.
    pub limits: Limits,
}

impl From<Overview> for Tenant {
    fn from(of: Overview) -> Self {
        let (first, last) = of.days.unzip();
        Self {
            tenant: of.tenant,
            events: of.events,
            events_today: of.today,
            event_types: of.types,
            first_day: first.map(|day| day.to_string()),
            last_day: last.map(|day| day.to_string()),
            dead_letters: of.dead_letters,
            keys: of.keys,
            readers: of.readers,
            limits: Limits::from(of.limits),
        }
    }
}

/// Tenants.
#[derive(Debug, Serialize, ToSchema)]
pub struct Tenants {
    /// In the order of their names.
    pub tenants: Vec<Tenant>,
}

/// The tenants that have events, keys, readers or limits.
///
/// # Errors
/// 422 for a wrong parameter, 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/admin/tenants", tag = "tenants", operation_id = "list_tenants",
    params(("limit" = Option<u32>, Query, description = "default 1000"), ("offset" = Option<u32>, Query)),
    responses((status = 200, body = Tenants), (status = 401, description = "No credentials"),
        (status = 403, description = "Not the operator"), (status = 422, description = "A wrong parameter"),
        (status = 503, description = "Database down")))]
pub async fn list(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let mut parameters = Parameters::from_query(request.query_string())?;
    let (limit, offset) = parameters.page(MAX_LIMIT);
    parameters.finish()?;
    let page = (i64::from(limit), i64::from(offset));
    let found = state
        .read("tenants", async |client| tenants::page(client, page).await)
        .await?;
    let tenants = found.into_iter().map(Tenant::from).collect();
    Ok(fresh(&Tenants { tenants }))
}
