//! What every listing answers with.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use domain::field::Code;
use eventlog::BytePermit;
use serde::Serialize;
use service::Problem;
use store::sql::Fetched;

use crate::state::State;

/// A small answer of the moment, not to be kept; others go through [`State::answer`].
pub(super) fn fresh(body: &impl Serialize) -> HttpResponse {
    fresh_as(StatusCode::OK, body)
}

/// The same with another status.
pub(super) fn fresh_as(status: StatusCode, body: &impl Serialize) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header(("cache-control", "no-store"))
        .json(body)
}

/// The rows of a page, of which one more than `limit` was asked for, the permit that covers them,
/// and whether there are more.
///
/// # Errors
/// 422 if the page would be larger than an answer may be, 503 if too many answers wait.
pub(super) fn page<T>(
    state: &State,
    mut fetched: Fetched<T>,
    limit: u32,
) -> Result<(Vec<T>, BytePermit, bool), Problem> {
    let max_bytes = state.max_response_bytes;
    let held = state.hold(fetched.bytes)?;
    let full = usize::try_from(limit).unwrap_or(usize::MAX);
    if fetched.cut && fetched.rows.len() < full {
        let fits = fetched.rows.len();
        return Err(Problem::unprocessable(
            "limit",
            Code::OutOfRange,
            format!(
                "the first {fits} rows fill the {max_bytes} bytes an answer may hold; ask for \
                 fewer than {limit}"
            ),
        ));
    }
    let more = fetched.cut || fetched.rows.len() > full;
    fetched.rows.truncate(full);
    Ok((fetched.rows, held, more))
}
