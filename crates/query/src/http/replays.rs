//! Replays: events run again for a service or for projections. The processor runs them.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use domain::field::Code;
use domain::timestamp;
use serde::Serialize;
use serde_json::Value;
use service::Problem;
use store::replays::{self, MAX_EVENTS, Request, Selection};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::page::{fresh, fresh_as};
use super::replay_preview::{self, ReplayPreview};
use super::replay_request::{EventReplayRequest, processors_exist, read};
use super::request::{body, tenant};
use crate::parameters::Parameters;
use crate::state::State;

/// A replay that has begun (S4-34).
#[derive(Debug, Serialize, ToSchema)]
pub struct ReplayStarted {
    /// `replay_started`
    pub status: &'static str,
    /// `Event replay has been initiated`
    pub message: &'static str,
    /// Always false.
    pub dry_run: bool,
    /// What to ask `GET /replays/{id}` for.
    pub replay_id: Uuid,
    /// How many events it is about.
    pub events_count: i64,
}

/// A replay and how far it is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Replay {
    /// Its id.
    pub replay_id: Uuid,
    /// `running`, `paused`, `cancelled`, `completed` or `failed`.
    #[schema(example = "running")]
    pub status: String,
    /// What it was asked for.
    #[schema(value_type = Object)]
    pub request: Value,
    /// How many events it is about.
    pub events_count: i64,
    /// How many were replayed.
    pub replayed: i64,
    /// How many could not be: too large, of a version that cannot be read, or removed meanwhile.
    pub failed: i64,
    /// What keeps it from going on, or has ended it.
    #[schema(required = true)]
    pub problem: Option<String>,
    /// When it was asked for.
    #[serde(serialize_with = "timestamp::serialize")]
    pub created_at: OffsetDateTime,
    /// When the processor began.
    #[serde(serialize_with = "timestamp::serialize_option")]
    #[schema(required = true)]
    pub started_at: Option<OffsetDateTime>,
    /// When it ended.
    #[serde(serialize_with = "timestamp::serialize_option")]
    #[schema(required = true)]
    pub ended_at: Option<OffsetDateTime>,
}

/// Replays, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReplayList {
    /// The replays.
    pub replays: Vec<Replay>,
}

impl From<replays::Replay> for Replay {
    fn from(of: replays::Replay) -> Self {
        Self {
            replay_id: of.id,
            status: of.state,
            request: of.selection,
            events_count: of.events,
            replayed: of.replayed,
            failed: of.failed,
            problem: of.problem,
            created_at: of.created_at,
            started_at: of.started_at,
            ended_at: of.ended_at,
        }
    }
}

/// Runs stored events again: for a service, for processors, or for projections. Nothing is stored or counted once more,
/// and no webhook or listener hears of it.
///
/// # Errors
/// 422 for a wrong selection, for one of nothing, and for one of too much; 503 while the database does
/// not answer.
#[utoipa::path(post, path = "/api/v1/events/replay", tag = "replays",
    request_body = EventReplayRequest,
    responses((status = 202, body = ReplayStarted), (status = 200, body = ReplayPreview, description = "A dry run"),
        (status = 400, description = "No JSON"), (status = 404, description = "It selects no event"),
        (status = 422, description = "A wrong selection, or one of too much"),
        (status = 503, description = "Database down")))]
pub async fn create(
    request: HttpRequest,
    state: web::Data<State>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body = body(&request, payload).await?;
    let mut parameters = Parameters::from_json(&body)?;
    let dry_run = parameters.boolean("dry_run").unwrap_or(false);
    let (limit, _) = parameters.page(100);
    let asked = read(&mut parameters, tenant(&request), &body);
    parameters.finish()?;
    let Some(asked) = asked else {
        let message = "is needed, or stream_id, or start_time and end_time, or event_type";
        return Err(Problem::unprocessable("event_ids", Code::Missing, message));
    };
    processors_exist(&state, &asked).await?;
    if dry_run {
        let shown = replay_preview::answer(&state, &asked, limit).await?;
        return shown.map_err(|events| unfit(&asked, events));
    }
    let begun = state.change("replay", async |db| replays::begin(db, &asked).await);
    let replay = begun.await?.map_err(|events| unfit(&asked, events))?;
    let started = ReplayStarted {
        status: "replay_started",
        message: "Event replay has been initiated",
        dry_run: false,
        replay_id: replay.id,
        events_count: replay.events,
    };
    Ok(fresh_as(StatusCode::ACCEPTED, &started))
}

/// Why a replay of so many events does not begin.
fn unfit(asked: &Request, events: i64) -> Problem {
    let field = match asked.selection {
        Selection::Ids(_) => "event_ids",
        Selection::Stream(_) => "stream_id",
        Selection::Time(..) => "start_time",
        Selection::Type => "event_type",
    };
    if events == 0 {
        let problem = Problem::unprocessable(field, Code::OutOfRange, "selects no event");
        return problem.with_status(StatusCode::NOT_FOUND);
    }
    let message = format!("selects more than {MAX_EVENTS} events; replay a part at a time");
    Problem::unprocessable(field, Code::OutOfRange, message)
}

/// Replays and how far they are, the newest first.
///
/// # Errors
/// 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/events/replays", tag = "replays",
    params(("limit" = Option<u32>, Query, description = "1 to 1000, default 100")),
    responses((status = 200, body = ReplayList), (status = 422, description = "A wrong parameter"),
        (status = 503, description = "Database down")))]
pub async fn list(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let mut parameters = Parameters::from_query(request.query_string())?;
    let (limit, _) = parameters.page(100);
    parameters.finish()?;
    let tenant = tenant(&request);
    let found = state
        .read("replays", async |client| {
            replays::list(client, &tenant, None, i64::from(limit)).await
        })
        .await?;
    let replays = found.into_iter().map(Into::into).collect();
    Ok(fresh(&ReplayList { replays }))
}

/// A replay and how far it is.
///
/// # Errors
/// 404 if there is none, 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/events/replays/{replay_id}", tag = "replays",
    params(("replay_id" = String, Path, description = "The id of the replay")),
    responses((status = 200, body = Replay), (status = 404, description = "No such replay"),
        (status = 503, description = "Database down")))]
pub async fn read_one(
    request: HttpRequest,
    state: web::Data<State>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let (tenant, id) = (tenant(&request), known(&id)?);
    let found = state
        .read("replay", async |client| {
            replays::list(client, &tenant, Some(id), 1).await
        })
        .await?;
    let found = found.into_iter().next();
    Ok(fresh(&Replay::from(found.ok_or_else(unknown)?)))
}

/// Halts a replay, has it go on, or ends it for good.
///
/// # Errors
/// 404 if there is none, 409 if it is not in a state that allows it, 503 while the database does not
/// answer.
#[utoipa::path(post, path = "/api/v1/events/replays/{replay_id}/{verb}", tag = "replays",
    params(("replay_id" = String, Path, description = "The id of the replay"),
        ("verb" = String, Path, description = "`pause`, `resume` or `cancel`")),
    responses((status = 200, body = Replay), (status = 404, description = "No such replay"),
        (status = 409, description = "It has ended, or is not paused"), (status = 503, description = "Database down")))]
pub async fn change(
    request: HttpRequest,
    state: web::Data<State>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let (id, verb) = path.into_inner();
    let (from, to): (&[&str], &str) = match verb.as_str() {
        "pause" => (&["running"], "paused"),
        "resume" => (&["paused"], "running"),
        "cancel" => (&["running", "paused"], "cancelled"),
        _ => return Err(Problem::not_found("Not found")),
    };
    let (tenant, id) = (tenant(&request), known(&id)?);
    let changed = state
        .read("replay", async |client| {
            let changed = replays::change(client, &tenant, id, from, to).await?;
            let now = replays::list(client, &tenant, Some(id), 1).await?;
            Ok((changed.is_some(), now.into_iter().next()))
        })
        .await?;
    match changed {
        (true, Some(replay)) => Ok(fresh(&Replay::from(replay))),
        (false, Some(replay)) => {
            let detail = format!("The replay is {}: {verb} means nothing to it", replay.state);
            Err(Problem::new(StatusCode::CONFLICT, detail))
        }
        (_, None) => Err(unknown()),
    }
}

fn known(id: &str) -> Result<Uuid, Problem> {
    Uuid::try_parse(id).map_err(|_| unknown())
}

fn unknown() -> Problem {
    Problem::not_found("Replay not found")
}
