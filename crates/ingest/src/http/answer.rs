//! The bodies of the good answers. Each is written before its events go to the log, which takes them
//! over.

use domain::write::Write as _;
use domain::{Code, Event, EventStatus};
use serde::Serialize;
use service::EventResponse;
use store::outcomes::Outcome;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::accept::{Batch, Rejected};

/// About how many bytes an event takes in an answer beside its objects.
const MEMBERS: usize = 800;

/// The answer to POST /api/events (S1-07).
#[derive(Debug, Serialize, ToSchema)]
pub struct Received {
    /// `Event received successfully`
    #[schema(example = "Event received successfully")]
    pub message: &'static str,
    /// The id under which the event is stored.
    pub event_id: Uuid,
    /// Where the request waited until it was stored: its number in the stream of its aggregate.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub stream_version: Option<i64>,
}

/// The answer to a batch.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum BatchAnswer<'a> {
    /// The events, in the order of the request (S0-28).
    Events(Vec<EventResponse<'a>>),
    /// With `?partial=true`.
    Partial(PartialBatch<'a>),
}

/// The answer to a batch with `?partial=true` (C29).
#[derive(Debug, Serialize, ToSchema)]
pub struct PartialBatch<'a> {
    /// The accepted events, in the order of the request.
    pub events: Vec<EventResponse<'a>>,
    /// What was wrong with the others.
    pub errors: Vec<ElementError<'a>>,
    /// How many were accepted.
    pub accepted: usize,
    /// How many were left out.
    pub rejected: usize,
}

/// What was wrong with one element of a batch.
#[derive(Debug, Serialize, ToSchema)]
pub struct ElementError<'a> {
    /// Its place in the batch, from 0.
    pub index: usize,
    /// The field, index included.
    #[schema(example = "[3].user_id")]
    pub path: &'a str,
    /// A stable word.
    #[schema(value_type = String, example = "wrong_type")]
    pub code: Code,
    /// A sentence.
    #[schema(example = "must be a string")]
    pub message: &'a str,
}

/// The answer to one frontend event (S0-21, S4-52).
#[derive(Debug, Serialize, ToSchema)]
pub struct Collected {
    /// `accepted`
    #[schema(example = "accepted")]
    pub status: &'static str,
    /// The id under which the event is stored.
    pub event_id: Uuid,
    /// `Event published to stream`
    #[schema(example = "Event published to stream")]
    pub message: &'static str,
}

/// The answer to a frontend batch (S0-23).
#[derive(Debug, Serialize, ToSchema)]
pub struct CollectedBatch<'a> {
    /// `accepted`
    #[schema(example = "accepted")]
    pub status: &'static str,
    /// How many were accepted.
    pub processed_count: usize,
    /// Their ids, in the order of the request.
    pub event_ids: Vec<Uuid>,
    /// `Batch of N events published to stream`
    #[schema(example = "Batch of 2 events published to stream")]
    pub message: String,
    /// With `?partial=true`: what was wrong with the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub errors: Option<Vec<ElementError<'a>>>,
    /// With `?partial=true`: how many were left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub rejected: Option<usize>,
}

/// The answer to messages of Segment's and RudderStack's clients.
#[derive(Debug, Serialize, ToSchema)]
pub struct Messages<'a> {
    /// `true`
    pub success: bool,
    /// What was wrong with messages that were left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ElementError<'a>>,
}

/// Writes a [`Received`].
#[must_use]
pub fn received(event: &Event, outcome: Option<&Outcome>) -> Vec<u8> {
    json(&Received {
        message: "Event received successfully",
        event_id: event.event_id,
        stream_version: response(event, outcome).stream_version,
    })
}

/// Writes a [`Collected`].
#[must_use]
pub fn collected(event: &Event, _: Option<&Outcome>) -> Vec<u8> {
    json(&Collected {
        status: "accepted",
        event_id: event.event_id,
        message: "Event published to stream",
    })
}

/// Writes an [`EventResponse`].
#[must_use]
pub fn created(event: &Event, outcome: Option<&Outcome>) -> Vec<u8> {
    let mut body = Vec::with_capacity(size(event));
    response(event, outcome).write(&mut body);
    body
}

/// An event, and where the request waited for that, that it is stored.
fn response<'a>(event: &'a Event, outcome: Option<&Outcome>) -> EventResponse<'a> {
    let pending = EventResponse::pending(event);
    match outcome {
        Some(Outcome::Stored { stream_version }) => EventResponse {
            status: EventStatus::Processed.as_str(),
            stream_version: *stream_version,
            ..pending
        },
        _ => pending,
    }
}

/// Writes a [`BatchAnswer`].
#[must_use]
pub fn created_many(batch: &Batch, partial: bool, outcomes: &[Option<Outcome>]) -> Vec<u8> {
    let accepted = batch.accepted.iter().enumerate();
    let outcome = |n| outcomes.get(n).and_then(Option::as_ref);
    let events: Vec<_> = accepted
        .map(|(n, one)| response(&one.event, outcome(n)))
        .collect();
    if partial {
        return json(&BatchAnswer::Partial(PartialBatch {
            accepted: events.len(),
            events,
            errors: errors(&batch.rejected),
            rejected: batch.rejected.len(),
        }));
    }
    // Growing a body of some tens of kilobytes costs as much as writing it.
    let mut body = Vec::with_capacity(batch.accepted.iter().map(|one| size(&one.event)).sum());
    events.as_slice().write(&mut body);
    body
}

/// About how many bytes an event takes in an answer.
fn size(event: &Event) -> usize {
    MEMBERS + event.objects_bytes()
}

/// Writes a [`CollectedBatch`]; what was left out is there with `?partial=true` only.
#[must_use]
pub fn collected_many(batch: &Batch, partial: bool, _: &[Option<Outcome>]) -> Vec<u8> {
    let count = batch.accepted.len();
    json(&CollectedBatch {
        status: "accepted",
        processed_count: count,
        event_ids: batch
            .accepted
            .iter()
            .map(|one| one.event.event_id)
            .collect(),
        message: format!("Batch of {count} events published to stream"),
        errors: partial.then(|| errors(&batch.rejected)),
        rejected: partial.then_some(batch.rejected.len()),
    })
}

/// The answer to RudderStack's webhook (S4-54).
#[derive(Debug, Serialize, ToSchema)]
pub struct Queued<'a> {
    /// `accepted`
    pub status: &'static str,
    /// `Events queued for processing`
    #[schema(example = "Events queued for processing")]
    pub message: &'static str,
    /// What was wrong with messages that were left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ElementError<'a>>,
}

/// Writes a [`Queued`].
#[must_use]
pub fn queued(batch: &Batch) -> Vec<u8> {
    json(&Queued {
        status: "accepted",
        message: "Events queued for processing",
        errors: errors(&batch.rejected),
    })
}

/// Writes a [`Messages`].
#[must_use]
pub fn messages(batch: &Batch) -> Vec<u8> {
    json(&Messages {
        success: true,
        errors: errors(&batch.rejected),
    })
}

fn errors(rejected: &[Rejected]) -> Vec<ElementError<'_>> {
    let each = rejected.iter().flat_map(|bad| {
        bad.errors.iter().map(|error| ElementError {
            index: bad.index,
            path: &error.path,
            code: error.code,
            message: &error.message,
        })
    });
    each.collect()
}

/// Writing to memory cannot fail.
fn json(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).unwrap_or_default()
}
