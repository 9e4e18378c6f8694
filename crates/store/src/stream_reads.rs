//! Reading streams: the events of one aggregate by their numbers, or those of one user, numbered in the
//! order of time as they are read (S4-30).

use std::collections::HashMap;

use domain::TenantId;
use time::OffsetDateTime;
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::error::Error;
use crate::event_reads::StoredEvent;
use crate::event_reads::row::EVENT;
use crate::sql::{Fetched, Sql};

/// Events of a user beyond this number have none: numbering reads what stands before them.
pub const MAX_NUMBERED: i64 = 100_000;

/// What a stream is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The events of an aggregate, numbered when they were stored.
    Explicit,
    /// A user's events that name no aggregate, numbered when they are read.
    Implicit,
}

/// A stream and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// What it is made of.
    pub kind: Kind,
    /// The number of its last event, 0 before the first; `None` beyond [`MAX_NUMBERED`].
    pub version: Option<i64>,
}

/// Which part of a stream: events from a number on, upwards or downwards.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// The first number; `None` is the end the direction begins at.
    pub from: Option<i64>,
    /// Most events.
    pub limit: i64,
    /// From the newest to the oldest.
    pub backward: bool,
}

/// Where a stream stands. One that has no event of an aggregate, and whose id begins with `user:`, is
/// that user's.
///
/// # Errors
/// The database does not answer.
pub async fn head(client: &Client, tenant: &TenantId, stream_id: &str) -> Result<Head, Error> {
    let mut sql = Sql::new("select version from event_streams where tenant_id = ");
    sql.bind(tenant.as_str().to_owned(), Type::TEXT)
        .push(" and stream_id = ")
        .bind(stream_id.to_owned(), Type::TEXT);
    let rows = sql.rows(client).await?;
    let version: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
    let Some(user) = stream_id.strip_prefix("user:").filter(|_| version == 0) else {
        return Ok(Head {
            kind: Kind::Explicit,
            version: Some(version),
        });
    };
    let mut sql = Sql::new("select count(*) from (select from events e");
    of_user(&mut sql, tenant, user);
    sql.push(" limit ")
        .bind(MAX_NUMBERED + 1, Type::INT8)
        .push(") numbered");
    let count: i64 = sql.row(client).await?.try_get(0)?;
    Ok(Head {
        kind: Kind::Implicit,
        version: (count <= MAX_NUMBERED).then_some(count),
    })
}

/// The events of that part of a stream, in its direction, with their numbers; at most about
/// `max_bytes` of them.
///
/// # Errors
/// The database does not answer.
pub async fn read(
    client: &Client,
    tenant: &TenantId,
    stream_id: &str,
    head: Head,
    window: Window,
    max_bytes: usize,
) -> Result<Fetched<StoredEvent>, Error> {
    match (head.kind, stream_id.strip_prefix("user:")) {
        (Kind::Implicit, Some(user)) => {
            implicit(client, tenant, user, head.version, window, max_bytes).await
        }
        _ => explicit(client, tenant, stream_id, window, max_bytes).await,
    }
}

/// In two steps, so that only the partitions that hold the events are looked at.
async fn explicit(
    client: &Client,
    tenant: &TenantId,
    stream_id: &str,
    window: Window,
    max_bytes: usize,
) -> Result<Fetched<StoredEvent>, Error> {
    let rows = numbers_sql(tenant, stream_id, window).rows(client).await?;
    let mut numbers = HashMap::with_capacity(rows.len());
    let (mut ids, mut times) = (vec![], vec![]);
    for row in &rows {
        let id: Uuid = row.try_get(0)?;
        numbers.insert(id, row.try_get::<_, i64>(2)?);
        ids.push(id);
        times.push(row.try_get::<_, OffsetDateTime>(1)?);
    }
    let (Some(first), Some(last)) = (times.iter().min(), times.iter().max()) else {
        return Ok(Fetched::default());
    };
    let mut sql = Sql::new(EVENT);
    sql.push(" from events e where e.tenant_id = ")
        .bind(tenant.as_str().to_owned(), Type::TEXT)
        .push(" and e.timestamp >= ")
        .bind(*first, Type::TIMESTAMPTZ)
        .push(" and e.timestamp <= ")
        .bind(*last, Type::TIMESTAMPTZ)
        .push(" and (e.timestamp, e.event_id) in (select * from unnest(")
        .bind(times.clone(), Type::TIMESTAMPTZ_ARRAY)
        .push(", ")
        .bind(ids, Type::UUID_ARRAY)
        .push("))");
    let mut fetched = sql
        .fetch(
            client,
            max_bytes,
            StoredEvent::from_row,
            StoredEvent::weight,
        )
        .await?;
    let number = |event: &StoredEvent| numbers.get(&event.event.event_id).copied();
    fetched.rows.sort_by_key(|event| {
        let number = number(event).unwrap_or(0);
        if window.backward { -number } else { number }
    });
    Ok(fetched)
}

/// The statement that finds the ids, times and numbers of a part of an aggregate's stream.
#[must_use]
pub fn numbers_sql(tenant: &TenantId, stream_id: &str, window: Window) -> Sql {
    let mut sql = Sql::new(
        "select event_id, timestamp, stream_version from event_ids \
         where stream_version is not null and tenant_id = ",
    );
    sql.bind(tenant.as_str().to_owned(), Type::TEXT)
        .push(" and stream_id = ")
        .bind(stream_id.to_owned(), Type::TEXT);
    if let Some(from) = window.from {
        sql.push(if window.backward {
            " and stream_version <= "
        } else {
            " and stream_version >= "
        })
        .bind(from, Type::INT8);
    }
    sql.push(if window.backward {
        " order by stream_version desc limit "
    } else {
        " order by stream_version limit "
    })
    .bind(window.limit, Type::INT8);
    sql
}

async fn implicit(
    client: &Client,
    tenant: &TenantId,
    user: &str,
    version: Option<i64>,
    window: Window,
    max_bytes: usize,
) -> Result<Fetched<StoredEvent>, Error> {
    let end = version.unwrap_or(MAX_NUMBERED);
    let from = match window.from {
        Some(from) if window.backward => from.min(end),
        None if window.backward => end,
        from => from.unwrap_or(1).max(1),
    };
    // Downwards, what is wanted stands right before `from` in the order of time.
    let (skip, limit) = if window.backward {
        let skip = (from - window.limit).max(0);
        (skip, from - skip)
    } else {
        (from - 1, window.limit.min((end - from + 1).max(0)))
    };
    if limit <= 0 {
        return Ok(Fetched::default());
    }
    let mut sql = Sql::new(EVENT);
    sql.push(" from events e");
    of_user(&mut sql, tenant, user);
    sql.push(" order by e.timestamp, e.event_id limit ")
        .bind(limit, Type::INT8)
        .push(" offset ")
        .bind(skip, Type::INT8);
    let mut fetched = sql
        .fetch(
            client,
            max_bytes,
            StoredEvent::from_row,
            StoredEvent::weight,
        )
        .await?;
    for (number, event) in (skip + 1..).zip(&mut fetched.rows) {
        event.stream_version = Some(number);
    }
    if window.backward {
        fetched.rows.reverse();
    }
    Ok(fetched)
}

pub(crate) fn of_user(sql: &mut Sql, tenant: &TenantId, user: &str) {
    sql.push(" where e.tenant_id = ")
        .bind(tenant.as_str().to_owned(), Type::TEXT)
        .push(" and e.user_id = ")
        .bind(user.to_owned(), Type::TEXT)
        .push(" and (e.aggregate_type is null or e.aggregate_id is null)");
}
