//! Records that could not be decoded or stored.

use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::field::Code;
use domain::{Json, timestamp};
use serde::Serialize;
use service::Problem;
use store::dead_letter_reads::{self, Filter, StoredDeadLetter, Window};
use time::OffsetDateTime;
use utoipa::ToSchema;

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
    /// The record's headers.
    #[schema(value_type = Object)]
    pub headers: Json,
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

/// Records that could not be decoded or stored, newest first, each with its beginning.
///
/// # Errors
/// 422 for wrong parameters, 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/events/dead-letters", tag = "dead letters",
    params(("reason" = Option<String>, Query), ("topic" = Option<String>, Query, description = "full name"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, default 100"),
        ("offset" = Option<u32>, Query), ("cursor" = Option<String>, Query),
        ("count" = Option<bool>, Query, description = "false spares the counting")),
    responses((status = 200, body = DeadLetterList), (status = 422, description = "A wrong parameter"),
        (status = 503, description = "Database down")))]
pub async fn list(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let mut parameters = Parameters::from_query(request.query_string())?;
    let filter = Filter {
        tenant_id: tenant(&request),
        reason: parameters.text("reason"),
        topic: parameters.text("topic"),
    };
    let conditions: Vec<_> = [("reason", &filter.reason), ("topic", &filter.topic)]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.clone()?)))
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
    let (rows, has_more) = page(fetched, limit, max_bytes)?;
    let next_cursor = match rows.last() {
        Some(last) if has_more => Some(scope.after_row(last.id)),
        _ => None,
    };
    Ok(fresh(&DeadLetterList {
        dead_letters: rows.into_iter().map(Into::into).collect(),
        total,
        limit,
        offset,
        has_more,
        next_cursor,
    }))
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
        Some(letter) => Ok(fresh(&DeadLetter::from(letter))),
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
