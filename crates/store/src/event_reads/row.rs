//! Rows of `events` as they are read.

use domain::{Event, EventCategory, EventSource, Json, TenantId};
use time::OffsetDateTime;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::sql::Columns;

/// The columns of [`StoredEvent::from_row`], in its order; the table is `e`.
pub(crate) const EVENT: &str = "select e.event_id, e.client_event_id, e.tenant_id, e.event_type, \
    e.event_source, e.event_category, e.user_id, e.session_id, e.organization_id, e.device_id, \
    e.correlation_id, e.aggregate_type, e.aggregate_id, e.expected_version, e.data::text, \
    e.metadata::text, e.context::text, e.properties::text, e.timestamp, e.received_at, e.version, \
    e.schema_version, case when e.aggregate_id is not null then (select s.stream_version \
    from event_ids s where s.event_id = e.event_id and s.tenant_id = e.tenant_id) end, \
    e.status, e.processed_at, e.processors, e.error_message, e.retry_count, e.created_at, e.updated_at";

/// The columns of [`TrackedEvent::from_row`].
pub(super) const TRACKED: &str = "select e.event_type, e.timestamp, e.metadata::text";

/// An event as it stands in the table, with the state of its handling.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "explained in S4-69 to S4-74")]
pub struct StoredEvent {
    pub event: Event,
    pub stream_version: Option<i64>,
    pub status: String,
    pub processed_at: Option<OffsetDateTime>,
    pub processors: Vec<String>,
    pub error_message: Option<String>,
    pub retry_count: i32,
    pub created_at: OffsetDateTime,
    pub updated_at: OffsetDateTime,
}

/// The short form of the event tracking system (S1-18).
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "as in domain::Event")]
pub struct TrackedEvent {
    pub event_type: String,
    pub timestamp: OffsetDateTime,
    pub metadata: Json,
}

/// The position of an event in a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Its time.
    pub timestamp: OffsetDateTime,
    /// Its id, which orders events of the same time.
    pub event_id: Uuid,
}

impl StoredEvent {
    pub(crate) fn from_row(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let mut columns = Columns::new(row);
        Ok(Self {
            event: event(&mut columns)?,
            stream_version: columns.next()?,
            status: columns.next()?,
            processed_at: columns.next()?,
            processors: columns.next::<Option<_>>()?.unwrap_or_default(),
            error_message: columns.next()?,
            retry_count: columns.next()?,
            created_at: columns.next()?,
            updated_at: columns.next()?,
        })
    }

    /// Its position in a listing.
    #[must_use]
    pub fn position(&self) -> Position {
        Position {
            timestamp: self.event.timestamp,
            event_id: self.event.event_id,
        }
    }

    /// About how many bytes it takes in an answer.
    pub(crate) fn weight(&self) -> usize {
        let Event {
            data,
            metadata,
            context,
            properties,
            ..
        } = &self.event;
        [data, metadata, context, properties]
            .map(|json| json.as_str().len())
            .iter()
            .sum::<usize>()
            + 800
    }
}

/// As at the gateway, a name outside its set counts as absent (C11).
fn event(columns: &mut Columns<'_>) -> Result<Event, tokio_postgres::Error> {
    let event_id = columns.next()?;
    let client_event_id = columns.next()?;
    let tenant_id = TenantId::parse(columns.next()?).unwrap_or_default();
    let event_type: String = columns.next()?;
    Ok(Event {
        event_id,
        client_event_id,
        tenant_id,
        event_source: EventSource::parse(columns.next()?).unwrap_or(EventSource::Backend),
        event_category: EventCategory::parse(columns.next()?)
            .unwrap_or_else(|| EventCategory::from_event_type(&event_type)),
        event_type,
        user_id: columns.next()?,
        session_id: columns.next()?,
        organization_id: columns.next()?,
        device_id: columns.next()?,
        correlation_id: columns.next()?,
        aggregate_type: columns.next()?,
        aggregate_id: columns.next()?,
        expected_version: columns.next()?,
        data: columns.json()?,
        metadata: columns.json()?,
        context: columns.json()?,
        properties: columns.json()?,
        timestamp: columns.next()?,
        received_at: columns.next()?,
        version: columns.next()?,
        schema_version: columns.next()?,
    })
}

impl TrackedEvent {
    pub(super) fn from_row(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let mut columns = Columns::new(row);
        Ok(Self {
            event_type: columns.next()?,
            timestamp: columns.next()?,
            metadata: columns.json()?,
        })
    }

    /// About how many bytes it takes in an answer.
    pub(super) fn weight(&self) -> usize {
        64 + self.event_type.len() + self.metadata.as_str().len()
    }
}
