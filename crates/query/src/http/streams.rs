//! Streams: the history of one aggregate, or of one user, in its order.

use actix_web::{HttpRequest, HttpResponse, web};
use domain::field::Code;
use domain::stream;
use serde::Serialize;
use service::{EventResponse, Problem};
use store::stream_reads::{self, Head, Kind, MAX_NUMBERED, Window};
use utoipa::ToSchema;

use super::listing;
use super::request::{only_about, tenant};
use crate::parameters::{MAX_LIMIT, Parameters};
use crate::state::State;

/// A stream, or a part of it (S4-31).
#[derive(Debug, Serialize, ToSchema)]
pub struct EventStream<'a> {
    /// `{entity_type}:{entity_id}`
    #[schema(example = "order:7")]
    pub stream_id: &'a str,
    /// The same as `entity_type`.
    pub stream_type: &'a str,
    /// What stands after the first colon of the id; without a colon, the whole id.
    pub entity_id: &'a str,
    /// What stands before the first colon of the id; without a colon, the whole id.
    pub entity_type: &'a str,
    /// The number of the stream's last event, which is what `expected_version` names; 0 before the
    /// first. Null for a user with more than 100,000 events.
    #[schema(required = true)]
    pub version: Option<i64>,
    /// True for a user's stream, whose events are numbered as they are read.
    pub implicit: bool,
    /// The events, each with its `stream_version`.
    pub events: Vec<EventResponse<'a>>,
    /// The limit used.
    pub limit: u32,
    /// Whether there are more in this direction.
    pub has_more: bool,
    /// What to send as `from_version` for them; null at the end.
    #[schema(required = true)]
    pub next_version: Option<i64>,
}

#[derive(Clone, Copy)]
enum Direction {
    Forward,
    Backward,
}

/// The events of an aggregate by their versions (S4-30), or with `user:{user_id}` those of a user that
/// belong to no aggregate, numbered in the order of their times. A stream without events has version 0.
///
/// # Errors
/// 400 and 422 for wrong parameters, 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/events/stream/{stream_id}", tag = "streams",
    params(("stream_id" = String, Path, description = "`{aggregate_type}:{aggregate_id}`, or `user:{user_id}`"),
        ("from_version" = Option<u32>, Query, description = "the first version of the answer; by default the first or, backward, the last"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, default 100"),
        ("direction" = Option<String>, Query, description = "forward (default) or backward")),
    responses((status = 200, body = EventStream), (status = 400, description = "An unknown value"),
        (status = 422, description = "A wrong parameter"), (status = 503, description = "Database down")))]
pub async fn read(
    request: HttpRequest,
    state: web::Data<State>,
    stream_id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let tenant = tenant(&request);
    // A stream of an aggregate holds events of many users.
    only_about(&request, stream_id.strip_prefix("user:"))?;
    let mut parameters = Parameters::from_query(request.query_string())?;
    let from = parameters
        .integer("from_version", 0, u32::MAX)
        .map(i64::from);
    let limit = parameters.integer("limit", 1, MAX_LIMIT).unwrap_or(100);
    let direction = parameters.choice(
        "direction",
        &[Direction::Forward, Direction::Backward],
        |direction| match direction {
            Direction::Forward => "forward",
            Direction::Backward => "backward",
        },
    );
    if stream_id.contains('\0') {
        parameters.refuse("stream_id", Code::NotStorable, "must not contain NUL");
    }
    parameters.finish()?;
    let backward = matches!(direction, Some(Direction::Backward));
    let window = Window {
        from,
        limit: i64::from(limit),
        backward,
    };
    let max_bytes = state.max_response_bytes;
    let (head, mut fetched) = state
        .read("stream", async |client| {
            let head = stream_reads::head(client, &tenant, &stream_id).await?;
            let events =
                stream_reads::read(client, &tenant, &stream_id, head, window, max_bytes).await?;
            Ok((head, events))
        })
        .await?;
    if fetched.cut {
        return Err(Problem::unprocessable(
            "limit",
            Code::OutOfRange,
            format!(
                "the events are more than the {max_bytes} bytes an answer may hold; ask for fewer than {limit}"
            ),
        ));
    }
    let _held = state.hold(fetched.bytes)?;
    let next_version = next(&head, &fetched.rows, backward);
    // An aggregate may have the name of a user's stream.
    let about = |user: Option<&str>| only_about(&request, user).is_ok();
    let rows = &mut fetched.rows;
    rows.retain(|row| about(row.event.user_id.as_deref()));
    let (entity_type, entity_id) = stream::split(&stream_id);
    let stream = EventStream {
        stream_id: &stream_id,
        stream_type: entity_type,
        entity_id,
        entity_type,
        version: head.version,
        implicit: head.kind == Kind::Implicit,
        events: fetched.rows.iter().map(listing::response).collect(),
        limit,
        has_more: next_version.is_some(),
        next_version,
    };
    state.answer(state.hold(0)?, &stream)
}

/// The version after the last of these events in that direction, if there is one.
fn next(head: &Head, events: &[store::event_reads::StoredEvent], backward: bool) -> Option<i64> {
    let last = events.last()?.stream_version?;
    let next = if backward { last - 1 } else { last + 1 };
    let end = head.version.unwrap_or(MAX_NUMBERED);
    (1..=end).contains(&next).then_some(next)
}
