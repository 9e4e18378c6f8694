//! Searching events by what they say, and how far the indexes are.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use domain::search::{Highlight, Query, highlight};
use domain::{EventSource, timestamp};
use search::{Engine, Question, SearchError};
use serde::Serialize;
use service::{EventResponse, Problem};
use store::event_reads::{self, Filter};
use store::search as index;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::listing;
use super::page::{fresh, fresh_as};
use super::request::{own, tenant};
use crate::cursor::Scope;
use crate::parameters::Parameters;
use crate::state::State;

/// Most events of a page.
const MAX_LIMIT: u32 = 100;

/// What was found, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct SearchResults<'a> {
    /// The events.
    pub events: Vec<EventResponse<'a>>,
    /// Where in each event the words stand, by its id: at most five fields, each as a piece of HTML in which
    /// only `<em>` is not escaped.
    #[schema(value_type = Object)]
    pub highlights: BTreeMap<Uuid, Vec<Highlight>>,
    /// The limit used.
    pub limit: u32,
    /// Whether there are more after this page.
    pub has_more: bool,
    /// What to send as `cursor`, with the same question, for the next page; null at the end.
    pub next_cursor: Option<String>,
}

/// How far the indexes are.
#[derive(Debug, Serialize, ToSchema)]
pub struct SearchIndexes {
    /// The engine that answers; null if search is off.
    pub engine: Option<&'static str>,
    /// All indexes there are.
    pub indexes: Vec<SearchIndex>,
}

/// How far an index is.
#[derive(Debug, Serialize, ToSchema)]
pub struct SearchIndex {
    /// Its engine.
    pub engine: String,
    /// It has what was stored before this, but for what is reindexed.
    #[serde(serialize_with = "timestamp::serialize")]
    pub indexed_until: OffsetDateTime,
    /// How much of what was stored before is in it (once more), from 0 to 1; null when nothing is left.
    pub reindexed: Option<f64>,
    /// How often it was made.
    pub generation: i64,
    /// Events put in so far.
    pub indexed: i64,
    /// Events that its engine refused; each is a dead letter `search_refused`.
    pub refused: i64,
    /// Why it is not getting on; null if it is.
    pub problem: Option<String>,
    /// Whether a processor is at it.
    pub is_worked_on: bool,
}

impl From<index::Progress> for SearchIndex {
    fn from(of: index::Progress) -> Self {
        let reindexed = match (of.again_from, of.again_at, of.again_until) {
            (Some(from), Some(at), Some(until)) => {
                let whole = (until - from).as_seconds_f64().max(f64::EPSILON);
                Some(((at - from).as_seconds_f64() / whole).clamp(0.0, 1.0))
            }
            _ => None,
        };
        Self {
            engine: of.engine,
            indexed_until: of.at,
            reindexed,
            generation: of.generation,
            indexed: of.indexed,
            refused: of.refused,
            problem: of.problem,
            is_worked_on: of.is_worked_on,
        }
    }
}

/// Events by what they say (S1-42), newest first. `q` is a list of conditions that all hold: `word`,
/// `"some words"`, `begin*`, `field:value`, `field:[10 TO 20]`, `field:>=10`; `-` before one says the
/// contrary. An event is found about a second after it was stored. A user is shown the user's own.
///
/// # Errors
/// 422 for a wrong question with its place, 404 if search is off, 503 while the engine does not answer.
#[utoipa::path(get, path = "/api/v1/events/search", tag = "search",
    params(("q" = String, Query, description = "the question, such as `refund data.amount:>=10 -type:order.test`"),
        ("from" = Option<String>, Query, description = "events of this time or later; also start_time"),
        ("to" = Option<String>, Query, description = "events of this time or earlier; also end_time"),
        ("event_type" = Option<String>, Query), ("user_id" = Option<String>, Query),
        ("source" = Option<String>, Query, description = "also event_source"),
        ("limit" = Option<u32>, Query, description = "1 to 100, default 20"),
        ("cursor" = Option<String>, Query)),
    responses((status = 200, body = SearchResults), (status = 400, description = "An unknown value"),
        (status = 403, description = "Another user's"), (status = 404, description = "Search is off"),
        (status = 422, description = "A wrong question"), (status = 503, description = "The engine is down")))]
pub async fn search(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut parameters = Parameters::from_query(request.query_string())?;
    let text = parameters.raw_text("q").unwrap_or_default();
    let query = match Query::parse(&text) {
        Ok(query) => Some(query),
        Err(error) => {
            parameters.refuse(&error.path, error.code, error.message);
            None
        }
    };
    let source_name = ["source", "event_source"].into_iter();
    let source = source_name
        .filter_map(|name| parameters.choice(name, EventSource::ALL, EventSource::as_str))
        .next();
    let mut filter = Filter {
        tenant_id: tenant(&request),
        event_type: parameters.event_type(),
        user_id: parameters.text("user_id"),
        event_source: source,
        start: parameters.time(&["from", "start_time"]),
        end: parameters.time(&["to", "end_time"]),
        ..Filter::default()
    };
    let limit = parameters.integer("limit", 1, MAX_LIMIT).unwrap_or(20);
    let asked = [("q", text), ("filter", format!("{filter:?}"))];
    let scope = Scope::new(&filter.tenant_id, "search", &asked);
    let after = parameters.cursor(|text| scope.event(text));
    parameters.finish()?;
    own(&request, &mut filter)?;
    let engine = engine(&state)?;
    let question = Question {
        tenant: filter.tenant_id,
        query: query.ok_or_else(|| Problem::bad_request("q is needed"))?,
        from: filter.start,
        to: filter.end,
        event_type: filter.event_type,
        user_id: filter.user_id,
        source,
        after,
        limit: limit + 1,
    };
    let full = usize::try_from(limit).unwrap_or(usize::MAX);
    let read = state.read("search", async |client| {
        let mut found = match engine.find(client, &question).await {
            Ok(found) => found,
            Err(SearchError::Store(error)) => return Err(error),
            Err(error) => return Ok(Err(error)),
        };
        let more = found.len() > full;
        found.truncate(full);
        let places: Vec<_> = found.iter().map(|at| (at.timestamp, at.event_id)).collect();
        let events = event_reads::at(client, &question.tenant, &places).await?;
        Ok(Ok((events, found.last().copied().filter(|_| more))))
    });
    let (events, last) = read.await?.map_err(|error| unavailable(&error))?;
    let shown = |of: &store::event_reads::StoredEvent| {
        (of.event.event_id, highlight(&of.event, &question.query))
    };
    let results = SearchResults {
        highlights: events.iter().map(shown).collect(),
        events: events.iter().map(listing::response).collect(),
        limit,
        has_more: last.is_some(),
        next_cursor: last.map(|last| scope.after_event(last)),
    };
    state.answer(state.hold(0)?, &results)
}

fn engine(state: &State) -> Result<&dyn Engine, Problem> {
    let engine = state.search.as_deref();
    engine.ok_or_else(|| Problem::not_found("Search is off here (SEARCH=off)"))
}

fn unavailable(error: &SearchError) -> Problem {
    tracing::warn!(%error, "search failed");
    Problem::unavailable("The search engine is not available", 2)
}

/// How far the indexes are that events are searched with.
///
/// # Errors
/// 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/events/search/indexes", tag = "search",
    responses((status = 200, body = SearchIndexes), (status = 503, description = "Database down")))]
pub async fn indexes(state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let all = state.read("search_indexes", async |client| index::all(client).await);
    let all = all.await?;
    Ok(fresh(&view(&state, all)))
}

/// Has all that is stored put into the indexes again, beside what is stored meanwhile; events stay to be found.
///
/// # Errors
/// 404 if search is off, 503 while the database does not answer.
#[utoipa::path(post, path = "/api/v1/events/search/reindex", tag = "search",
    responses((status = 202, body = SearchIndexes), (status = 404, description = "Search is off"),
        (status = 503, description = "Database down")))]
pub async fn reindex(state: web::Data<State>) -> Result<HttpResponse, Problem> {
    engine(&state)?;
    let all = state.change("search_indexes", async |db| {
        let client = db.client().await?;
        index::reindex(&client).await?;
        index::all(&client).await
    });
    let all = all.await?;
    Ok(fresh_as(StatusCode::ACCEPTED, &view(&state, all)))
}

fn view(state: &State, all: Vec<index::Progress>) -> SearchIndexes {
    SearchIndexes {
        engine: state.search.as_ref().map(|engine| engine.name()),
        indexes: all.into_iter().map(Into::into).collect(),
    }
}
