//! The events of a tenant as they are stored, a sample of them where they are many.

use std::collections::HashMap;
use std::time::Duration;

use domain::field::Code;
use domain::{EventSource, TenantId, stream, timestamp};
use serde::Serialize;
use service::{Problem, clock};
use store::event_reads::{self, Filter, StoredEvent, Window};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::sse::type_filter::TypeFilter;
use crate::parameters::Parameters;
use crate::state::State;

/// Events shown of one look: more cannot be read by anybody.
const SHOWN: usize = 50;

/// Events of one look, of which many may be known from the look before.
const PLAIN: u32 = 100;

/// Events of one look that are searched for a pattern or a text.
const SEARCHED: u32 = 1_000;

/// Bytes of events of one look.
const LOOK_BYTES: usize = 4 * 1024 * 1024;

/// How far a look begins before the last event: `created_at` is when a transaction began, and it is
/// seen when it ends.
const OVERLAP: Duration = Duration::from_secs(5);

/// Characters of an event's data that are shown.
const EXCERPT: usize = 400;

/// A stored event in short: `event: stored`.
#[derive(Debug, Serialize, ToSchema)]
pub struct StoredShort {
    /// Its id.
    pub event_id: Uuid,
    /// What happened.
    pub event_type: String,
    /// `frontend`, `backend`, `system`, `iot_device`, `external_api` or `scheduled`.
    pub event_source: String,
    /// Who did it.
    #[schema(required = true)]
    pub user_id: Option<String>,
    /// The stream of its aggregate or user.
    #[schema(required = true)]
    pub stream_id: Option<String>,
    /// When it happened.
    #[serde(serialize_with = "timestamp::serialize")]
    pub timestamp: OffsetDateTime,
    /// When it was stored.
    #[serde(serialize_with = "timestamp::serialize")]
    pub created_at: OffsetDateTime,
    /// The beginning of its data.
    pub excerpt: String,
}

/// What a viewer watches, and what was shown already.
pub(super) struct Tail {
    filter: Filter,
    types: TypeFilter,
    text: Option<String>,
    since: Option<OffsetDateTime>,
    seen: HashMap<Uuid, OffsetDateTime>,
}

/// What a look found.
pub(super) struct Look {
    /// The new events, the oldest first.
    pub(super) events: Vec<StoredShort>,
    /// Whether there were more.
    pub(super) is_sample: bool,
}

impl Tail {
    /// Reads `tail` and the conditions beside it; `None` where nobody watches.
    pub(super) fn read(parameters: &mut Parameters<'_>, tenant: TenantId) -> Option<Self> {
        let types = TypeFilter::read(parameters);
        let filter = Filter {
            tenant_id: tenant,
            user_id: parameters.text("user_id").filter(|text| !text.is_empty()),
            event_source: parameters.choice("source", EventSource::ALL, EventSource::as_str),
            ..Filter::default()
        };
        let text = parameters.text("text").filter(|text| !text.is_empty());
        if text.as_ref().is_some_and(|text| text.chars().count() < 2) {
            parameters.refuse("text", Code::OutOfRange, "must have at least 2 characters");
        }
        parameters.boolean("tail").unwrap_or(false).then(|| Self {
            filter,
            types,
            text: text.map(|text| text.to_lowercase()),
            since: None,
            seen: HashMap::new(),
        })
    }

    /// What was stored since the last look; at first the last events there are.
    ///
    /// # Errors
    /// The database does not answer.
    pub(super) async fn look(&mut self, state: &State) -> Result<Look, Problem> {
        let searches = !self.types.is_all() || self.text.is_some();
        let window = Window {
            limit: if searches { SEARCHED } else { PLAIN },
            offset: 0,
            after: None,
        };
        let filter = Filter {
            created_start: self.since.map(|since| since - OVERLAP),
            ..self.filter.clone()
        };
        let found = state
            .read("tail", async |client| {
                let edges = state.edges(client).await?;
                event_reads::list(client, &edges, &filter, &window, LOOK_BYTES).await
            })
            .await?;
        let is_first = self.since.is_none();
        let full = found.rows.len() >= usize::try_from(window.limit).unwrap_or(usize::MAX);
        let newest = found.rows.iter().map(|row| row.created_at).max();
        // What came before the first look is not looked for again.
        self.since = newest.or(self.since).or_else(|| Some(clock::now()));
        let mut new: Vec<StoredEvent> = found.rows;
        new.retain(|row| {
            let known = self.seen.insert(row.event.event_id, row.created_at);
            known.is_none() && self.wants(row)
        });
        if let Some(since) = self.since {
            self.seen.retain(|_, stored| *stored >= since - 2 * OVERLAP);
        }
        new.sort_by_key(|row| (row.created_at, row.event.timestamp, row.event.event_id));
        let surplus = new.len().saturating_sub(SHOWN);
        Ok(Look {
            is_sample: !is_first && (surplus > 0 || full || found.cut),
            events: new[surplus..].iter().map(short).collect(),
        })
    }

    fn wants(&self, row: &StoredEvent) -> bool {
        let event = &row.event;
        self.types.matches(&event.event_type)
            && self.text.as_ref().is_none_or(|text| {
                let has = |field: &str| field.to_lowercase().contains(text.as_str());
                has(&event.event_type)
                    || has(event.data.as_str())
                    || has(&event.event_id.to_string())
                    || event.user_id.as_deref().is_some_and(has)
                    || event.client_event_id.as_deref().is_some_and(has)
            })
    }
}

fn short(row: &StoredEvent) -> StoredShort {
    let event = &row.event;
    StoredShort {
        event_id: event.event_id,
        event_type: event.event_type.clone(),
        event_source: event.event_source.as_str().to_owned(),
        user_id: event.user_id.clone(),
        stream_id: stream::stream_id(event),
        timestamp: event.timestamp,
        created_at: row.created_at,
        excerpt: event.data.as_str().chars().take(EXCERPT).collect(),
    }
}
