//! Audits: everything recomputed from the rows. The processor does them.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use domain::field::Code;
use domain::timestamp;
use serde::{Deserialize, Serialize};
use service::Problem;
use store::audit;
use time::{Date, OffsetDateTime};
use utoipa::ToSchema;
use uuid::Uuid;

use super::page::{fresh, fresh_as};
use super::request::body;
use crate::parameters::Parameters;
use crate::state::State;

/// What to look at.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the body; Parameters reads it")]
pub struct AuditRequest {
    /// Repair what can be repaired.
    #[schema(default = false)]
    repair: Option<bool>,
    /// The first day, UTC; without it from the first event on. Streams, positions and projections have no
    /// days.
    #[schema(format = Date)]
    from: Option<String>,
    /// The last day, UTC.
    #[schema(format = Date)]
    to: Option<String>,
}

/// An audit, and how far it is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Audit {
    /// Its number.
    pub audit_id: Uuid,
    /// `running`, `completed` or `failed`.
    #[schema(example = "completed")]
    pub state: String,
    /// Whether it repairs.
    pub repair: bool,
    /// Whether the clock asked for it (`AUDIT_AT`).
    pub nightly: bool,
    /// What it looks at: rows, ids, counts, streams, positions, projections.
    pub phase: String,
    /// How many ids, events, streams and entities it looked at.
    pub checked: i64,
    /// How many differences it found.
    pub findings: i64,
    /// How many of them are repaired.
    pub repaired: i64,
    /// Why it failed.
    #[schema(required = true)]
    pub problem: Option<String>,
    /// When it was asked for.
    #[serde(serialize_with = "timestamp::serialize")]
    pub created_at: OffsetDateTime,
    /// When it ended.
    #[serde(serialize_with = "timestamp::serialize_option")]
    #[schema(required = true)]
    pub ended_at: Option<OffsetDateTime>,
}

/// A difference.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditFinding {
    /// `daily_count`, `hourly_count`, `row_lost`, `row_doubled`, `row_unclaimed`, `id_misplaced`,
    /// `stream_behind`, `stream_ahead`, `stream_gap`, `stream_missing`, `position_ahead` or `projection`.
    #[schema(example = "daily_count")]
    pub kind: String,
    /// Whose; null where it is of all.
    #[schema(required = true)]
    pub tenant_id: Option<String>,
    /// What it is about.
    #[schema(example = "order.placed on 2026-11-28")]
    pub subject: String,
    /// What follows from the rows.
    pub expected: String,
    /// What there is.
    pub found: String,
    /// Events that show it, some of them.
    pub events: Vec<Uuid>,
    /// Whether it is repaired.
    pub repaired: bool,
}

/// An audit with what it found, at most 1,000 differences.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditReport {
    /// The audit.
    #[serde(flatten)]
    pub audit: Audit,
    /// The differences.
    pub differences: Vec<AuditFinding>,
}

/// Audits, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditList {
    /// The audits, at most 100.
    pub audits: Vec<Audit>,
}

impl From<audit::Audit> for Audit {
    fn from(of: audit::Audit) -> Self {
        Self {
            audit_id: of.id,
            state: of.state,
            repair: of.repairs,
            nightly: of.nightly,
            phase: of.phase,
            checked: of.checked,
            findings: of.findings,
            repaired: of.repaired,
            problem: of.problem,
            created_at: of.created_at,
            ended_at: of.ended_at,
        }
    }
}

/// Has everything recomputed from the rows: counts, ids, streams, positions, projections.
///
/// # Errors
/// 422 for a wrong field, 503 while the database does not answer.
#[utoipa::path(post, path = "/api/v1/admin/audits", tag = "admin",
    request_body = AuditRequest,
    responses((status = 202, body = Audit), (status = 400, description = "No JSON"),
        (status = 422, description = "A wrong field"), (status = 503, description = "Database down")))]
pub async fn create(
    request: HttpRequest,
    state: web::Data<State>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body = body(&request, payload).await?;
    let mut parameters = Parameters::from_json(&body)?;
    let repair = parameters.boolean("repair").unwrap_or(false);
    let day = |at: Option<OffsetDateTime>| at.map(OffsetDateTime::date);
    let days: (Option<Date>, Option<Date>) = (
        day(parameters.time(&["from"])),
        day(parameters.time(&["to"])),
    );
    if days.0.zip(days.1).is_some_and(|(from, to)| to < from) {
        parameters.refuse("to", Code::OutOfRange, "must not be before from");
    }
    parameters.finish()?;
    let id = service::clock::fresh_id();
    let made = state
        .change("audits", async |db| {
            audit::create(&*db.client().await?, id, repair, days).await
        })
        .await?;
    Ok(fresh_as(StatusCode::ACCEPTED, &Audit::from(made)))
}

/// The audits, the newest first.
///
/// # Errors
/// 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/admin/audits", tag = "admin",
    responses((status = 200, body = AuditList), (status = 503, description = "Database down")))]
pub async fn list(state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let audits = state
        .read("audits", async |client| {
            audit::list(client, None, 100).await
        })
        .await?;
    Ok(fresh(&AuditList {
        audits: audits.into_iter().map(Audit::from).collect(),
    }))
}

/// An audit with the differences it found.
///
/// # Errors
/// 404 if there is none, 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/admin/audits/{id}", tag = "admin",
    params(("id" = Uuid, Path, description = "The audit")),
    responses((status = 200, body = AuditReport), (status = 404, description = "No such audit"),
        (status = 503, description = "Database down")))]
pub async fn read(state: web::Data<State>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let missing = || Problem::not_found(format!("There is no audit {id}"));
    let number: Uuid = id.parse().map_err(|_| missing())?;
    let found = state
        .read("audits", async |client| {
            let mut audits = audit::list(client, Some(number), 1).await?;
            Ok((audits.pop(), audit::findings(client, number).await?))
        })
        .await?;
    let (Some(of), findings) = found else {
        return Err(missing());
    };
    let differences = findings.into_iter().map(|one| AuditFinding {
        kind: one.kind,
        tenant_id: one.tenant,
        subject: one.subject,
        expected: one.expected,
        found: one.found,
        events: one.events,
        repaired: one.repaired,
    });
    Ok(fresh(&AuditReport {
        audit: of.into(),
        differences: differences.collect(),
    }))
}
