//! Pages of events: the one way from a request to a list object.

use serde::Serialize;
use serde_json::value::RawValue;
use service::Problem;
use store::event_reads::{self, StoredEvent, Window};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::too_much;
use crate::parameters::ListRequest;
use crate::state::State;

/// An event (S4-20, S4-22). Times are RFC 3339 in UTC.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventResponse {
    /// Identity.
    pub event_id: Uuid,
    /// What happened.
    #[schema(example = "order.created")]
    pub event_type: String,
    /// Where it came from.
    #[schema(example = "backend")]
    pub event_source: String,
    /// What kind of thing happened.
    #[schema(example = "order")]
    pub event_category: String,
    /// Who did it.
    pub user_id: Option<String>,
    /// What happened, in the client's words.
    #[schema(value_type = Object)]
    pub data: Box<RawValue>,
    /// pending, processing, processed, failed or archived.
    #[schema(example = "processed")]
    pub status: String,
    /// When it happened.
    #[schema(format = DateTime)]
    pub timestamp: String,
    /// When it was stored.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// About the event.
    #[schema(value_type = Object)]
    pub metadata: Box<RawValue>,
    /// Around the event.
    #[schema(value_type = Object)]
    pub context: Box<RawValue>,
    /// Further properties.
    #[schema(value_type = Object)]
    pub properties: Box<RawValue>,
    /// In which session.
    pub session_id: Option<String>,
    /// For which organisation.
    pub organization_id: Option<String>,
    /// On which device.
    pub device_id: Option<String>,
    /// What it belongs together with.
    pub correlation_id: Option<String>,
    /// Type of the aggregate it changes.
    pub aggregate_type: Option<String>,
    /// The aggregate it changes.
    pub aggregate_id: Option<String>,
    /// The version the client believed the aggregate's stream to have.
    pub expected_version: Option<i64>,
    /// The event's version in its stream.
    pub stream_version: Option<i64>,
    /// The client's own id where it was no UUID.
    pub client_event_id: Option<String>,
    /// Whose event it is.
    pub tenant_id: String,
    /// When the gateway took it.
    #[schema(format = DateTime)]
    pub received_at: String,
    /// When its handling ended.
    #[schema(format = DateTime)]
    pub processed_at: Option<String>,
    /// Who handled it.
    pub processors: Vec<String>,
    /// Why its handling failed.
    pub error_message: Option<String>,
    /// How often its handling was tried again.
    pub retry_count: i32,
    /// When the row was last changed.
    #[schema(format = DateTime)]
    pub updated_at: String,
    /// Version of its content.
    pub version: String,
    /// Version of its schema.
    pub schema_version: String,
}

impl From<StoredEvent> for EventResponse {
    fn from(event: StoredEvent) -> Self {
        let format = domain::timestamp::format;
        Self {
            event_id: event.event_id,
            event_type: event.event_type,
            event_source: event.event_source,
            event_category: event.event_category,
            user_id: event.user_id,
            data: event.data,
            status: event.status,
            timestamp: format(event.timestamp),
            created_at: format(event.created_at),
            metadata: event.metadata,
            context: event.context,
            properties: event.properties,
            session_id: event.session_id,
            organization_id: event.organization_id,
            device_id: event.device_id,
            correlation_id: event.correlation_id,
            aggregate_type: event.aggregate_type,
            aggregate_id: event.aggregate_id,
            expected_version: event.expected_version,
            stream_version: event.stream_version,
            client_event_id: event.client_event_id,
            tenant_id: event.tenant_id,
            received_at: format(event.received_at),
            processed_at: event.processed_at.map(format),
            processors: event.processors,
            error_message: event.error_message,
            retry_count: event.retry_count,
            updated_at: format(event.updated_at),
            version: event.version,
            schema_version: event.schema_version,
        }
    }
}

/// A page of events, newest first (S4-24).
#[derive(Debug, Serialize, ToSchema)]
pub struct EventList {
    /// The events.
    pub events: Vec<EventResponse>,
    /// How many there are under the filter; null when not asked for.
    pub total: Option<u64>,
    /// The limit used.
    pub limit: u32,
    /// The offset used.
    pub offset: u32,
    /// Whether there are more after this page.
    pub has_more: bool,
    /// What to send as `cursor`, with the same filter, for the next page; null at the end.
    pub next_cursor: Option<String>,
}

/// Reads a page.
///
/// # Errors
/// The database does not answer, or the page is too large.
pub async fn read(
    state: &State,
    what: &'static str,
    request: &ListRequest,
) -> Result<EventList, Problem> {
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
    let mut page = state
        .read(what, async |client| {
            event_reads::list(client, filter, &probing, max_bytes).await
        })
        .await?;
    let full = usize::try_from(limit).unwrap_or(usize::MAX);
    if page.cut && page.rows.len() < full {
        return Err(too_much(limit, page.rows.len(), max_bytes));
    }
    let more = page.cut || page.rows.len() > full;
    page.rows.truncate(full);

    let total = if *count {
        Some(match total_of_last_page(window, page.rows.len(), more) {
            Some(total) => total,
            None => {
                state
                    .read("count", async |client| {
                        event_reads::count(client, filter).await
                    })
                    .await?
            }
        })
    } else {
        None
    };
    let has_more = match total {
        // (offset + limit) < total, S4-26.
        Some(total) if window.after.is_none() => {
            u64::from(window.offset) + u64::from(limit) < total
        }
        _ => more,
    };
    let next_cursor = match page.rows.last() {
        Some(last) if has_more => Some(scope.after_event(last.position())),
        _ => None,
    };
    Ok(EventList {
        events: page.rows.into_iter().map(Into::into).collect(),
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
