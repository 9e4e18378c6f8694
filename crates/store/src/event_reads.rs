//! Reading events: one by its id, and pages of a listing under a filter.
//!
//! Listings run from the newest to the oldest by (timestamp, event_id), so a page can be continued
//! from the place of its last event (keyset), whatever is stored in the meantime.

use std::pin::pin;

use domain::{EventCategory, EventSource, EventStatus, TenantId};
use futures_util::TryStreamExt;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use crate::error::Error;
use crate::sql::Sql;

/// An event as it stands in the table: what [`domain::Event`] carries, and what became of it.
/// JSON columns are PostgreSQL's own text, never a tree.
#[derive(Debug, Clone)]
#[expect(
    missing_docs,
    reason = "named and explained in domain::Event and S4-69 to S4-74"
)]
pub struct StoredEvent {
    pub event_id: Uuid,
    pub tenant_id: String,
    pub event_type: String,
    pub event_source: String,
    pub event_category: String,
    pub client_event_id: Option<String>,
    pub user_id: Option<String>,
    pub session_id: Option<String>,
    pub organization_id: Option<String>,
    pub device_id: Option<String>,
    pub correlation_id: Option<String>,
    pub aggregate_type: Option<String>,
    pub aggregate_id: Option<String>,
    pub expected_version: Option<i64>,
    pub stream_version: Option<i64>,
    pub data: Box<RawValue>,
    pub metadata: Box<RawValue>,
    pub context: Box<RawValue>,
    pub properties: Box<RawValue>,
    pub status: String,
    pub processed_at: Option<OffsetDateTime>,
    pub processors: Vec<String>,
    pub error_message: Option<String>,
    pub retry_count: i32,
    pub timestamp: OffsetDateTime,
    pub received_at: OffsetDateTime,
    pub created_at: OffsetDateTime,
    pub updated_at: OffsetDateTime,
    pub version: String,
    pub schema_version: String,
}

/// The short form of the event tracking system (S1-18).
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "as in StoredEvent")]
pub struct TrackedEvent {
    pub event_type: String,
    pub timestamp: OffsetDateTime,
    pub metadata: Box<RawValue>,
}

/// Which events by their status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StatusFilter {
    /// All of them.
    #[default]
    Any,
    /// Those of this status.
    Is(EventStatus),
    /// Those that wait, are being handled or have failed (S3-48).
    Unprocessed,
}

/// What a listing is restricted to; all conditions hold at once (S4-25). Times are inclusive.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "the columns of the same names")]
pub struct Filter {
    pub tenant_id: TenantId,
    pub user_id: Option<String>,
    pub event_type: Option<String>,
    pub event_source: Option<EventSource>,
    pub event_category: Option<EventCategory>,
    pub status: StatusFilter,
    /// Events that happened at this time or later.
    pub start: Option<OffsetDateTime>,
    /// Events that happened at this time or earlier.
    pub end: Option<OffsetDateTime>,
    /// Events stored at this time or later.
    pub created_start: Option<OffsetDateTime>,
    /// Events stored at this time or earlier.
    pub created_end: Option<OffsetDateTime>,
    pub session_id: Option<String>,
    pub organization_id: Option<String>,
    pub device_id: Option<String>,
    pub correlation_id: Option<String>,
    pub aggregate_type: Option<String>,
    pub aggregate_id: Option<String>,
    /// JSON text of an object that `data` must contain (`@>`). It must be JSON that PostgreSQL can
    /// hold ([`domain::json::scan`]).
    pub data: Option<String>,
    /// The same for `metadata`.
    pub metadata: Option<String>,
}

/// The place of an event in a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Its time.
    pub timestamp: OffsetDateTime,
    /// Its id, which orders events of the same time.
    pub event_id: Uuid,
}

/// Which part of a listing.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Most events.
    pub limit: u32,
    /// How many to pass over first.
    pub offset: u32,
    /// Only what comes after this place.
    pub after: Option<Position>,
}

/// Rows of a listing, as far as they fit.
#[derive(Debug)]
pub struct Fetched<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// True if more rows of the window exist than fit into the bytes allowed.
    pub cut: bool,
}

const EVENT: &str = "select e.event_id, e.tenant_id, e.event_type, e.event_source, \
    e.event_category, e.client_event_id, e.user_id, e.session_id, e.organization_id, e.device_id, \
    e.correlation_id, e.aggregate_type, e.aggregate_id, e.expected_version, e.stream_version, \
    e.data::text, e.metadata::text, e.context::text, e.properties::text, e.status, \
    e.processed_at, e.processors, e.error_message, e.retry_count, e.timestamp, e.received_at, \
    e.created_at, e.updated_at, e.version, e.schema_version";

const TRACKED: &str = "select e.event_type, e.timestamp, e.metadata::text";

/// The event of that id, or `None`.
///
/// # Errors
/// The database does not answer.
pub async fn find(
    client: &Client,
    tenant: &TenantId,
    event_id: Uuid,
) -> Result<Option<StoredEvent>, Error> {
    let rows = find_sql(tenant, event_id).rows(client).await?;
    Ok(rows.first().map(StoredEvent::from_row).transpose()?)
}

/// The statement of [`find`]: the id leads to the time, the time to the one partition.
#[must_use]
pub fn find_sql(tenant: &TenantId, event_id: Uuid) -> Sql {
    let mut sql = Sql::new(EVENT);
    sql.push(
        " from event_ids i join events e on e.tenant_id = i.tenant_id \
         and e.timestamp = i.timestamp and e.event_id = i.event_id where i.event_id = ",
    )
    .bind(event_id, Type::UUID)
    .push(" and i.tenant_id = ")
    .bind(tenant.as_str().to_owned(), Type::TEXT);
    sql
}

/// A page of whole events, at most about `max_bytes` of them.
///
/// # Errors
/// The database does not answer.
pub async fn list(
    client: &Client,
    filter: &Filter,
    window: &Window,
    max_bytes: usize,
) -> Result<Fetched<StoredEvent>, Error> {
    let sql = list_sql(filter, window);
    fetch(client, &sql, max_bytes, StoredEvent::from_row, |event| {
        event.weight()
    })
    .await
}

/// The statement of [`list`].
#[must_use]
pub fn list_sql(filter: &Filter, window: &Window) -> Sql {
    page(EVENT, filter, window)
}

/// A page in the short form.
///
/// # Errors
/// The database does not answer.
pub async fn list_tracked(
    client: &Client,
    filter: &Filter,
    window: &Window,
    max_bytes: usize,
) -> Result<Fetched<TrackedEvent>, Error> {
    let sql = page(TRACKED, filter, window);
    fetch(client, &sql, max_bytes, TrackedEvent::from_row, |event| {
        64 + event.event_type.len() + event.metadata.get().len()
    })
    .await
}

/// How many events there are under the filter.
///
/// # Errors
/// The database does not answer, or not in time: counting looks at every event of the answer.
pub async fn count(client: &Client, filter: &Filter) -> Result<u64, Error> {
    let row = count_sql(filter).row(client).await?;
    Ok(row.try_get::<_, i64>(0)?.try_into().unwrap_or(0))
}

/// The statement of [`count`].
#[must_use]
pub fn count_sql(filter: &Filter) -> Sql {
    let mut sql = Sql::new("select count(*) from events e");
    filter.conditions(&mut sql);
    sql
}

fn page(columns: &'static str, filter: &Filter, window: &Window) -> Sql {
    let mut sql = Sql::new(columns);
    sql.push(" from events e");
    filter.conditions(&mut sql);
    if let Some(after) = window.after {
        // The first condition follows from the second; partitions are pruned by it.
        sql.push(" and e.timestamp <= ")
            .bind(after.timestamp, Type::TIMESTAMPTZ)
            .push(" and (e.timestamp, e.event_id) < (")
            .bind(after.timestamp, Type::TIMESTAMPTZ)
            .push(", ")
            .bind(after.event_id, Type::UUID)
            .push(")");
    }
    sql.push(" order by e.timestamp desc, e.event_id desc limit ")
        .bind(i64::from(window.limit), Type::INT8);
    if window.offset > 0 {
        sql.push(" offset ")
            .bind(i64::from(window.offset), Type::INT8);
    }
    sql
}

async fn fetch<T>(
    client: &Client,
    sql: &Sql,
    max_bytes: usize,
    read: fn(&Row) -> Result<T, tokio_postgres::Error>,
    weight: fn(&T) -> usize,
) -> Result<Fetched<T>, Error> {
    let mut stream = pin!(sql.stream(client).await?);
    let mut rows = Vec::new();
    let mut bytes = 0;
    while let Some(row) = stream.try_next().await? {
        let item = read(&row)?;
        bytes += weight(&item);
        if bytes > max_bytes {
            return Ok(Fetched { rows, cut: true });
        }
        rows.push(item);
    }
    Ok(Fetched { rows, cut: false })
}

impl Filter {
    /// Appends `where …`.
    fn conditions(&self, sql: &mut Sql) {
        sql.push(" where e.tenant_id = ")
            .bind(self.tenant_id.as_str().to_owned(), Type::TEXT);
        for (condition, value) in [
            (" and e.user_id = ", &self.user_id),
            (" and e.event_type = ", &self.event_type),
            (" and e.session_id = ", &self.session_id),
            (" and e.organization_id = ", &self.organization_id),
            (" and e.device_id = ", &self.device_id),
            (" and e.correlation_id = ", &self.correlation_id),
            (" and e.aggregate_id = ", &self.aggregate_id),
            (" and e.aggregate_type = ", &self.aggregate_type),
        ] {
            if let Some(value) = value {
                sql.push(condition).bind(value.clone(), Type::TEXT);
            }
        }
        self.source_and_category(sql);
        self.status(sql);
        for (condition, value) in [
            (" and e.timestamp >= ", self.start),
            (" and e.timestamp <= ", self.end),
            (" and e.created_at >= ", self.created_start),
            (" and e.created_at <= ", self.created_end),
        ] {
            if let Some(value) = value {
                sql.push(condition).bind(value, Type::TIMESTAMPTZ);
            }
        }
        for (condition, value) in [
            (" and e.data @> (", &self.data),
            (" and e.metadata @> (", &self.metadata),
        ] {
            if let Some(value) = value {
                sql.push(condition)
                    .bind(value.clone(), Type::TEXT)
                    .push("::text)::jsonb");
            }
        }
    }

    fn source_and_category(&self, sql: &mut Sql) {
        if let Some(source) = self.event_source {
            sql.push(" and e.event_source = ")
                .bind(source.as_str(), Type::TEXT);
        } else if self.event_category.is_some() {
            // The set of sources is closed: naming all of them lets the index on (source, category)
            // serve a category alone (S4-88).
            let all: Vec<&str> = EventSource::ALL.iter().map(|s| s.as_str()).collect();
            sql.push(" and e.event_source = any(")
                .bind(all, Type::TEXT_ARRAY)
                .push(")");
        }
        if let Some(category) = self.event_category {
            sql.push(" and e.event_category = ")
                .bind(category.as_str(), Type::TEXT);
        }
    }

    fn status(&self, sql: &mut Sql) {
        match self.status {
            StatusFilter::Any => {}
            StatusFilter::Is(status) => {
                sql.push(" and e.status = ")
                    .bind(status.as_str(), Type::TEXT);
                if status != EventStatus::Processed {
                    // The words of the partial index.
                    sql.push(" and e.status <> 'processed'");
                }
            }
            StatusFilter::Unprocessed => {
                sql.push(
                    " and e.status <> 'processed' \
                     and e.status in ('pending', 'processing', 'failed')",
                );
            }
        }
    }
}

impl StoredEvent {
    fn from_row(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            event_id: row.try_get(0)?,
            tenant_id: row.try_get(1)?,
            event_type: row.try_get(2)?,
            event_source: row.try_get(3)?,
            event_category: row.try_get(4)?,
            client_event_id: row.try_get(5)?,
            user_id: row.try_get(6)?,
            session_id: row.try_get(7)?,
            organization_id: row.try_get(8)?,
            device_id: row.try_get(9)?,
            correlation_id: row.try_get(10)?,
            aggregate_type: row.try_get(11)?,
            aggregate_id: row.try_get(12)?,
            expected_version: row.try_get(13)?,
            stream_version: row.try_get(14)?,
            data: json(row.try_get(15)?),
            metadata: json(row.try_get(16)?),
            context: json(row.try_get(17)?),
            properties: json(row.try_get(18)?),
            status: row.try_get(19)?,
            processed_at: row.try_get(20)?,
            processors: row
                .try_get::<_, Option<Vec<String>>>(21)?
                .unwrap_or_default(),
            error_message: row.try_get(22)?,
            retry_count: row.try_get(23)?,
            timestamp: row.try_get(24)?,
            received_at: row.try_get(25)?,
            created_at: row.try_get(26)?,
            updated_at: row.try_get(27)?,
            version: row.try_get(28)?,
            schema_version: row.try_get(29)?,
        })
    }

    /// Its place in a listing.
    #[must_use]
    pub fn position(&self) -> Position {
        Position {
            timestamp: self.timestamp,
            event_id: self.event_id,
        }
    }

    /// About how many bytes it takes in an answer.
    fn weight(&self) -> usize {
        [&self.data, &self.metadata, &self.context, &self.properties]
            .iter()
            .map(|json| json.get().len())
            .sum::<usize>()
            + 800
    }
}

impl TrackedEvent {
    fn from_row(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            event_type: row.try_get(0)?,
            timestamp: row.try_get(1)?,
            metadata: json(row.try_get(2)?),
        })
    }
}

/// What PostgreSQL prints for `jsonb` is JSON; null stands for the empty object (S4-66).
pub(crate) fn json(text: Option<String>) -> Box<RawValue> {
    text.and_then(|text| RawValue::from_string(text).ok())
        .or_else(|| RawValue::from_string("{}".to_owned()).ok())
        .unwrap_or_default()
}
