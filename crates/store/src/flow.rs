//! How many events there were by the hour or the day, and of what: from the hourly counts.

use domain::{EventCategory, EventSource, TenantId};
use time::OffsetDateTime;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::error::Error;
use crate::sql::Sql;

/// The parts that time is cut into, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named by what they are")]
pub enum Interval {
    Hour,
    Day,
}

impl Interval {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Hour, Self::Day];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

/// What events are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named by what they are")]
pub enum By {
    EventType,
    EventSource,
    EventCategory,
}

impl By {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::EventType, Self::EventSource, Self::EventCategory];

    /// Its name, which is that of the column.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EventType => "event_type",
            Self::EventSource => "event_source",
            Self::EventCategory => "event_category",
        }
    }
}

/// What to count.
#[derive(Debug, Clone)]
pub struct Question {
    /// Whose events.
    pub tenant_id: TenantId,
    /// From the hour of this time.
    pub start: OffsetDateTime,
    /// To the hour of this time.
    pub end: OffsetDateTime,
    /// The parts of time.
    pub interval: Interval,
    /// What is told apart.
    pub by: By,
    /// How many names are told apart; the others are one.
    pub names: u32,
    /// Only events of this type.
    pub event_type: Option<String>,
    /// Only events of this source.
    pub event_source: Option<EventSource>,
    /// Only events of this category.
    pub event_category: Option<EventCategory>,
}

/// Events of a name in a part of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// Where the part begins.
    pub time: OffsetDateTime,
    /// The name; `None` is all that are not among the most frequent.
    pub name: Option<String>,
    /// How many.
    pub count: i64,
}

/// The counts, in the order of time.
///
/// # Errors
/// The database does not answer.
pub async fn read(client: &Client, question: &Question) -> Result<Vec<Count>, Error> {
    let rows = flow_sql(question).rows(client).await?;
    let count = |row: &tokio_postgres::Row| {
        Ok(Count {
            time: row.try_get(0)?,
            name: row.try_get(1)?,
            count: row.try_get(2)?,
        })
    };
    rows.iter().map(count).collect()
}

/// The statement of [`read`].
#[must_use]
pub fn flow_sql(question: &Question) -> Sql {
    let mut sql = Sql::new("with counted as materialized (select date_trunc(");
    sql.bind(question.interval.as_str().to_owned(), Type::TEXT)
        .push(", hour, 'UTC') as time, ")
        .push(question.by.as_str())
        .push(" as name, sum(count) as count from aggregated_events_hourly where tenant_id = ")
        .bind(question.tenant_id.as_str().to_owned(), Type::TEXT)
        .push(" and hour >= date_trunc('hour', ")
        .bind(question.start, Type::TIMESTAMPTZ)
        .push(", 'UTC') and hour <= ")
        .bind(question.end, Type::TIMESTAMPTZ);
    let source = question.event_source.map(EventSource::as_str);
    let category = question.event_category.map(EventCategory::as_str);
    for (column, value) in [
        (" and event_type = ", question.event_type.as_deref()),
        (" and event_source = ", source),
        (" and event_category = ", category),
    ] {
        if let Some(value) = value {
            sql.push(column).bind(value.to_owned(), Type::TEXT);
        }
    }
    sql.push(
        " group by 1, 2), top as (select name from counted group by 1 order by sum(count) desc, 1 limit ",
    )
    .bind(i64::from(question.names), Type::INT8)
    .push(
        ") select time, top.name, sum(count)::int8 from counted left join top using (name) \
         group by 1, 2 order by 1, 2",
    );
    sql
}
