//! What an operator does with dead letters: has them stored again, or sets them aside.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::TenantId;
use domain::field::Code;
use domain::redriven::{HEADER_DEAD_LETTER, RecordOrigin, header_value};
use domain::subject::HEADER_TENANT;
use serde::Serialize;
use service::Problem;
use store::dead_letter_changes::{self, Again, Selection, WITHOUT_EVENT};
use store::dead_letter_reads::StoredDeadLetter;
use store::log::{pack_headers, partition_of};
use store::processing::HANDLER_FAILED;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::dead_letter_schema::{DeadLetterDiscard, DeadLetterRedrive};
use super::dead_letters::filter;
use super::page::fresh;
use super::request::{body, tenant};
use crate::parameters::Parameters;
use crate::state::State;

/// Dead letters taken at once, and bytes of them.
const SLICE: u32 = 100;
const SLICE_BYTES: usize = 8 * 1024 * 1024;
/// The longest a request goes on.
const LONGEST: Duration = Duration::from_secs(60);

/// What was done.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeadLettersChanged {
    /// Nothing was done.
    pub dry_run: bool,
    /// How many were selected, of this and later requests.
    pub selected: u64,
    /// How many of those hold no event and cannot be stored again.
    pub without_event: u64,
    /// How many were redriven or discarded.
    pub changed: u64,
    /// What to send as `after_id` to go on; null when there are no more.
    #[schema(required = true)]
    pub last_id: Option<i64>,
}

/// What a request asks for.
struct Request {
    tenant: TenantId,
    selection: Selection,
    dry_run: bool,
    limit: u32,
}

/// Has the records stored again: puts them on the Postgres log, whose consumer stores them as it does
/// all others. What fails again is back under the same id, with its history; what is stored is gone
/// from here. Where a processor gave up on a stored event (`handler_failed`), that processor runs again.
/// Goes on for at most a minute; `last_id` is where the next request goes on.
///
/// # Errors
/// 400 and 422 for a wrong selection, 503 while the database does not answer.
#[utoipa::path(post, path = "/api/v1/events/dead-letters/redrive", tag = "dead letters",
    request_body = DeadLetterRedrive,
    responses((status = 200, body = DeadLettersChanged), (status = 400, description = "No JSON, or an unknown value"),
        (status = 422, description = "A wrong selection"), (status = 503, description = "Database down")))]
pub async fn redrive(
    request: HttpRequest,
    state: web::Data<State>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body = body(&request, payload).await?;
    let mut parameters = Parameters::from_json(&body)?;
    let asked = Request::read(&mut parameters, tenant(&request));
    let rate = parameters.integer("rate", 1, 10_000).unwrap_or(1_000);
    let fixed = fixed(&mut parameters);
    if fixed.is_some() && asked.selection.ids.len() != 1 {
        parameters.refuse("ids", Code::OutOfRange, "must be one id beside a payload");
    }
    parameters.finish()?;
    let mut answer = asked.count(&state).await?;
    if answer.dry_run {
        return Ok(fresh(&answer));
    }
    let started = Instant::now();
    let mut selection = asked.selection.clone();
    let mut taken = 0;
    let mut ended = false;
    while taken < asked.limit && started.elapsed() < LONGEST {
        let limit = SLICE.min(asked.limit - taken).min(rate);
        let found = state
            .read("redrive", async |client| {
                dead_letter_changes::next(client, &selection, limit, SLICE_BYTES).await
            })
            .await?;
        let Some(last) = found.rows.last() else {
            ended = true;
            break;
        };
        selection.after = last.id;
        taken += u32::try_from(found.rows.len()).unwrap_or(limit);
        let (to_run, to_store): (Vec<_>, Vec<_>) = found
            .rows
            .into_iter()
            .partition(|letter| letter.reason == HANDLER_FAILED);
        if fixed.is_some() && !to_run.is_empty() {
            let message = "the event is stored as it is; only the processor runs again";
            return Err(Problem::unprocessable(
                "payload",
                Code::IllegalValue,
                message,
            ));
        }
        let to_run: Vec<i64> = to_run.iter().map(|letter| letter.id).collect();
        let again: Vec<Again> = to_store
            .into_iter()
            .filter_map(|letter| again(letter, &asked.tenant, fixed.as_deref()))
            .collect();
        answer.changed += state
            .read("redrive", async |client| {
                let ran = dead_letter_changes::run_again(client, &asked.tenant, &to_run).await?;
                let stored = dead_letter_changes::redrive(client, &asked.tenant, &again);
                Ok(ran + stored.await?)
            })
            .await?;
        answer.last_id = Some(selection.after);
        let due = Duration::from_secs_f64(f64::from(taken) / f64::from(rate));
        tokio::time::sleep_until(started + due).await;
    }
    tracing::info!(
        redriven = answer.changed,
        "dead letters are to be stored again"
    );
    answer.ends_if(ended);
    Ok(fresh(&answer))
}

/// Sets the records aside, with a reason: they are kept, and no longer listed among the open ones.
///
/// # Errors
/// As [`redrive`].
#[utoipa::path(post, path = "/api/v1/events/dead-letters/discard", tag = "dead letters",
    request_body = DeadLetterDiscard,
    responses((status = 200, body = DeadLettersChanged), (status = 400, description = "No JSON, or an unknown value"),
        (status = 422, description = "A wrong selection, or no note"), (status = 503, description = "Database down")))]
pub async fn discard(
    request: HttpRequest,
    state: web::Data<State>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body = body(&request, payload).await?;
    let mut parameters = Parameters::from_json(&body)?;
    let asked = Request::read(&mut parameters, tenant(&request));
    let note = parameters.text("note").filter(|note| !note.is_empty());
    if note.is_none() {
        parameters.refuse("note", Code::Missing, "is required: why they are set aside");
    }
    parameters.finish()?;
    let note = note.unwrap_or_default();
    let mut answer = asked.count(&state).await?;
    if answer.dry_run {
        return Ok(fresh(&answer));
    }
    let mut selection = asked.selection.clone();
    let mut taken = 0;
    while taken < asked.limit {
        let limit = SLICE.min(asked.limit - taken);
        let found = state
            .read("discard", async |client| {
                let ids = dead_letter_changes::ids(client, &selection, limit).await?;
                let changed = dead_letter_changes::discard(client, &asked.tenant, &ids, &note);
                Ok((changed.await?, ids))
            })
            .await?;
        let (changed, ids) = found;
        let Some(last) = ids.last() else { break };
        selection.after = *last;
        answer.changed += changed;
        answer.last_id = Some(*last);
        taken += u32::try_from(ids.len()).unwrap_or(limit);
    }
    answer.ends_if(taken < asked.limit);
    Ok(fresh(&answer))
}

impl Request {
    fn read(parameters: &mut Parameters<'_>, tenant: TenantId) -> Self {
        let filter = filter(parameters, tenant.clone());
        let ids = parameters.integers("ids").unwrap_or_default();
        let all = parameters.boolean("all").unwrap_or(false);
        if ids.is_empty() && !all && filter.is_everything() {
            let message = "name them by ids, by a condition, or say \"all\": true";
            parameters.refuse("ids", Code::Missing, message);
        }
        let after = parameters.integer("after_id", 0, u32::MAX);
        Self {
            tenant,
            selection: Selection {
                ids,
                filter,
                after: after.map_or(0, i64::from),
            },
            dry_run: parameters.boolean("dry_run").unwrap_or(false),
            limit: parameters.integer("limit", 1, 10_000).unwrap_or(1_000),
        }
    }

    async fn count(&self, state: &State) -> Result<DeadLettersChanged, Problem> {
        let (selected, without_event) = state
            .read("dead_letters", async |client| {
                dead_letter_changes::count(client, &self.selection).await
            })
            .await?;
        Ok(DeadLettersChanged {
            dry_run: self.dry_run,
            selected,
            without_event,
            changed: 0,
            last_id: None,
        })
    }
}

impl DeadLettersChanged {
    fn ends_if(&mut self, ended: bool) {
        if ended {
            self.last_id = None;
        }
    }
}

/// The bytes that stand in for the record's own.
fn fixed(parameters: &mut Parameters<'_>) -> Option<Vec<u8>> {
    if let Some(text) = parameters.raw_text("payload") {
        return Some(text.into_bytes());
    }
    let bytes = STANDARD.decode(parameters.raw_text("payload_base64")?);
    if bytes.is_err() {
        parameters.refuse("payload_base64", Code::BadFormat, "is no base64");
    }
    bytes.ok()
}

/// The record as it goes to the log: with where it came from, and with the tenant whose it is, so that a
/// payload from outside speaks for no other; the default tenant's says itself what it is, where the topic
/// may. `None` for what holds no event.
fn again(letter: StoredDeadLetter, tenant: &TenantId, fixed: Option<&[u8]>) -> Option<Again> {
    if WITHOUT_EVENT.contains(&letter.reason.as_str()) {
        return None;
    }
    let origin = RecordOrigin {
        dead_letter: Some(letter.id),
        from_postgres: letter.from_postgres,
        partition: letter.partition,
        offset: letter.offset,
        timestamp_ms: letter.timestamp_ms,
    };
    let origin = origin.to_string();
    let is_own = *tenant != TenantId::default();
    let headers: Vec<(&str, Vec<u8>)> = letter
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), header_value(value)))
        .filter(|(name, _)| *name != HEADER_DEAD_LETTER && !(is_own && *name == HEADER_TENANT))
        .chain([(HEADER_DEAD_LETTER, origin.into_bytes())])
        .chain(is_own.then(|| (HEADER_TENANT, tenant.as_str().as_bytes().to_vec())))
        .collect();
    let key = letter.key.as_deref();
    Some(Again {
        id: letter.id,
        partition: partition_of(key.unwrap_or(&letter.id.to_be_bytes())),
        topic: letter.topic,
        headers: pack_headers(
            headers
                .iter()
                .map(|(name, value)| (*name, value.as_slice())),
        ),
        payload: fixed.map_or(letter.payload?, <[u8]>::to_vec),
        changed: fixed.is_some(),
        key: letter.key,
    })
}
