//! Projections: the state of an entity, those of a type, and what is defined.

use std::fmt::Debug;

use actix_web::{HttpRequest, HttpResponse, web};
use domain::field::Code;
use domain::fold::Extensions;
use domain::{Json, TenantId, timestamp};
use serde::Serialize;
use service::Problem;
use store::projections::reads::{self, Filter};
use store::projections::{StoredDefinition, definitions, preview};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::page::{fresh, page};
use super::request::tenant;
use crate::cache::Key;
use crate::parameters::Parameters;
use crate::state::State;

/// The state of an entity, folded from its events.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventProjection<'a> {
    /// Identifies the state of this entity.
    pub projection_id: &'a str,
    /// The projection.
    pub projection_name: &'a str,
    /// The entity.
    #[schema(example = "7")]
    pub entity_id: &'a str,
    /// Its type.
    #[schema(example = "order")]
    pub entity_type: &'a str,
    /// What the fold has made of the events.
    #[schema(value_type = Object)]
    pub state: &'a Json,
    /// How many events are in it.
    pub version: i64,
    /// The last of them, in the order of the stream.
    #[schema(required = true)]
    pub last_event_id: Option<&'a str>,
    /// The version of the definition it is folded by.
    pub definition_version: i32,
    /// Why an event could not be folded, if one could not: the last one. The others are.
    #[schema(required = true)]
    pub error: Option<&'a str>,
    /// That event.
    #[schema(required = true)]
    pub error_event_id: Option<Uuid>,
    /// When the first event was folded.
    #[serde(serialize_with = "timestamp::serialize")]
    pub created_at: OffsetDateTime,
    /// When the last event was folded.
    #[serde(serialize_with = "timestamp::serialize")]
    pub updated_at: OffsetDateTime,
}

/// States of entities of one type.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventProjectionList<'a> {
    /// The states, by the names of their projections and by the ids of the entities.
    pub projections: Vec<EventProjection<'a>>,
    /// The limit used.
    pub limit: u32,
    /// Whether there are more after this page.
    pub has_more: bool,
    /// What to send as `after` and `name` for the next page.
    #[schema(required = true)]
    pub next_after: Option<&'a str>,
}

/// What is folded, and how.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProjectionDefinition {
    /// Its name.
    #[schema(example = "order-totals")]
    pub name: String,
    /// The type of the entities it is about.
    #[schema(example = "order")]
    pub entity_type: String,
    /// The one entity it is about; null is each of the type.
    #[schema(required = true)]
    pub entity_id: Option<String>,
    /// The patterns of the event types that are folded.
    pub event_types: Vec<String>,
    /// A rule, or several.
    #[schema(value_type = Object, example = json!({"rule": "sum", "field": "total", "as": "sum"}))]
    pub fold: serde_json::Value,
    /// Which version of the definition this is.
    pub version: i32,
    /// `building`: its history is being read, and it is not to be seen yet; `live`.
    #[schema(example = "live")]
    pub state: String,
    /// Entities whose history is read.
    pub entities: i64,
    /// How many there were when that began; null for users, and before.
    #[schema(required = true)]
    pub entities_total: Option<i64>,
    /// Events read.
    pub events: i64,
    /// What keeps it from being built.
    #[schema(required = true)]
    pub problem: Option<String>,
    /// When it was defined.
    #[serde(serialize_with = "timestamp::serialize")]
    pub created_at: OffsetDateTime,
    /// When it went live.
    #[serde(serialize_with = "timestamp::serialize_option")]
    #[schema(required = true)]
    pub built_at: Option<OffsetDateTime>,
}

/// What is defined.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProjectionDefinitions {
    /// By name; one that is being rebuilt stands there twice.
    pub definitions: Vec<ProjectionDefinition>,
}

impl From<StoredDefinition> for ProjectionDefinition {
    fn from(of: StoredDefinition) -> Self {
        let patterns = of.definition.event_types.iter();
        Self {
            event_types: patterns.map(|of| of.as_str().to_owned()).collect(),
            fold: of.definition.fold.to_value(),
            name: of.definition.name,
            entity_type: of.definition.entity_type,
            entity_id: of.definition.entity_id,
            version: of.version,
            state: of.state,
            entities: of.entities,
            entities_total: of.entities_total,
            events: of.events,
            problem: of.problem,
            created_at: of.created_at,
            built_at: of.built_at,
        }
    }
}

impl<'a> From<&'a reads::Projection> for EventProjection<'a> {
    fn from(of: &'a reads::Projection) -> Self {
        Self {
            projection_id: &of.projection_id,
            projection_name: &of.name,
            entity_id: &of.entity_id,
            entity_type: &of.entity_type,
            state: &of.state,
            version: of.version,
            last_event_id: of.last_event_id.as_deref(),
            definition_version: of.definition_version,
            error: of.error.as_deref(),
            error_event_id: of.error_event_id,
            created_at: of.created_at,
            updated_at: of.updated_at,
        }
    }
}

/// What is defined, with how far each is built.
///
/// # Errors
/// 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/events/projections", tag = "projections",
    params(("name" = Option<String>, Query, description = "only the one of that name")),
    responses((status = 200, body = ProjectionDefinitions), (status = 422, description = "A wrong parameter"),
        (status = 503, description = "Database down")))]
pub async fn list(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let tenant = tenant(&request);
    let mut parameters = Parameters::from_query(request.query_string())?;
    let name = parameters.text("name");
    parameters.finish()?;
    let all = state
        .read("projections", async |client| {
            definitions::list(&***client, Some(&tenant)).await
        })
        .await?;
    let wanted = |of: &StoredDefinition| name.as_ref().is_none_or(|n| *n == of.definition.name);
    let definitions = all.into_iter().filter(wanted).map(Into::into).collect();
    Ok(fresh(&ProjectionDefinitions { definitions }))
}

/// The state of an entity (S4-39): by the projection of that name, or by the only one there is.
///
/// # Errors
/// 404 if it has none, 422 if it has several and none is named, 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/events/projections/{entity_type}/{entity_id}", tag = "projections",
    params(("entity_type" = String, Path, description = "The type of the entity, `user` for users"),
        ("entity_id" = String, Path, description = "The entity"),
        ("name" = Option<String>, Query, description = "The projection; needed if there are several"),
        ("until" = Option<Uuid>, Query, description = "The state as it was after this event of the entity, refolded; `last_event_id` and `error_event_id` are null then. Reducers and upcasters in Rust are known to the processor alone")),
    responses((status = 200, body = EventProjection), (status = 404, description = "No such state"),
        (status = 422, description = "A wrong parameter, or several projections"),
        (status = 503, description = "Database down")))]
pub async fn read(
    request: HttpRequest,
    state: web::Data<State>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let (entity_type, entity_id) = path.into_inner();
    show(&request, &state, entity_type, entity_id).await
}

/// The state of the entity `rebuild`.
pub(super) async fn read_rebuild(
    request: HttpRequest,
    state: web::Data<State>,
    entity_type: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    show(
        &request,
        &state,
        entity_type.into_inner(),
        "rebuild".to_owned(),
    )
    .await
}

async fn show(
    request: &HttpRequest,
    state: &State,
    entity_type: String,
    entity_id: String,
) -> Result<HttpResponse, Problem> {
    let mut parameters = Parameters::from_query(request.query_string())?;
    let filter = Filter {
        name: parameters.text("name"),
        entity_id: storable(&mut parameters, "entity_id", entity_id),
        limit: 2,
        ..Filter::default()
    };
    let entity_type = storable(&mut parameters, "entity_type", entity_type).unwrap_or_default();
    let until = parameters.raw_text("until").map(|text| text.parse());
    if let Some(Err(_)) = until {
        parameters.refuse("until", Code::BadFormat, "must be the id of an event");
    }
    parameters.finish()?;
    let tenant = tenant(request);
    let max_bytes = state.max_response_bytes;
    let find = async || {
        state
            .read("projection", async |client| {
                reads::list(client, &tenant, &entity_type, &filter, max_bytes).await
            })
            .await
    };
    if let Some(Ok(until)) = until {
        let found = find().await?;
        let past = as_of(state, &tenant, only(&found.rows)?, until).await?;
        return state.answer(state.hold(0)?, &EventProjection::from(&past));
    }
    let conditions: [&dyn Debug; 3] = [&entity_type, &filter.entity_id, &filter.name];
    let key = Key::new("projection", &tenant, &conditions, state.kept.projections);
    let load = async || {
        let found = find().await?;
        let one = only(&found.rows)?;
        let _held = state.hold(found.bytes)?;
        let body = serde_json::value::to_raw_value(&EventProjection::from(one));
        body.map_err(|error| Problem::internal(&error))
    };
    state.answer_kept(key, load).await
}

/// The one that there is.
fn only(found: &[reads::Projection]) -> Result<&reads::Projection, Problem> {
    match found {
        [] => Err(Problem::not_found("Projection not found")),
        [one] => Ok(one),
        [one, other, ..] => {
            let message = format!("is needed: there are {}, {} …", one.name, other.name);
            Err(Problem::unprocessable("name", Code::Missing, message))
        }
    }
}

/// The state as it was after that event.
async fn as_of(
    state: &State,
    tenant: &TenantId,
    now: &reads::Projection,
    until: Uuid,
) -> Result<reads::Projection, Problem> {
    let folded = state
        .read("projection", async |client| {
            let all = definitions::list(&***client, Some(tenant)).await?;
            let live =
                |of: &&StoredDefinition| of.definition.name == now.name && of.state == "live";
            match all.iter().find(live) {
                Some(of) => {
                    let entity = &now.entity_id;
                    preview(client, &Extensions::default(), of, entity, Some(until)).await
                }
                None => Ok(None),
            }
        })
        .await?;
    let Some((folded, version, error)) = folded else {
        let detail = format!("No state after the event {until}");
        return Err(Problem::not_found(detail));
    };
    Ok(reads::Projection {
        state: Json::from_stored(serde_json::Value::Object(folded).to_string()),
        version,
        last_event_id: None,
        error,
        error_event_id: None,
        ..now.clone()
    })
}

/// The states of the entities of a type, or of those with a value in their state.
///
/// # Errors
/// 422 for wrong parameters, 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/events/projections/{projection}", tag = "projections",
    params(("projection" = String, Path, description = "The type of the entities"),
        ("name" = Option<String>, Query, description = "Of this projection"),
        ("field" = Option<String>, Query, description = "A path in the state, such as `total.amount`"),
        ("value" = Option<String>, Query, description = "What stands there, as text"),
        ("after" = Option<String>, Query, description = "Only entities after this one, with `name`"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, default 100")),
    responses((status = 200, body = EventProjectionList), (status = 422, description = "A wrong parameter"),
        (status = 503, description = "Database down")))]
pub async fn of_type(
    request: HttpRequest,
    state: web::Data<State>,
    entity_type: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let mut parameters = Parameters::from_query(request.query_string())?;
    let (limit, _) = parameters.page(100);
    let field = parameters.text("field").filter(|field| !field.is_empty());
    let value = parameters.text("value");
    if field.is_some() != value.is_some() {
        let missing = if field.is_some() { "value" } else { "field" };
        parameters.refuse(
            missing,
            Code::Missing,
            "is needed: field and value go together",
        );
    }
    let name = parameters.text("name");
    let after = parameters.raw_text("after");
    let after = after.and_then(|after| storable(&mut parameters, "after", after));
    if after.is_some() && name.is_none() {
        parameters.refuse("name", Code::Missing, "is needed beside after");
    }
    let entity_type = storable(&mut parameters, "projection", entity_type.into_inner());
    parameters.finish()?;
    let path = |field: String| -> Vec<String> {
        match field.strip_prefix('/') {
            Some(pointer) => pointer.split('/').map(str::to_owned).collect(),
            None => field.split('.').map(str::to_owned).collect(),
        }
    };
    let filter = Filter {
        after: name.clone().zip(after),
        name,
        field: field.map(path).zip(value),
        limit: i64::from(limit) + 1,
        ..Filter::default()
    };
    let tenant = tenant(&request);
    let max_bytes = state.max_response_bytes;
    let entity_type = entity_type.unwrap_or_default();
    let found = state
        .read("projections", async |client| {
            reads::list(client, &tenant, &entity_type, &filter, max_bytes).await
        })
        .await?;
    let (rows, held, has_more) = page(&state, found, limit)?;
    let last = rows.last().filter(|_| has_more);
    let answer = EventProjectionList {
        projections: rows.iter().map(Into::into).collect(),
        limit,
        has_more,
        next_after: last.map(|last| last.entity_id.as_str()),
    };
    state.answer(held, &answer)
}

/// A text that may be longer than the columns of events.
fn storable(parameters: &mut Parameters<'_>, name: &str, text: String) -> Option<String> {
    if text.contains('\0') {
        parameters.refuse(name, Code::NotStorable, "must not contain NUL");
        return None;
    }
    Some(text)
}
