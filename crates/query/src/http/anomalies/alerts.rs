//! The alerts of a tenant.

use actix_web::{HttpRequest, HttpResponse, web};
use domain::anomaly::Kind;
use domain::timestamp;
use serde::Serialize;
use service::Problem;
use store::anomalies::{self, AlertFilter};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Anomaly;
use crate::http::page::fresh;
use crate::http::request::tenant;
use crate::parameters::Parameters;
use crate::state::State;

/// An alert.
#[derive(Debug, Serialize, ToSchema)]
pub struct AnomalyAlert {
    /// Its number.
    pub alert_id: Uuid,
    /// What was found.
    #[serde(flatten)]
    pub anomaly: Anomaly,
    /// When it was looked at last.
    #[serde(serialize_with = "timestamp::serialize")]
    pub updated_at: OffsetDateTime,
}

/// Alerts, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct AnomalyList {
    /// The alerts.
    pub anomalies: Vec<AnomalyAlert>,
}

/// Alerts of surges, silences and error rates, the newest first (S1-12, S1-41).
///
/// # Errors
/// 422 for wrong parameters, 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/anomalies", tag = "anomalies",
    params(("state" = Option<String>, Query, description = "open or resolved"),
        ("kind" = Option<String>, Query, description = "error_rate, surge or silence"),
        ("before" = Option<String>, Query, description = "opened before this time"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1_000, description = "at most; default 100")),
    responses((status = 200, body = AnomalyList), (status = 400, description = "An unknown value"), (status = 422, description = "A wrong parameter"),
        (status = 503, description = "Database down")))]
pub async fn list(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let tenant = tenant(&request);
    let mut parameters = Parameters::from_query(request.query_string())?;
    let filter = AlertFilter {
        state: parameters.choice("state", &["open", "resolved"], |state| state),
        kind: parameters.choice("kind", Kind::ALL, Kind::as_str),
        before: parameters.time(&["before"]),
    };
    let (limit, _) = parameters.page(100);
    parameters.finish()?;
    let alerts = state
        .read("anomalies", async |client| {
            anomalies::list(client, &tenant, &filter, limit.into()).await
        })
        .await?;
    let anomalies = alerts.into_iter().map(|stored| AnomalyAlert {
        alert_id: stored.alert_id,
        updated_at: stored.updated_at,
        anomaly: Anomaly::new(stored.alert, stored.resolved_at),
    });
    Ok(fresh(&AnomalyList {
        anomalies: anomalies.collect(),
    }))
}
