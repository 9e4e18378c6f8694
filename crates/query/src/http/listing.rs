//! Pages of events: the one way from a request to a list object.

use actix_web::HttpResponse;
use eventlog::BytePermit;
use serde::Serialize;
use service::{EventResponse, Problem};
use store::event_reads::{self, StoredEvent, Total, Window};
use utoipa::ToSchema;

use super::page::page;
use crate::parameters::ListRequest;
use crate::state::State;

/// A page of events, newest first (S4-24).
#[derive(Debug, Serialize, ToSchema)]
pub struct EventList<'a> {
    /// The events.
    pub events: Vec<EventResponse<'a>>,
    /// How many there are under the filter; null when not asked for, or not known in time.
    pub total: Option<u64>,
    /// Whether `total` is not exact: it was not known in time, or counts events that retention has
    /// removed.
    pub total_is_estimate: bool,
    /// The limit used.
    pub limit: u32,
    /// The offset used.
    pub offset: u32,
    /// Whether there are more after this page.
    pub has_more: bool,
    /// What to send as `cursor`, with the same filter, for the next page; null at the end.
    pub next_cursor: Option<String>,
}

/// What was read for an [`EventList`].
#[derive(Debug)]
pub struct Page {
    rows: Vec<StoredEvent>,
    /// Covers the rows.
    _held: BytePermit,
    pub(super) total: Total,
    limit: u32,
    offset: u32,
    has_more: bool,
    next_cursor: Option<String>,
}

impl Page {
    /// Answers with what `body` makes of the page.
    ///
    /// # Errors
    /// 503 if too many answers wait for their clients.
    pub fn answer<'a, T: Serialize>(
        &'a self,
        state: &State,
        body: impl FnOnce(&'a Self) -> T,
    ) -> Result<HttpResponse, Problem> {
        let held = state.hold(0)?;
        state.answer(held, &body(self))
    }

    /// The list object.
    #[must_use]
    pub fn list(&self) -> EventList<'_> {
        EventList {
            events: self.rows.iter().map(response).collect(),
            total: self.total.count,
            total_is_estimate: self.total.is_estimate,
            limit: self.limit,
            offset: self.offset,
            has_more: self.has_more,
            next_cursor: self.next_cursor.clone(),
        }
    }
}

/// An event as it is answered.
#[must_use]
pub fn response(stored: &StoredEvent) -> EventResponse<'_> {
    EventResponse {
        stream_version: stored.stream_version,
        status: &stored.status,
        processed_at: stored.processed_at,
        processors: &stored.processors,
        error_message: stored.error_message.as_deref(),
        retry_count: stored.retry_count,
        created_at: stored.created_at,
        updated_at: stored.updated_at,
        ..EventResponse::pending(&stored.event)
    }
}

/// Reads a page.
///
/// # Errors
/// The database does not answer, or the page is too large.
pub async fn read(
    state: &State,
    what: &'static str,
    request: &ListRequest,
) -> Result<Page, Problem> {
    let ListRequest {
        filter,
        window,
        count,
        scope,
    } = request;
    let limit = window.limit;
    // One more than asked for tells whether there are more.
    let probing = Window {
        limit: limit + 1,
        ..*window
    };
    let max_bytes = state.max_response_bytes;
    let fetched = state
        .read(what, async |client| {
            let edges = state.edges(client).await?;
            event_reads::list(client, &edges, filter, &probing, max_bytes).await
        })
        .await?;
    let (rows, held, more) = page(state, fetched, limit)?;

    let exactly = |count| Total {
        count,
        is_estimate: false,
    };
    let total = match total_of_last_page(window, rows.len(), more) {
        _ if !*count => exactly(None),
        Some(total) => exactly(Some(total)),
        None => state.total(filter).await,
    };
    let has_more = match total.count {
        // (offset + limit) < total, S4-26.
        Some(count) if window.after.is_none() && !total.is_estimate => {
            u64::from(window.offset) + u64::from(limit) < count
        }
        _ => more,
    };
    let next_cursor = match rows.last() {
        Some(last) if has_more => Some(scope.after_event(last.position())),
        _ => None,
    };
    Ok(Page {
        rows,
        _held: held,
        total,
        limit,
        offset: window.offset,
        has_more,
        next_cursor,
    })
}

/// The last page of a listing tells how many there are, without counting.
fn total_of_last_page(window: &Window, rows: usize, more: bool) -> Option<u64> {
    let reached = rows > 0 || window.offset == 0;
    (window.after.is_none() && !more && reached)
        .then(|| u64::from(window.offset) + u64::try_from(rows).unwrap_or(u64::MAX))
}
