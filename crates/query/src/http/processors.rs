//! Processors: what is done with stored events (S4-48 to S4-50).

pub mod body;

use std::str::FromStr as _;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use domain::field::Code;
use domain::processor::Action;
use domain::{FieldError, TenantId, timestamp};
use serde::Serialize;
use serde_json::{Map, Value};
use service::Problem;
use store::processors::{self, Changed, NewProcessor, StoredProcessor};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use self::body::{ProcessorRequest, read_members};
use super::members::members;
use super::page::fresh;
use super::request::{self, tenant};
use crate::parameters::{MAX_LIMIT, Parameters};
use crate::state::State;

/// A processor.
#[derive(Debug, Serialize, ToSchema)]
pub struct Processor {
    /// Its id.
    pub processor_id: Uuid,
    /// Its name; its results are kept under it.
    pub processor_name: String,
    /// `kafka`, `handler` or `log`.
    pub processor_type: String,
    /// Whether it gets events. What waits for one that is off stays.
    pub enabled: bool,
    /// Those of higher priority begin first.
    pub priority: i32,
    /// Which events.
    #[schema(value_type = Object)]
    pub filters: Value,
    /// Its settings.
    #[schema(value_type = Object)]
    pub config: Value,
    /// It comes with the code of the processor, and can only be switched on and off.
    pub from_code: bool,
    /// Attempts that failed.
    pub error_count: i64,
    /// What the last of those said.
    #[schema(required = true)]
    pub last_error: Option<String>,
    /// When an attempt ended last.
    #[serde(serialize_with = "timestamp::serialize_option")]
    #[schema(required = true)]
    pub last_processed_at: Option<OffsetDateTime>,
    /// When it was registered.
    #[serde(serialize_with = "timestamp::serialize")]
    pub created_at: OffsetDateTime,
    /// When it was changed last.
    #[serde(serialize_with = "timestamp::serialize")]
    pub updated_at: OffsetDateTime,
}

/// All processors.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProcessorList {
    /// Those of higher priority first.
    pub processors: Vec<Processor>,
    /// How many these are.
    pub total: usize,
}

/// A processor that is no more.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProcessorDeleted {
    /// `deleted`
    #[schema(example = "deleted")]
    pub status: &'static str,
    /// Its id.
    pub processor_id: Uuid,
}

/// All processors: those registered here, and the handlers that come with the code.
///
/// # Errors
/// 422 for a wrong parameter, 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/events/processors", tag = "processors",
    params(("limit" = Option<u32>, Query, description = "default 1000"), ("offset" = Option<u32>, Query)),
    responses((status = 200, body = ProcessorList), (status = 422, description = "A wrong parameter"),
        (status = 503, description = "Database down")))]
pub async fn list(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let tenant = tenant(&request);
    let mut parameters = Parameters::from_query(request.query_string())?;
    let page = parameters.page(MAX_LIMIT);
    parameters.finish()?;
    let stored = state
        .read("processors", async |client| {
            processors::list(client, &tenant, page).await
        })
        .await?;
    let processors: Vec<_> = stored.into_iter().map(Processor::from).collect();
    Ok(fresh(&ProcessorList {
        total: processors.len(),
        processors,
    }))
}

/// One processor.
///
/// # Errors
/// 404 if there is none of that id, 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/events/processors/{processor_id}", tag = "processors",
    params(("processor_id" = String, Path)),
    responses((status = 200, body = Processor), (status = 404, description = "None of that id"),
        (status = 503, description = "Database down")))]
pub async fn read(
    request: HttpRequest,
    state: web::Data<State>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let stored = found(&state, &tenant(&request), &id).await?;
    Ok(fresh(&Processor::from(stored)))
}

/// Registers a processor (S4-49). Every event that is stored once this is answered goes to it, if its
/// filters let it.
///
/// # Errors
/// 409 if there is one of that name, 422 for a wrong field, 503 while the database does not answer.
#[utoipa::path(post, path = "/api/v1/events/processors", tag = "processors",
    request_body = ProcessorRequest,
    responses((status = 201, body = Processor), (status = 400, description = "No JSON"),
        (status = 409, description = "There is one of that name"),
        (status = 422, description = "A wrong field"), (status = 503, description = "Database down")))]
pub async fn create(
    request: HttpRequest,
    state: web::Data<State>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let tenant = tenant(&request);
    let asked = members(&request::body(&request, payload).await?)?;
    let new = new_processor(&state, &request, &asked).await?;
    let changed = state
        .change("processor", async |db| {
            processors::insert(db, &tenant, &new).await
        })
        .await?;
    let mut response = answer(changed, &new.processor_name)?;
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

/// Changes a processor: the fields that are named. What it has still to do is done as it is then.
///
/// # Errors
/// 404 if there is none of that id, 409 if the name is taken or it comes with the code, 422 for a wrong
/// field, 503 while the database does not answer.
#[utoipa::path(put, path = "/api/v1/events/processors/{processor_id}", tag = "processors",
    params(("processor_id" = String, Path)), request_body = ProcessorRequest,
    responses((status = 200, body = Processor), (status = 400, description = "No JSON"),
        (status = 404, description = "None of that id"),
        (status = 409, description = "There is another of that name, or it comes with the code"),
        (status = 422, description = "A wrong field"), (status = 503, description = "Database down")))]
pub async fn change(
    request: HttpRequest,
    state: web::Data<State>,
    id: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let tenant = tenant(&request);
    let asked = members(&request::body(&request, payload).await?)?;
    let stored = registered(&state, &tenant, &id).await?;
    let processor_id = stored.processor_id;
    let mut all = Map::from_iter([
        ("processor_name".to_owned(), stored.processor_name.into()),
        ("processor_type".to_owned(), stored.processor_type.into()),
        ("enabled".to_owned(), stored.enabled.into()),
        ("priority".to_owned(), stored.priority.into()),
        ("filters".to_owned(), stored.filters),
        ("config".to_owned(), stored.config),
    ]);
    all.extend(asked);
    let new = new_processor(&state, &request, &all).await?;
    let changed = state
        .change("processor", async |db| {
            processors::update(db, &tenant, processor_id, &new).await
        })
        .await?;
    answer(changed, &new.processor_name)
}

/// Switches a processor on or off (S4-50): as `enabled` in the query or the body says, or to the other
/// of the two (C35).
///
/// # Errors
/// 404 if there is none of that id, 422 for a wrong `enabled`, 503 while the database does not answer.
#[utoipa::path(put, path = "/api/v1/events/processors/{processor_id}/toggle", tag = "processors",
    params(("processor_id" = String, Path), ("enabled" = Option<bool>, Query)),
    responses((status = 200, body = Processor), (status = 404, description = "None of that id"),
        (status = 422, description = "A wrong `enabled`"), (status = 503, description = "Database down")))]
pub async fn toggle(
    request: HttpRequest,
    state: web::Data<State>,
    id: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let tenant = tenant(&request);
    let mut query = Parameters::from_query(request.query_string())?;
    let of_query = query.boolean("enabled");
    query.finish()?;
    let body = request::body(&request, payload).await?;
    let mut members = Parameters::from_json(&body)?;
    let of_body = members.boolean("enabled");
    members.finish()?;
    let stored = found(&state, &tenant, &id).await?;
    let (id, enabled) = (stored.processor_id, of_query.or(of_body));
    let changed = state
        .change("processor", async |db| {
            processors::toggle(db, &tenant, id, enabled).await
        })
        .await?;
    answer(changed, "")
}

/// Deletes a processor: it gets no more events, and what it had still to do is skipped. Its results stay.
///
/// # Errors
/// 404 if there is none of that id, 409 if it comes with the code, 503 while the database does not
/// answer.
#[utoipa::path(delete, path = "/api/v1/events/processors/{processor_id}", tag = "processors",
    params(("processor_id" = String, Path)),
    responses((status = 200, body = ProcessorDeleted), (status = 404, description = "None of that id"),
        (status = 409, description = "It comes with the code"), (status = 503, description = "Database down")))]
pub async fn delete(
    request: HttpRequest,
    state: web::Data<State>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let tenant = tenant(&request);
    let processor_id = registered(&state, &tenant, &id).await?.processor_id;
    let deleted = state
        .change("processor", async |db| {
            processors::delete(db, &tenant, processor_id).await
        })
        .await?;
    if !deleted {
        return Err(missing(&id));
    }
    Ok(fresh(&ProcessorDeleted {
        status: "deleted",
        processor_id,
    }))
}

fn missing(id: &str) -> Problem {
    Problem::not_found(format!("Processor not found: {id}"))
}

async fn found(state: &State, tenant: &TenantId, id: &str) -> Result<StoredProcessor, Problem> {
    let uuid = Uuid::from_str(id).map_err(|_| missing(id))?;
    let stored = state
        .read("processors", async |client| {
            processors::find(client, tenant, uuid).await
        })
        .await?;
    stored.ok_or_else(|| missing(id))
}

/// One that was registered here, not one of the code.
async fn registered(
    state: &State,
    tenant: &TenantId,
    id: &str,
) -> Result<StoredProcessor, Problem> {
    let stored = found(state, tenant, id).await?;
    if stored.from_code {
        let detail = format!(
            "{} comes with the code of the processor; it can only be switched on and off",
            stored.processor_name
        );
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    Ok(stored)
}

fn answer(changed: Changed, name: &str) -> Result<HttpResponse, Problem> {
    match changed {
        Changed::Done(stored) => Ok(fresh(&Processor::from(*stored))),
        Changed::NameTaken => {
            let detail = format!("There is a processor of the name {name} already");
            Err(Problem::new(StatusCode::CONFLICT, detail))
        }
        Changed::Missing => Err(Problem::not_found("Processor not found")),
    }
}

/// Reads all that can be said of a processor, and checks what only this service can tell: that the
/// handler is there, and that no event would go round for ever.
async fn new_processor(
    state: &State,
    request: &HttpRequest,
    members: &Map<String, Value>,
) -> Result<NewProcessor, Problem> {
    let mut errors = vec![];
    let (new, action) = read_members(members, &mut errors);
    match action {
        Some(Action::Kafka(topic)) if state.read_topics.contains(&topic) => {
            let message =
                format!("{topic} is read by the processor: the event would go round for ever");
            errors.push(FieldError::new("config.topic", Code::IllegalValue, message));
        }
        Some(Action::Webhook(url)) if errors.is_empty() => {
            let refused = match state.webhooks.endpoint(&url).await {
                Ok(endpoint) if endpoint.is_at(request.connection_info().host()) => {
                    "is this service: the event would come back".to_owned()
                }
                Ok(_) => return Ok(new),
                Err(refused) => refused,
            };
            errors.push(FieldError::new("config.url", Code::BadFormat, refused));
        }
        Some(Action::Handler(name)) if errors.is_empty() => {
            let known = state
                .read("processors", async |client| {
                    processors::handlers(client).await
                })
                .await?;
            if !known.contains(&name) {
                let message = format!("there is no such handler; known are: {}", known.join(", "));
                errors.push(FieldError::new(
                    "config.handler",
                    Code::IllegalValue,
                    message,
                ));
            }
        }
        _ => {}
    }
    if errors.is_empty() {
        Ok(new)
    } else {
        Err(Problem::unprocessables(errors))
    }
}

impl From<StoredProcessor> for Processor {
    fn from(stored: StoredProcessor) -> Self {
        Self {
            processor_id: stored.processor_id,
            processor_name: stored.processor_name,
            processor_type: stored.processor_type,
            enabled: stored.enabled,
            priority: stored.priority,
            filters: stored.filters,
            config: stored.config,
            from_code: stored.from_code,
            error_count: stored.error_count,
            last_error: stored.last_error,
            last_processed_at: stored.last_processed_at,
            created_at: stored.created_at,
            updated_at: stored.updated_at,
        }
    }
}
