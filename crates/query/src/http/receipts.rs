//! Receipts: what happened to one event.

mod projections;

use actix_web::{HttpRequest, HttpResponse, web};
use domain::{Event, stream, timestamp};
use serde::Serialize;
use service::Problem;
use service::auth::Principal;
use store::log::LOG;
use store::processing::{self, StoredResult};
use store::projections::{OfEvent, of_event};
use store::receipts::{self, Counted, Letter, Receipt, StoredUpTo};
use store::webhooks::{self, Lines, Logged};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::page::fresh;
use super::request::{only_about, tenant};
use super::subscriptions::deliveries::Delivery;
use crate::state::State;
use projections::ReceiptProjection;

/// Attempts to deliver that a receipt shows.
const DELIVERIES: u32 = 100;

/// A position in a log.
#[derive(Debug, Serialize, ToSchema)]
pub struct RecordPosition {
    /// `kafka` or `postgres`.
    #[schema(example = "kafka")]
    pub log: &'static str,
    /// Full name of the topic; null for the Postgres log, which has none.
    #[schema(required = true)]
    pub topic: Option<String>,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

/// Everything that happened to one event.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventReceipt {
    /// The id under which it is stored.
    pub event_id: Uuid,
    /// Its client's own id where that was no UUID.
    #[schema(required = true)]
    pub client_event_id: Option<String>,
    /// `gateway` (over HTTP) or `log` (a producer of the log); null if it was not noted.
    #[schema(required = true, example = "gateway")]
    pub door: Option<&'static str>,
    /// When the door took it.
    #[serde(serialize_with = "timestamp::serialize")]
    pub accepted_at: OffsetDateTime,
    /// The record it was stored from; null if it was not noted.
    #[schema(required = true)]
    pub record: Option<RecordPosition>,
    /// When it was stored.
    #[serde(serialize_with = "timestamp::serialize")]
    pub stored_at: OffsetDateTime,
    /// `pending`, `processing`, `processed`, `failed` or `archived`.
    pub status: String,
    /// The stream of its aggregate or user.
    #[schema(required = true)]
    pub stream_id: Option<String>,
    /// Its version in the stream of its aggregate.
    #[schema(required = true)]
    pub stream_version: Option<i64>,
    /// The rows in which it is counted, as they are now.
    #[schema(required = true)]
    pub counted: Option<CountRows>,
    /// The projections whose states it concerns.
    pub projections: Vec<ReceiptProjection>,
    /// What processors did with it, or have still to do.
    pub processors: Vec<ProcessorRun>,
    /// The last hundred attempts to deliver it to subscribers, the newest first.
    pub deliveries: Vec<Delivery>,
    /// Its announcement.
    pub announced: Announced,
    /// Its way to listeners.
    pub live: Live,
    /// Records of the same event that were dropped.
    pub duplicates: Duplicates,
    /// Records of the same event that were refused.
    pub dead_letters: Vec<LetterInShort>,
}

/// What one processor did with an event.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProcessorRun {
    /// Its name.
    pub processor_name: String,
    /// `success`, `failed`, `skipped`, `retry` (tried again at `due_at`) or `pending`.
    pub status: String,
    /// What it said last.
    #[schema(required = true)]
    pub message: Option<String>,
    /// How often it was begun.
    pub attempts: i32,
    /// When the last attempt ended.
    #[serde(serialize_with = "timestamp::serialize_option")]
    #[schema(required = true)]
    pub processed_at: Option<OffsetDateTime>,
    /// How long that took.
    #[schema(required = true)]
    pub duration_ms: Option<i32>,
    /// When it is to be done, or while it is under way is taken for lost; null once there is an outcome.
    #[serde(serialize_with = "timestamp::serialize_option")]
    #[schema(required = true)]
    pub due_at: Option<OffsetDateTime>,
}

/// The rows of the counts that an event is part of.
#[derive(Debug, Serialize, ToSchema)]
pub struct CountRows {
    /// The type under which it is counted; `other` beyond the limit of types a day.
    pub event_type: String,
    /// Day of `aggregated_events`, UTC.
    #[schema(example = "2026-11-28")]
    pub date: String,
    /// What that row counts.
    pub daily: i64,
    /// Hour of `aggregated_events_hourly`.
    #[serde(serialize_with = "timestamp::serialize")]
    pub hour: OffsetDateTime,
    /// What that row counts.
    pub hourly: i64,
}

/// The announcement of an event.
#[derive(Debug, Serialize, ToSchema)]
pub struct Announced {
    /// The topic, without the deployment's prefix.
    #[schema(example = "event-stream")]
    pub topic: &'static str,
    /// Whether it still waits in the outbox. If not, it was sent right after the commit (where there is
    /// Kafka).
    pub waits: bool,
}

/// The way of an event to listeners.
#[derive(Debug, Serialize, ToSchema)]
pub struct Live {
    /// The user whose channel it goes to, if the bridge lets it through.
    #[schema(required = true)]
    pub user_id: Option<String>,
    /// Why it goes to no channel.
    #[schema(required = true)]
    pub why_not: Option<&'static str>,
}

/// Records that were dropped because their event is stored.
#[derive(Debug, Serialize, ToSchema)]
pub struct Duplicates {
    /// How many.
    pub dropped: i32,
    /// The first of them: topic, partition, offset, and when they were dropped.
    #[schema(value_type = Vec<Object>)]
    pub places: Vec<serde_json::Value>,
}

/// A dead letter, in short.
#[derive(Debug, Serialize, ToSchema)]
pub struct LetterInShort {
    /// Its number.
    pub id: i64,
    /// Where its record stood.
    pub record: RecordPosition,
    /// Why, a stable word.
    pub reason: String,
    /// Why, a sentence.
    pub detail: String,
    /// `open`, `redriven` or `discarded`.
    pub state: String,
    /// When it was kept.
    #[serde(serialize_with = "timestamp::serialize")]
    pub created_at: OffsetDateTime,
}

/// An event that is not stored: where it would be if it were under way, and what looks like it.
#[derive(Debug, Serialize, ToSchema)]
pub struct NoReceipt {
    /// `about:blank`
    pub r#type: &'static str,
    /// `Not Found`
    pub title: &'static str,
    /// 404
    pub status: u16,
    /// What was asked for.
    pub detail: String,
    /// The next position to be stored from each partition: an event under way is at it or beyond.
    pub positions: Vec<Position>,
    /// Dead letters with the event's id, or whose bytes hold it.
    pub dead_letters: Vec<LetterInShort>,
}

/// How far a partition is stored.
#[derive(Debug, Serialize, ToSchema)]
pub struct Position {
    /// The position that is stored next.
    pub next: RecordPosition,
    /// When the last one was stored.
    #[serde(serialize_with = "timestamp::serialize")]
    pub updated_at: OffsetDateTime,
}

/// What was done with an event because of rules.
#[derive(Default)]
struct Done {
    projections: Vec<OfEvent>,
    runs: Vec<StoredResult>,
    attempts: Vec<Logged>,
}

/// What happened to an event: door, position in the log, when it was accepted and stored, where it is
/// counted, and what was dropped or refused as the same.
///
/// # Errors
/// 404 if no event of that id is stored, with the positions of the logs and the dead letters that look
/// like it; 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/events/{event_id}/receipt", tag = "events",
    params(("event_id" = String, Path, description = "UUID, or the client's own id")),
    responses((status = 200, body = EventReceipt),
        (status = 404, description = "Not stored", body = NoReceipt, content_type = "application/problem+json"),
        (status = 503, description = "Database down")))]
pub async fn read(
    request: HttpRequest,
    state: web::Data<State>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let tenant = tenant(&request);
    let ids = domain::id::candidates(&tenant, &id);
    let texts: Vec<String> = ids
        .iter()
        .map(Uuid::to_string)
        .chain([id.clone()])
        .collect();
    let (receipt, letters, positions, done) = state
        .read("receipt", async |client| {
            let mut receipt = None;
            for id in &ids {
                if receipt.is_none() {
                    receipt = receipts::read(client, &tenant, *id).await?;
                }
            }
            let Some(of) = &receipt else {
                let letters = receipts::letters(client, &tenant, &ids, &texts).await?;
                let positions = receipts::stored_up_to(client).await?;
                return Ok((None, letters, positions, Done::default()));
            };
            let id = of.event.event.event_id;
            let lines = Lines {
                event_id: Some(id),
                limit: DELIVERIES,
                ..Lines::default()
            };
            let done = Done {
                projections: of_event(client, &of.event).await?,
                runs: processing::results_of(client, &tenant, id).await?,
                attempts: webhooks::attempts(client, &tenant, &lines).await?,
            };
            let letters = receipts::letters(client, &tenant, &[id], &[]).await?;
            Ok((receipt, letters, vec![], done))
        })
        .await?;
    let user = |receipt: &Receipt| receipt.event.event.user_id.clone();
    let may = |receipt: &Receipt| only_about(&request, user(receipt).as_deref()).is_ok();
    let receipt = receipt.filter(may);
    // What looks like it may be another's, and subscribers are the tenant's.
    let mut done = done;
    let (letters, positions) = match Principal::of(&request).owner() {
        Some(_) => {
            done.attempts.clear();
            (vec![], vec![])
        }
        None => (letters, positions),
    };
    let dead_letters = letters.into_iter().map(LetterInShort::from).collect();
    match receipt {
        Some(receipt) => Ok(fresh(&written(receipt, dead_letters, done))),
        None => Ok(HttpResponse::NotFound()
            .content_type("application/problem+json")
            .json(NoReceipt {
                r#type: "about:blank",
                title: "Not Found",
                status: 404,
                detail: format!("Event not found: {id}"),
                positions: positions.into_iter().map(Position::from).collect(),
                dead_letters,
            })),
    }
}

fn written(receipt: Receipt, dead_letters: Vec<LetterInShort>, done: Done) -> EventReceipt {
    let stored = receipt.event;
    let event: &Event = &stored.event;
    let counted = receipt.counted.map(|counted| counts(event, counted));
    let door = |by_gateway| if by_gateway { "gateway" } else { "log" };
    EventReceipt {
        event_id: event.event_id,
        client_event_id: event.client_event_id.clone(),
        door: receipt.by_gateway.map(door),
        accepted_at: event.received_at,
        record: receipt.position.map(RecordPosition::from),
        stored_at: stored.created_at,
        stream_id: stream::stream_id(event),
        stream_version: stored.stream_version,
        counted,
        projections: (done.projections.into_iter())
            .map(ReceiptProjection::from)
            .collect(),
        processors: done.runs.into_iter().map(ProcessorRun::from).collect(),
        deliveries: done.attempts.into_iter().map(Delivery::from).collect(),
        announced: Announced {
            topic: domain::subject::ANNOUNCEMENTS,
            waits: receipt.announcement_waits,
        },
        live: Live {
            user_id: event.user_id.clone(),
            why_not: event
                .user_id
                .is_none()
                .then_some("the event has no user_id"),
        },
        duplicates: Duplicates {
            dropped: receipt.duplicates,
            places: receipt.dropped,
        },
        dead_letters,
        status: stored.status,
    }
}

fn counts(event: &Event, counted: Counted) -> CountRows {
    let at = event.timestamp.to_offset(time::UtcOffset::UTC);
    let hour = at.date().with_hms(at.hour(), 0, 0);
    CountRows {
        event_type: counted.event_type,
        date: timestamp::format(at).chars().take(10).collect(),
        daily: counted.daily,
        hour: hour.map_or(at, time::PrimitiveDateTime::assume_utc),
        hourly: counted.hourly,
    }
}

impl From<receipts::RecordPosition> for RecordPosition {
    fn from(position: receipts::RecordPosition) -> Self {
        let is_postgres = position.topic == LOG;
        Self {
            log: if is_postgres { "postgres" } else { "kafka" },
            topic: (!is_postgres).then_some(position.topic),
            partition: position.partition,
            offset: position.offset,
        }
    }
}

impl From<StoredResult> for ProcessorRun {
    fn from(stored: StoredResult) -> Self {
        Self {
            processor_name: stored.processor_name,
            status: stored.status,
            message: stored.message,
            attempts: stored.attempts,
            processed_at: stored.processed_at,
            duration_ms: stored.duration_ms,
            due_at: stored.due_at,
        }
    }
}

impl From<Letter> for LetterInShort {
    fn from(letter: Letter) -> Self {
        Self {
            id: letter.id,
            record: letter.position.into(),
            reason: letter.reason,
            detail: letter.detail,
            state: letter.state,
            created_at: letter.created_at,
        }
    }
}

impl From<StoredUpTo> for Position {
    fn from(stored: StoredUpTo) -> Self {
        Self {
            next: stored.next.into(),
            updated_at: stored.updated_at,
        }
    }
}
