//! Reading the records that could not be decoded or stored.

use domain::TenantId;
use time::OffsetDateTime;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use crate::error::Error;
use crate::sql::{Columns, Fetched, Sql};

/// A kept record.
#[derive(Debug, Clone)]
pub struct StoredDeadLetter {
    /// Number of the row; grows with time.
    pub id: i64,
    /// Full topic name.
    pub topic: String,
    /// Partition of the topic.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// Name and value of each of the record's headers, in their order.
    pub headers: Vec<(String, String)>,
    /// The record's bytes; in listings only their beginning.
    pub payload: Option<Vec<u8>>,
    /// How many bytes the record had.
    pub payload_size: i64,
    /// A stable word: `invalid_json`, `wrong_type`, …
    pub reason: String,
    /// A sentence for a person.
    pub detail: String,
    /// When it was kept.
    pub created_at: OffsetDateTime,
    /// The event in it, where it could be read.
    pub event_id: Option<Uuid>,
    /// When the record was written, in milliseconds since the Unix epoch.
    pub timestamp_ms: Option<i64>,
    /// Whether its place is one of the Postgres log.
    pub from_postgres: bool,
    /// `open`, `redriven` or `discarded`.
    pub state: String,
    /// Why it was set aside.
    pub note: Option<String>,
    /// How often its record was tried again.
    pub attempts: i32,
    /// What was done with it, the oldest first; in listings empty.
    pub history: Vec<serde_json::Value>,
}

/// Dead letters that have these in common.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "as in StoredDeadLetter")]
pub struct Count {
    pub reason: String,
    pub topic: String,
    pub state: String,
    pub count: i64,
    /// When the first of them was kept.
    pub oldest: OffsetDateTime,
    /// When the last of them was kept.
    pub newest: OffsetDateTime,
}

/// How many there are by reason, topic and state, the most first.
///
/// # Errors
/// The database does not answer.
pub async fn counts(client: &Client, tenant: &TenantId) -> Result<Vec<Count>, Error> {
    let mut sql = Sql::new(
        "select reason, topic, state, count(*), min(created_at), max(created_at) \
         from dead_letters where tenant_id = ",
    );
    sql.bind(tenant.as_str().to_owned(), Type::TEXT)
        .push(" group by 1, 2, 3 order by 4 desc, 1, 2, 3 limit 1000");
    let count = |row: &Row| -> Result<Count, tokio_postgres::Error> {
        let mut columns = Columns::new(row);
        Ok(Count {
            reason: columns.next()?,
            topic: columns.next()?,
            state: columns.next()?,
            count: columns.next()?,
            oldest: columns.next()?,
            newest: columns.next()?,
        })
    };
    let rows = sql.rows(client).await?;
    Ok(rows.iter().map(count).collect::<Result<_, _>>()?)
}

/// What a listing is restricted to.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Whose records.
    pub tenant_id: TenantId,
    /// Only this reason.
    pub reason: Option<String>,
    /// Only this topic, by its full name.
    pub topic: Option<String>,
    /// Only this state.
    pub state: Option<&'static str>,
    /// Only those kept at this time or later.
    pub start: Option<OffsetDateTime>,
    /// Only those kept at this time or earlier.
    pub end: Option<OffsetDateTime>,
}

/// A part of the listing, newest first.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Most records.
    pub limit: u32,
    /// How many to pass over first.
    pub offset: u32,
    /// Only records kept before the one of this number.
    pub before: Option<i64>,
}

/// Bytes of each payload and key that a listing shows.
pub const SHOWN: i32 = 4096;

/// Keys are shown to that length in listings too: a key can be as large as a payload.
const COLUMNS: &str = "select id, topic, partition, \"offset\", substring(key from 1 for 4096), \
    headers::text, substring(payload from 1 for 4096), coalesce(length(payload), 0)::int8, reason, \
    detail, created_at, event_id, timestamp_ms, from_postgres, state, note, attempts, '[]' \
    from dead_letters where tenant_id = ";

pub(crate) const WHOLE: &str = "select id, topic, partition, \"offset\", key, headers::text, payload, \
    coalesce(length(payload), 0)::int8, reason, detail, created_at, event_id, \
    timestamp_ms, from_postgres, state, note, attempts, history::text from dead_letters \
    where tenant_id = ";

/// A page of records, at most about `max_bytes` of them.
///
/// # Errors
/// The database does not answer.
pub async fn list(
    client: &Client,
    filter: &Filter,
    window: &Window,
    max_bytes: usize,
) -> Result<Fetched<StoredDeadLetter>, Error> {
    list_sql(filter, window)
        .fetch(
            client,
            max_bytes,
            StoredDeadLetter::from_row,
            StoredDeadLetter::weight,
        )
        .await
}

/// The statement of [`list`].
#[must_use]
pub fn list_sql(filter: &Filter, window: &Window) -> Sql {
    let mut sql = Sql::new(COLUMNS);
    filter.conditions(&mut sql);
    if let Some(before) = window.before {
        sql.push(" and id < ").bind(before, Type::INT8);
    }
    sql.push(" order by id desc limit ")
        .bind(i64::from(window.limit), Type::INT8)
        .push(" offset ")
        .bind(i64::from(window.offset), Type::INT8);
    sql
}

/// How many records there are under the filter.
///
/// # Errors
/// The database does not answer.
pub async fn count(client: &Client, filter: &Filter) -> Result<u64, Error> {
    let mut sql = Sql::new("select count(*) from dead_letters where tenant_id = ");
    filter.conditions(&mut sql);
    let row = sql.row(client).await?;
    Ok(row.try_get::<_, i64>(0)?.try_into().unwrap_or(0))
}

/// The whole record of that number, or `None`.
///
/// # Errors
/// The database does not answer.
pub async fn find(
    client: &Client,
    tenant: &TenantId,
    id: i64,
) -> Result<Option<StoredDeadLetter>, Error> {
    let mut sql = Sql::new(WHOLE);
    sql.bind(tenant.as_str().to_owned(), Type::TEXT)
        .push(" and id = ")
        .bind(id, Type::INT8);
    let rows = sql.rows(client).await?;
    Ok(rows.first().map(StoredDeadLetter::from_row).transpose()?)
}

impl Filter {
    /// Whether it has no condition but the state.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        let Self {
            reason,
            topic,
            start,
            end,
            ..
        } = self;
        reason.is_none() && topic.is_none() && start.is_none() && end.is_none()
    }

    /// Appends the tenant, then the other conditions.
    pub(crate) fn conditions(&self, sql: &mut Sql) {
        sql.bind(self.tenant_id.as_str().to_owned(), Type::TEXT);
        for (condition, value) in [
            (" and reason = ", &self.reason),
            (" and topic = ", &self.topic),
        ] {
            if let Some(value) = value {
                sql.push(condition).bind(value.clone(), Type::TEXT);
            }
        }
        if let Some(state) = self.state {
            sql.push(" and state = ").bind(state, Type::TEXT);
        }
        for (condition, value) in [
            (" and created_at >= ", self.start),
            (" and created_at <= ", self.end),
        ] {
            if let Some(value) = value {
                sql.push(condition).bind(value, Type::TIMESTAMPTZ);
            }
        }
    }
}

impl StoredDeadLetter {
    pub(crate) fn from_row(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let mut columns = Columns::new(row);
        Ok(Self {
            id: columns.next()?,
            topic: columns.next()?,
            partition: columns.next()?,
            offset: columns.next()?,
            key: columns.next()?,
            headers: serde_json::from_str(columns.next()?).unwrap_or_default(),
            payload: columns.next()?,
            payload_size: columns.next()?,
            reason: columns.next()?,
            detail: columns.next()?,
            created_at: columns.next()?,
            event_id: columns.next()?,
            timestamp_ms: columns.next()?,
            from_postgres: columns.next()?,
            state: columns.next()?,
            note: columns.next()?,
            attempts: columns.next()?,
            history: serde_json::from_str(columns.next()?).unwrap_or_default(),
        })
    }

    /// About how many bytes it takes in an answer: bytes appear as text and in base64.
    pub(crate) fn weight(&self) -> usize {
        let bytes = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len) * 3;
        bytes(&self.payload)
            + bytes(&self.key)
            + self
                .headers
                .iter()
                .map(|(name, value)| name.len() + value.len() + 8)
                .sum::<usize>()
            + self.detail.len()
            + 300
    }
}
