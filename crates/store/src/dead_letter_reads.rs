//! Reading the records that could not be decoded or stored.

use domain::{Json, TenantId};
use time::OffsetDateTime;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

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
    /// The record's headers, an object.
    pub headers: Json,
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
    detail, created_at from dead_letters where tenant_id = ";

const WHOLE: &str = "select id, topic, partition, \"offset\", key, headers::text, payload, \
    coalesce(length(payload), 0)::int8, reason, detail, created_at from dead_letters \
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
    /// Appends the tenant, then the other conditions.
    fn conditions(&self, sql: &mut Sql) {
        sql.bind(self.tenant_id.as_str().to_owned(), Type::TEXT);
        for (condition, value) in [
            (" and reason = ", &self.reason),
            (" and topic = ", &self.topic),
        ] {
            if let Some(value) = value {
                sql.push(condition).bind(value.clone(), Type::TEXT);
            }
        }
    }
}

impl StoredDeadLetter {
    fn from_row(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let mut columns = Columns::new(row);
        Ok(Self {
            id: columns.next()?,
            topic: columns.next()?,
            partition: columns.next()?,
            offset: columns.next()?,
            key: columns.next()?,
            headers: columns.json()?,
            payload: columns.next()?,
            payload_size: columns.next()?,
            reason: columns.next()?,
            detail: columns.next()?,
            created_at: columns.next()?,
        })
    }

    /// About how many bytes it takes in an answer: bytes appear as text and in base64.
    fn weight(&self) -> usize {
        let bytes = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len) * 3;
        bytes(&self.payload)
            + bytes(&self.key)
            + self.headers.as_str().len()
            + self.detail.len()
            + 300
    }
}
