//! Everything that is known of one event: where it came from, where it is, and what repeated it.

use domain::TenantId;
use time::OffsetDateTime;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use crate::error::Error;
use crate::event_reads::{self, StoredEvent};
use crate::log::LOG;
use crate::sql::{Columns, Sql};

/// Dead letters looked through for what looks like an event, the newest first.
const LOOKED_THROUGH: i64 = 1_000;

/// A position in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordPosition {
    /// Full topic name, or that of the Postgres log.
    pub topic: String,
    /// Partition of the topic.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
}

/// What is known of a stored event.
#[derive(Debug)]
pub struct Receipt {
    /// The event.
    pub event: StoredEvent,
    /// The record it was stored from, if that was noted.
    pub position: Option<RecordPosition>,
    /// Whether a gateway took it, not a producer of the log.
    pub by_gateway: Option<bool>,
    /// Its rows of the counts: the type under which it is counted, and what they count now.
    pub counted: Option<Counted>,
    /// Whether its announcement still waits in the outbox.
    pub announcement_waits: bool,
    /// Records of the same event that were dropped.
    pub duplicates: i32,
    /// The first of those, each with where and when.
    pub dropped: Vec<serde_json::Value>,
}

/// Rows of the counts.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the same names")]
pub struct Counted {
    pub event_type: String,
    pub daily: i64,
    pub hourly: i64,
}

/// How far a partition is stored.
#[derive(Debug, Clone)]
pub struct StoredUpTo {
    /// The next offset to be stored.
    pub next: RecordPosition,
    /// When the last one was.
    pub updated_at: OffsetDateTime,
}

/// A dead letter, in short.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "as in StoredDeadLetter")]
pub struct Letter {
    pub id: i64,
    pub position: RecordPosition,
    pub reason: String,
    pub detail: String,
    pub state: String,
    pub created_at: OffsetDateTime,
}

/// What is known of the first of these ids that is stored, or `None`.
///
/// # Errors
/// The database does not answer.
pub async fn read(
    client: &Client,
    tenant: &TenantId,
    event_id: Uuid,
) -> Result<Option<Receipt>, Error> {
    let Some(event) = event_reads::find(client, tenant, event_id).await? else {
        return Ok(None);
    };
    let mut sql = Sql::new(
        "select p.topic, p.partition, i.log_offset, i.by_gateway, coalesce(d.dropped, 0), \
         coalesce(d.places, '[]')::text from event_ids i \
         left join log_partitions p on p.id = i.log_partition \
         left join event_duplicates d on d.event_id = i.event_id and d.tenant_id = i.tenant_id \
         where i.event_id = ",
    );
    sql.bind(event_id, Type::UUID)
        .push(" and i.tenant_id = ")
        .bind(tenant.as_str().to_owned(), Type::TEXT);
    let row = sql.row(client).await?;
    let mut columns = Columns::new(&row);
    let topic: Option<String> = columns.next()?;
    let partition: Option<i32> = columns.next()?;
    let offset: Option<i64> = columns.next()?;
    let position = topic.zip(partition).zip(offset);
    Ok(Some(Receipt {
        position: position.map(|((topic, partition), offset)| RecordPosition {
            topic,
            partition,
            offset,
        }),
        by_gateway: columns.next()?,
        duplicates: columns.next()?,
        dropped: serde_json::from_str(columns.next()?).unwrap_or_default(),
        counted: counted(client, tenant, &event).await?,
        announcement_waits: announcement_waits(client, tenant, event_id).await?,
        event,
    }))
}

async fn counted(
    client: &Client,
    tenant: &TenantId,
    event: &StoredEvent,
) -> Result<Option<Counted>, Error> {
    let of = &event.event;
    // A type beyond the day's limit is counted as `other`.
    let mut sql = Sql::new(
        "select d.event_type, d.count, h.count from aggregated_events d \
         join aggregated_events_hourly h on h.tenant_id = d.tenant_id and h.event_type = d.event_type \
         where d.tenant_id = ",
    );
    sql.bind(tenant.as_str().to_owned(), Type::TEXT)
        .push(" and d.date = (")
        .bind(of.timestamp, Type::TIMESTAMPTZ)
        .push(" at time zone 'utc')::date and h.hour = date_trunc('hour', ")
        .bind(of.timestamp, Type::TIMESTAMPTZ)
        .push(", 'UTC') and h.event_source = ")
        .bind(of.event_source.as_str(), Type::TEXT)
        .push(" and h.event_category = ")
        .bind(of.event_category.as_str(), Type::TEXT)
        .push(" and d.event_type in (")
        .bind(of.event_type.clone(), Type::TEXT)
        .push(", 'other') order by d.event_type = 'other' limit 1");
    let rows = sql.rows(client).await?;
    let counted = |row: &Row| -> Result<Counted, tokio_postgres::Error> {
        let mut columns = Columns::new(row);
        Ok(Counted {
            event_type: columns.next()?,
            daily: columns.next()?,
            hourly: columns.next()?,
        })
    };
    Ok(rows.first().map(counted).transpose()?)
}

async fn announcement_waits(
    client: &Client,
    tenant: &TenantId,
    event_id: Uuid,
) -> Result<bool, Error> {
    let mut sql = Sql::new(
        "select exists (select from (select payload from outbox where sink = 1 and tenant_id = ",
    );
    sql.bind(tenant.as_str().to_owned(), Type::TEXT)
        .push(" order by id limit 10000) o where position(convert_to(")
        .bind(event_id.to_string(), Type::TEXT)
        .push(", 'UTF8') in o.payload) > 0)");
    Ok(sql.row(client).await?.try_get(0)?)
}

/// How far every partition is stored: an event under way is beyond that.
///
/// # Errors
/// The database does not answer.
pub async fn stored_up_to(client: &Client) -> Result<Vec<StoredUpTo>, Error> {
    let sql = Sql::new(
        "select topic, partition, stored, updated_at from log_positions \
         where topic <> '' order by topic, partition limit 1000",
    );
    let rows = sql.rows(client).await?;
    let stored = |row: &Row| -> Result<StoredUpTo, tokio_postgres::Error> {
        Ok(StoredUpTo {
            next: RecordPosition {
                topic: row.try_get(0)?,
                partition: row.try_get(1)?,
                offset: row.try_get(2)?,
            },
            updated_at: row.try_get(3)?,
        })
    };
    Ok(rows.iter().map(stored).collect::<Result<_, _>>()?)
}

/// The dead letters that look like the event: those with its id, and of the newest those whose bytes
/// hold one of these texts.
///
/// # Errors
/// The database does not answer.
pub async fn letters(
    client: &Client,
    tenant: &TenantId,
    ids: &[Uuid],
    texts: &[String],
) -> Result<Vec<Letter>, Error> {
    const COLUMNS: &str = "select id, topic, partition, \"offset\", from_postgres, reason, detail, \
        state, created_at from ";
    let mut sql = Sql::new(COLUMNS);
    sql.push("dead_letters where tenant_id = ")
        .bind(tenant.as_str().to_owned(), Type::TEXT)
        .push(" and event_id = any(")
        .bind(ids.to_vec(), Type::UUID_ARRAY)
        .push(") union ")
        .push(COLUMNS)
        .push("(select * from dead_letters where tenant_id = ")
        .bind(tenant.as_str().to_owned(), Type::TEXT)
        .push(" order by id desc limit ")
        .bind(LOOKED_THROUGH, Type::INT8)
        .push(") newest where exists (select from unnest(")
        .bind(texts.to_vec(), Type::TEXT_ARRAY)
        .push(") text where position(convert_to(text, 'UTF8') in payload) > 0) order by 1 desc limit 20");
    let rows = sql.rows(client).await?;
    let letter = |row: &Row| -> Result<Letter, tokio_postgres::Error> {
        let mut columns = Columns::new(row);
        let id = columns.next()?;
        let topic = columns.next()?;
        let position = RecordPosition {
            topic,
            partition: columns.next()?,
            offset: columns.next()?,
        };
        let from_postgres: bool = columns.next()?;
        Ok(Letter {
            id,
            position: if from_postgres {
                RecordPosition {
                    topic: LOG.to_owned(),
                    ..position
                }
            } else {
                position
            },
            reason: columns.next()?,
            detail: columns.next()?,
            state: columns.next()?,
            created_at: columns.next()?,
        })
    };
    Ok(rows.iter().map(letter).collect::<Result<_, _>>()?)
}
