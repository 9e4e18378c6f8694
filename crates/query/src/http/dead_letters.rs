//! Records that could not be decoded or stored.

use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::field::Code;
use domain::{TenantId, timestamp};
use serde::Serialize;
use service::Problem;
use store::dead_letter_reads::{self, Filter, StoredDeadLetter, Window};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::faults::{self, Fault};
use super::page::{fresh, page};
use super::request::tenant;
use crate::cursor::Scope;
use crate::parameters::Parameters;
use crate::state::State;

/// A kept record.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeadLetter {
    /// Number of the record here.
    pub id: i64,
    /// Topic it came from.
    pub topic: String,
    /// Partition of the topic.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// Why: a stable word.
    #[schema(example = "invalid_json")]
    pub reason: String,
    /// Why: a sentence.
    pub detail: String,
    /// The record's key, if it is text.
    pub key: Option<String>,
    /// The record's key in base64.
    pub key_base64: Option<String>,
    /// The record's headers, each as a pair of name and value, in their order.
    #[schema(value_type = Vec<Vec<String>>, example = json!([["content-type", "application/json"]]))]
    pub headers: Vec<(String, String)>,
    /// The record, if it is text.
    pub payload: Option<String>,
    /// The record in base64.
    pub payload_base64: Option<String>,
    /// How many bytes the record has.
    pub payload_size: i64,
    /// True where only the beginning is shown; `GET …/dead-letters/{id}` shows all.
    pub payload_truncated: bool,
    /// When it was kept.
    #[serde(serialize_with = "timestamp::serialize")]
    pub created_at: OffsetDateTime,
    /// The event in it, where it could be read.
    #[schema(required = true)]
    pub event_id: Option<Uuid>,
    /// `open`; `redriven`: its record is on the log once more; `discarded`: set aside.
    #[schema(example = "open")]
    pub state: String,
    /// Why it was set aside.
    #[schema(required = true)]
    pub note: Option<String>,
    /// How often its record was tried again.
    pub attempts: i32,
    /// What was done with it, the oldest first: `at`, `action`, the reason and detail it had then, and
    /// the bytes that were replaced. In a list empty.
    #[schema(value_type = Vec<Object>)]
    pub history: Vec<serde_json::Value>,
    /// What is wrong with the record, as it is read today, and where. In a list empty.
    pub faults: Vec<Fault>,
}

/// How many there are of one kind.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeadLetterCount {
    /// Why: a stable word.
    pub reason: String,
    /// Topic they came from.
    pub topic: String,
    /// `open`, `redriven` or `discarded`.
    pub state: String,
    /// How many.
    pub count: i64,
    /// When the first of them was kept.
    #[serde(serialize_with = "timestamp::serialize")]
    pub oldest: OffsetDateTime,
    /// When the last of them was kept.
    #[serde(serialize_with = "timestamp::serialize")]
    pub newest: OffsetDateTime,
}

/// The numbers of kept records.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeadLetterCounts {
    /// By reason, topic and state, the most first.
    pub counts: Vec<DeadLetterCount>,
}

/// A page of kept records, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeadLetterList {
    /// The records.
    pub dead_letters: Vec<DeadLetter>,
    /// How many there are under the filter; null with `count=false`.
    pub total: Option<u64>,
    /// The limit used.
    pub limit: u32,
    /// The offset used.
    pub offset: u32,
    /// Whether there are more after this page.
    pub has_more: bool,
    /// What to send as `cursor` for the next page.
    pub next_cursor: Option<String>,
}

/// What a selection of dead letters is restricted to; those that are open, unless another state is
/// named.
pub(super) fn filter(parameters: &mut Parameters<'_>, tenant_id: TenantId) -> Filter {
    let state = parameters.choice("state", &["open", "redriven", "discarded"], |name| name);
    Filter {
        tenant_id,
        reason: parameters.text("reason"),
        topic: parameters.text("topic"),
        state: Some(state.unwrap_or("open")),
        start: parameters.time(&["start_time"]),
        end: parameters.time(&["end_time"]),
    }
}

/// How many records there are that could not be decoded or stored.
///
/// # Errors
/// 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/events/dead-letters/counts", tag = "dead letters",
    responses((status = 200, body = DeadLetterCounts), (status = 503, description = "Database down")))]
pub async fn counts(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let tenant = tenant(&request);
    let counts = state
        .read("dead_letter_counts", async |client| {
            dead_letter_reads::counts(client, &tenant).await
        })
        .await?;
    let count = |of: dead_letter_reads::Count| DeadLetterCount {
        reason: of.reason,
        topic: of.topic,
        state: of.state,
        count: of.count,
        oldest: of.oldest,
        newest: of.newest,
    };
    Ok(fresh(&DeadLetterCounts {
        counts: counts.into_iter().map(count).collect(),
    }))
}

/// Records that could not be decoded or stored, newest first, each with its beginning.
///
/// # Errors
/// 422 for wrong parameters, 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/events/dead-letters", tag = "dead letters",
    params(("reason" = Option<String>, Query), ("topic" = Option<String>, Query, description = "full name"),
        ("state" = Option<String>, Query, description = "open (default), redriven or discarded"),
        ("start_time" = Option<String>, Query, description = "kept at this time or later"),
        ("end_time" = Option<String>, Query, description = "kept at this time or earlier"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, default 100"),
        ("offset" = Option<u32>, Query), ("cursor" = Option<String>, Query),
        ("count" = Option<bool>, Query, description = "false spares the counting")),
    responses((status = 200, body = DeadLetterList), (status = 400, description = "An unknown value"), (status = 422, description = "A wrong parameter"),
        (status = 503, description = "Database down")))]
pub async fn list(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let mut parameters = Parameters::from_query(request.query_string())?;
    let filter = filter(&mut parameters, tenant(&request));
    let time = |at: Option<OffsetDateTime>| at.map(timestamp::format);
    let conditions: Vec<_> = [
        ("reason", filter.reason.clone()),
        ("topic", filter.topic.clone()),
        ("state", filter.state.map(str::to_owned)),
        ("start_time", time(filter.start)),
        ("end_time", time(filter.end)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect();
    let scope = Scope::new(&filter.tenant_id, "dead-letters", &conditions);
    let (limit, offset) = parameters.page(100);
    let before = parameters.cursor(|text| scope.row(text));
    parameters.no_offset_beside_cursor(before.is_some(), offset);
    let count = parameters.boolean("count").unwrap_or(true);
    parameters.finish()?;

    let window = Window {
        limit: limit + 1,
        offset,
        before,
    };
    let max_bytes = state.max_response_bytes;
    let (fetched, total) = state
        .read("dead_letters", async |client| {
            let fetched = dead_letter_reads::list(client, &filter, &window, max_bytes).await?;
            let total = if count {
                Some(dead_letter_reads::count(client, &filter).await?)
            } else {
                None
            };
            Ok((fetched, total))
        })
        .await?;
    let (rows, held, has_more) = page(&state, fetched, limit)?;
    let next_cursor = match rows.last() {
        Some(last) if has_more => Some(scope.after_row(last.id)),
        _ => None,
    };
    let list = DeadLetterList {
        dead_letters: rows.into_iter().map(Into::into).collect(),
        total,
        limit,
        offset,
        has_more,
        next_cursor,
    };
    state.answer(held, &list)
}

/// A whole record.
///
/// # Errors
/// 404 if there is none, 422 for an id that is no number, 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/events/dead-letters/{id}", tag = "dead letters",
    params(("id" = i64, Path)),
    responses((status = 200, body = DeadLetter), (status = 404, description = "No such record"),
        (status = 422, description = "Not a number"), (status = 503, description = "Database down")))]
pub async fn by_id(
    request: HttpRequest,
    state: web::Data<State>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let number: i64 = id
        .parse()
        .map_err(|_| Problem::unprocessable("id", Code::WrongType, "must be a whole number"))?;
    let tenant = tenant(&request);
    let found = state
        .read("dead_letter", async |client| {
            dead_letter_reads::find(client, &tenant, number).await
        })
        .await?;
    match found {
        Some(letter) => {
            let media_type = letter
                .headers
                .iter()
                .find(|(name, _)| name == "content-type");
            let media_type = media_type.map(|(_, value)| value.as_str());
            let faults = letter
                .payload
                .as_deref()
                .map_or(vec![], |bytes| faults::of(bytes, media_type));
            let letter = DeadLetter {
                faults,
                ..DeadLetter::from(letter)
            };
            state.answer(state.hold(0)?, &letter)
        }
        None => Err(Problem::not_found(format!("Dead letter not found: {id}"))),
    }
}

impl From<StoredDeadLetter> for DeadLetter {
    fn from(letter: StoredDeadLetter) -> Self {
        let shown = letter.payload.as_ref().map_or(0, Vec::len);
        let truncated = i64::try_from(shown).is_ok_and(|shown| shown < letter.payload_size);
        Self {
            id: letter.id,
            topic: letter.topic,
            partition: letter.partition,
            offset: letter.offset,
            reason: letter.reason,
            detail: letter.detail,
            key: letter.key.as_deref().and_then(text),
            key_base64: letter.key.as_deref().map(|bytes| STANDARD.encode(bytes)),
            headers: letter.headers,
            payload: letter.payload.as_deref().and_then(text),
            payload_base64: letter
                .payload
                .as_deref()
                .map(|bytes| STANDARD.encode(bytes)),
            payload_size: letter.payload_size,
            payload_truncated: truncated,
            created_at: letter.created_at,
            event_id: letter.event_id,
            state: letter.state,
            note: letter.note,
            attempts: letter.attempts,
            history: letter.history,
            faults: vec![],
        }
    }
}

/// Bytes that are text; a character cut off at the end is left out.
fn text(bytes: &[u8]) -> Option<String> {
    let whole = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => {
            std::str::from_utf8(bytes.get(..error.valid_up_to())?).ok()?
        }
        Err(_) => return None,
    };
    Some(whole.to_owned())
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn text_is_shown_and_bytes_are_not() {
        assert_eq!(text("äb".as_bytes()).as_deref(), Some("äb"));
        assert_eq!(text(&[b'a', 0xc3]).as_deref(), Some("a"));
        assert_eq!(text(&[b'a', 0xff, b'b']), None);
        assert_eq!(text(&[0xc3]), None);
        assert_eq!(text(b"").as_deref(), Some(""));
    }
}
