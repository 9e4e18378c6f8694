//! What a user did.

use actix_web::{HttpRequest, HttpResponse, web};
use domain::{Json, timestamp};
use serde::Serialize;
use service::Problem;
use store::event_reads;
use time::{Duration, OffsetDateTime};
use utoipa::ToSchema;

use super::listing::{self, EventList, Page};
use super::page::page;
use super::request::{only_about, tenant};
use crate::parameters::Parameters;
use crate::state::State;

/// An event in the short form of the event tracking system (S1-18).
#[derive(Debug, Serialize, ToSchema)]
pub struct TrackedEvent {
    /// What happened.
    pub event_type: String,
    /// When it happened.
    #[serde(serialize_with = "timestamp::serialize")]
    pub timestamp: OffsetDateTime,
    /// About the event.
    #[schema(value_type = Object)]
    pub metadata: Json,
}

/// The answer, by its format.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum UserEvents<'a> {
    /// `short`
    Short(Vec<TrackedEvent>),
    /// `full`
    Full(EventList<'a>),
}

#[derive(Clone, Copy)]
enum Format {
    /// The bare array of S1, with its dates.
    Short,
    /// The list object of S4.
    Full,
}

/// What a user did, newest first: a bare array of the short form, today's and that of the 30 days
/// after by default (S1-15 to S1-18), or with `format=full` the list object, without
/// default dates (C19, C20). Takes every condition of `POST /query`.
///
/// # Errors
/// 400 and 422 for wrong parameters, 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/events/user/{user_id}", tag = "events",
    params(("user_id" = String, Path),
        ("started_at" = Option<String>, Query, description = "also start_time; default today 00:00 UTC"),
        ("ended_at" = Option<String>, Query, description = "also end_time; default 30 days after started_at"),
        ("format" = Option<String>, Query, description = "short (default) or full"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, default 100"),
        ("offset" = Option<u32>, Query),
        ("cursor" = Option<String>, Query, description = "with format=full")),
    responses((status = 200, body = UserEvents), (status = 400, description = "An unknown value"),
        (status = 422, description = "A wrong parameter"), (status = 503, description = "Database down")))]
pub async fn events(
    request: HttpRequest,
    state: web::Data<State>,
    user_id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let mut parameters = Parameters::from_query(request.query_string())?;
    let format = parameters
        .choice(
            "format",
            &[Format::Short, Format::Full],
            |format| match format {
                Format::Short => "short",
                Format::Full => "full",
            },
        )
        .unwrap_or(Format::Short);
    let mut filter = parameters.filter(tenant(&request));
    filter.user_id = parameters.checked("user_id", user_id.into_inner());
    only_about(&request, filter.user_id.as_deref())?;
    if matches!(format, Format::Short) {
        let today = service::clock::now().date().midnight().assume_utc();
        let start = filter.start.unwrap_or(today);
        filter.start = Some(start);
        // Beyond the last date there is nothing to leave out.
        filter.end = filter.end.or(start.checked_add(Duration::days(30)));
    }
    let list = parameters.list("user", filter, 100, true);
    parameters.finish()?;
    if matches!(format, Format::Full) {
        let page = listing::read(&state, "user", &list).await?;
        return page.answer(&state, Page::list);
    }
    let max_bytes = state.max_response_bytes;
    let fetched = state
        .read("user", async |client| {
            let edges = state.edges(client).await?;
            event_reads::list_tracked(client, &edges, &list.filter, &list.window, max_bytes).await
        })
        .await?;
    let (rows, held, _) = page(&state, fetched, list.window.limit)?;
    let events: Vec<TrackedEvent> = rows.into_iter().map(Into::into).collect();
    state.answer(held, &events)
}

impl From<event_reads::TrackedEvent> for TrackedEvent {
    fn from(event: event_reads::TrackedEvent) -> Self {
        Self {
            event_type: event.event_type,
            timestamp: event.timestamp,
            metadata: event.metadata,
        }
    }
}
