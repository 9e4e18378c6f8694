//! Which events a replay is about, and in which order.

use domain::TenantId;
use serde_json::Value;
use time::OffsetDateTime;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::sql::Sql;

/// Which events: by their ids, else of a stream, else of a time (S4-33), else of a type.
#[derive(Debug, Clone, PartialEq)]
pub enum Selection {
    /// These, as far as they are there.
    Ids(Vec<Uuid>),
    /// Of a stream; `user:{user_id}` is that of a user.
    Stream(String),
    /// Of a part of time, both ends included.
    Time(OffsetDateTime, OffsetDateTime),
    /// All of a type: that of the request (S3-30).
    Type,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// Whose events.
    pub tenant_id: TenantId,
    /// Which of them.
    pub selection: Selection,
    /// Only of this type.
    pub event_type: Option<String>,
    /// The service that gets them, on a topic of its own; without one, projections are refolded.
    pub target_service: Option<String>,
    /// Only the projections of these names.
    pub projections: Option<Vec<String>>,
    /// The processors of these names get the events, and no projection is refolded.
    pub processors: Option<Vec<String>>,
    /// The users who listen get the events, and nobody else.
    pub live: bool,
    /// Events a second at most.
    pub rate: i32,
    /// The request as it came, for those who look at the replay.
    pub asked: Value,
}

/// Selects, at most one event more than a replay may have: id, time and place in the order. Within a
/// stream the order is that of its versions, and otherwise that of the times.
pub(super) fn select(request: &Request, most: i64) -> Sql {
    let mut sql = Sql::new(
        "select event_id, timestamp, \
             row_number() over (order by reached, stream, version, timestamp, event_id) as n \
         from (select *, max(timestamp) over (partition by stream \
             order by version, timestamp, event_id) as reached \
         from (select e.event_id, e.timestamp, coalesce(i.stream_id, 'user:' || e.user_id, \
             e.event_id::text) as stream, i.stream_version as version \
         from events e join event_ids i on i.event_id = e.event_id and i.tenant_id = e.tenant_id \
             and i.timestamp = e.timestamp where e.tenant_id = ",
    );
    let tenant = || request.tenant_id.as_str().to_owned();
    sql.bind(tenant(), Type::TEXT);
    match &request.selection {
        Selection::Ids(ids) => {
            // Through their times, so that few partitions are looked at.
            sql.push(
                " and (e.timestamp, e.event_id) in (select timestamp, event_id from event_ids \
                 where event_id = any(",
            )
            .bind(ids.clone(), Type::UUID_ARRAY)
            .push("))");
        }
        Selection::Stream(id) => match id.strip_prefix("user:") {
            Some(user) => {
                // The first condition follows from the second; it has indexes.
                sql.push(" and (e.user_id = ")
                    .bind(user.to_owned(), Type::TEXT)
                    .push(" or e.aggregate_id = ")
                    .bind(user.to_owned(), Type::TEXT)
                    .push(") and (i.stream_id = ")
                    .bind(id.clone(), Type::TEXT)
                    .push(" or i.stream_id is null and e.user_id = ")
                    .bind(user.to_owned(), Type::TEXT)
                    .push(")");
            }
            None => {
                sql.push(" and i.stream_version is not null and i.stream_id = ")
                    .bind(id.clone(), Type::TEXT);
            }
        },
        Selection::Time(start, end) => {
            sql.push(" and e.timestamp >= ")
                .bind(*start, Type::TIMESTAMPTZ)
                .push(" and e.timestamp <= ")
                .bind(*end, Type::TIMESTAMPTZ);
        }
        Selection::Type => {}
    }
    if let Some(event_type) = &request.event_type {
        sql.push(" and e.event_type = ")
            .bind(event_type.clone(), Type::TEXT);
    }
    sql.push(" limit ")
        .bind(most, Type::INT8)
        .push(") selected) ordered");
    sql
}
