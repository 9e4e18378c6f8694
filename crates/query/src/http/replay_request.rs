//! What is asked of a replay: which events, and who gets them.

use actix_web::http::StatusCode;
use domain::TenantId;
use domain::field::Code;
use serde::Deserialize;
use serde_json::{Value, json};
use service::Problem;
use store::replays::{Request, Selection};
use store::replays_to_processors;
use utoipa::ToSchema;

use crate::parameters::Parameters;
use crate::state::State;

/// The members of a request.
const KNOWN: [&str; 13] = [
    "event_ids",
    "stream_id",
    "start_time",
    "end_time",
    "started_at",
    "ended_at",
    "event_type",
    "target_service",
    "projections",
    "processors",
    "live",
    "rate",
    "limit",
];
/// Ids of one request.
const MAX_IDS: usize = 10_000;

/// What to replay, and for whom (S4-32). Of `event_ids`, `stream_id`, `start_time` with `end_time`, and
/// `event_type`, the first that is there selects (S4-33).
#[derive(Debug, Deserialize, ToSchema)]
#[expect(
    dead_code,
    reason = "describes the body; Parameters reads it, naming every wrong field"
)]
pub struct EventReplayRequest {
    /// These, as far as they are there.
    event_ids: Option<Vec<String>>,
    /// `{aggregate_type}:{aggregate_id}`, or `user:{user_id}`
    #[schema(example = "order:7")]
    stream_id: Option<String>,
    #[schema(format = DateTime)]
    start_time: Option<String>,
    #[schema(format = DateTime)]
    end_time: Option<String>,
    /// Only this type; alone all events of it.
    event_type: Option<String>,
    /// The service that gets the events, on the topic `replay.{target_service}`. Without one, the
    /// projections of their entities are refolded.
    #[schema(pattern = "^[a-zA-Z0-9._-]{1,100}$")]
    target_service: Option<String>,
    /// Only these projections.
    projections: Option<Vec<String>>,
    /// The processors of these names run with the events once more, as if they were new; no projection is
    /// refolded.
    processors: Option<Vec<String>>,
    /// The events go to their users as far as these listen, as messages with `"replayed":true` that no
    /// channel keeps; no projection is refolded.
    #[schema(default = false)]
    live: Option<bool>,
    /// Shows the events and what would change; changes nothing.
    #[schema(default = false)]
    dry_run: Option<bool>,
    /// Events a second at most.
    #[schema(minimum = 1, maximum = 100_000, default = 1_000)]
    rate: Option<u32>,
    /// Dry run: how many of the events to show.
    #[schema(minimum = 1, maximum = 1_000, default = 100)]
    limit: Option<u32>,
}

/// Reads what is asked for; what is wrong is noted in `parameters`, and `None` if nothing selects.
pub(super) fn read(
    parameters: &mut Parameters<'_>,
    tenant_id: TenantId,
    body: &[u8],
) -> Option<Request> {
    let mut asked: Value = serde_json::from_slice(body).unwrap_or_else(|_| json!({}));
    // What means nothing is not kept: some of it could not be read again.
    if let Some(members) = asked.as_object_mut() {
        members.retain(|name, _| KNOWN.contains(&name.as_str()));
    }
    let ids = texts(parameters, &asked, "event_ids", MAX_IDS);
    let stream = parameters.raw_text("stream_id");
    let event_type = parameters.event_type();
    let times = (
        parameters.time(&["start_time", "started_at"]),
        parameters.time(&["end_time", "ended_at"]),
    );
    let selection = match (ids, stream, times) {
        (Some(ids), ..) if ids.is_empty() => {
            parameters.refuse("event_ids", Code::OutOfRange, "must name an event");
            None
        }
        (Some(ids), ..) => {
            let candidates = ids
                .iter()
                .flat_map(|id| domain::id::candidates(&tenant_id, id));
            Some(Selection::Ids(candidates.collect()))
        }
        (None, Some(stream), _) => Some(Selection::Stream(stream)),
        (None, None, (Some(start), Some(end))) if start <= end => Some(Selection::Time(start, end)),
        (None, None, (Some(_), Some(_))) => {
            parameters.refuse(
                "end_time",
                Code::OutOfRange,
                "must not be before start_time",
            );
            None
        }
        (None, None, (Some(_), None)) => {
            parameters.refuse("end_time", Code::Missing, "is needed beside start_time");
            None
        }
        (None, None, (None, Some(_))) => {
            parameters.refuse("start_time", Code::Missing, "is needed beside end_time");
            None
        }
        (None, None, (None, None)) => event_type.is_some().then_some(Selection::Type),
    };
    let target_service = parameters.text("target_service");
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if let Some(name) = &target_service
        && !((1..=100).contains(&name.len()) && name.chars().all(plain))
    {
        let message = "must be of 1 to 100 letters, digits, dots, dashes and underscores";
        parameters.refuse("target_service", Code::BadFormat, message);
    }
    let projections = texts(parameters, &asked, "projections", 100);
    if projections.is_some() && target_service.is_some() {
        let message = "must not stand beside target_service: replay once for each";
        parameters.refuse("projections", Code::OutOfRange, message);
    }
    let processors = texts(parameters, &asked, "processors", 100);
    if processors.is_some() && (projections.is_some() || target_service.is_some()) {
        let message = "must not stand beside target_service or projections: replay once for each";
        parameters.refuse("processors", Code::OutOfRange, message);
    }
    if processors.as_ref().is_some_and(Vec::is_empty) {
        parameters.refuse("processors", Code::OutOfRange, "must name a processor");
    }
    let live = parameters.boolean("live").unwrap_or(false);
    if live && (processors.is_some() || projections.is_some() || target_service.is_some()) {
        let message =
            "must not stand beside target_service, projections or processors: replay once for each";
        parameters.refuse("live", Code::OutOfRange, message);
    }
    let rate = parameters.integer("rate", 1, 100_000).unwrap_or(1_000);
    Some(Request {
        tenant_id,
        selection: selection?,
        event_type,
        target_service,
        projections,
        processors,
        live,
        rate: i32::try_from(rate).unwrap_or(i32::MAX),
        asked,
    })
}

/// Refuses processors that are not there.
pub(super) async fn processors_exist(state: &State, asked: &Request) -> Result<(), Problem> {
    let Some(names) = &asked.processors else {
        return Ok(());
    };
    let unknown = state
        .read("replay", async |client| {
            replays_to_processors::unknown(client, &asked.tenant_id, names).await
        })
        .await?;
    match unknown.first() {
        None => Ok(()),
        Some(name) => {
            let message = format!("there is no processor named {name}");
            let problem = Problem::unprocessable("processors", Code::IllegalValue, message);
            Err(problem.with_status(StatusCode::NOT_FOUND))
        }
    }
}

/// An array of texts.
fn texts(
    parameters: &mut Parameters<'_>,
    asked: &Value,
    name: &str,
    most: usize,
) -> Option<Vec<String>> {
    let value = asked.get(name).filter(|value| !value.is_null())?;
    let texts: Option<Vec<String>> = serde_json::from_value(value.clone()).ok();
    let texts = texts.filter(|texts| texts.len() <= most);
    if texts.is_none() {
        let message = format!("must be an array of at most {most} texts");
        parameters.refuse(name, Code::WrongType, message);
    }
    texts
}
