//! The history of an entity in the order in which it is folded: that of the versions of its stream; of
//! a user, whose events have none, that of their times.

use domain::TenantId;
use time::OffsetDateTime;
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::error::Error;
use crate::event_reads::StoredEvent;
use crate::event_reads::row::EVENT;
use crate::sql::Sql;
use crate::stream_reads::{self, Head, Kind, Window};

/// Events read at once.
const PAGE: i64 = 100;
/// The type of the entities whose events are ordered by their times.
pub(crate) const USER: &str = "user";

/// Where the events of an entity are, and how far they are read.
pub(super) struct History<'a> {
    tenant: &'a TenantId,
    entity_type: &'a str,
    entity_id: &'a str,
    /// The last event read: its number, its time and its id.
    last: Option<(i64, OffsetDateTime, Uuid)>,
    read: i64,
}

impl<'a> History<'a> {
    pub(super) fn of(tenant: &'a TenantId, entity_type: &'a str, entity_id: &'a str) -> Self {
        Self {
            tenant,
            entity_type,
            entity_id,
            last: None,
            read: 0,
        }
    }

    /// The next events; none at the end.
    pub(super) async fn next(&mut self, client: &Client) -> Result<Vec<StoredEvent>, Error> {
        let events = if self.entity_type == USER {
            self.by_time(client).await?
        } else {
            self.by_version(client).await?
        };
        if let Some(last) = events.last() {
            let number = last.stream_version.unwrap_or(0);
            self.last = Some((number, last.event.timestamp, last.event.event_id));
            self.read += i64::try_from(events.len()).unwrap_or(i64::MAX);
        }
        Ok(events)
    }

    /// Whether what was read is still all there is up to the last event: an event of a user may come
    /// after others that it happened before, and any may be erased.
    pub(super) async fn is_whole(&self, client: &Client) -> Result<bool, Error> {
        let Some((number, timestamp, event_id)) = self.last else {
            return Ok(true);
        };
        if self.entity_type != USER {
            let sql = "select count(*) from event_ids where tenant_id = $1::text \
                and stream_id = $2 and stream_version <= $3";
            let stream = format!("{}:{}", self.entity_type, self.entity_id);
            let tenant = self.tenant.as_str();
            let row = client.query_one(sql, &[&tenant, &stream, &number]).await?;
            return Ok(row.try_get::<_, i64>(0)? == self.read);
        }
        let mut sql = Sql::new("select (select count(*) ");
        for (n, branch) in [Self::implicit, Self::explicit].into_iter().enumerate() {
            if n > 0 {
                sql.push(") + (select count(*) ");
            }
            branch(self, &mut sql);
            sql.push(" and e.timestamp <= ")
                .bind(timestamp, Type::TIMESTAMPTZ)
                .push(" and (e.timestamp, e.event_id) <= (")
                .bind(timestamp, Type::TIMESTAMPTZ)
                .push(", ")
                .bind(event_id, Type::UUID)
                .push(")");
        }
        sql.push(")");
        Ok(sql.row(client).await?.try_get::<_, i64>(0)? == self.read)
    }

    async fn by_version(&self, client: &Client) -> Result<Vec<StoredEvent>, Error> {
        let stream = format!("{}:{}", self.entity_type, self.entity_id);
        let head = Head {
            kind: Kind::Explicit,
            version: None,
        };
        let window = Window {
            from: self.last.map(|(number, ..)| number + 1),
            limit: PAGE,
            backward: false,
        };
        let events =
            stream_reads::read(client, self.tenant, &stream, head, window, usize::MAX).await?;
        Ok(events.rows)
    }

    async fn by_time(&self, client: &Client) -> Result<Vec<StoredEvent>, Error> {
        let mut sql = Sql::new(EVENT);
        for (n, branch) in [Self::implicit, Self::explicit].into_iter().enumerate() {
            sql.push(if n == 0 {
                " from ((select * "
            } else {
                ") union all (select * "
            });
            branch(self, &mut sql);
            if let Some((_, timestamp, event_id)) = self.last {
                from(&mut sql, timestamp, event_id);
            }
            sql.push(" order by e.timestamp, e.event_id limit ")
                .bind(PAGE, Type::INT8);
        }
        sql.push(")) e order by e.timestamp, e.event_id limit ")
            .bind(PAGE, Type::INT8);
        let rows = sql.rows(client).await?;
        let events = rows.iter().map(StoredEvent::from_row);
        Ok(events.collect::<Result<_, _>>()?)
    }

    /// The types of a user's events after that one, in the order of time; of at most `limit` of each kind.
    pub(super) fn after(&self, sql: &mut Sql, timestamp: OffsetDateTime, id: Uuid, limit: i64) {
        for (n, branch) in [Self::implicit, Self::explicit].into_iter().enumerate() {
            sql.push(if n == 0 {
                "(select e.event_type "
            } else {
                ") union all (select e.event_type "
            });
            branch(self, sql);
            from(sql, timestamp, id);
            sql.push(" limit ").bind(limit, Type::INT8);
        }
        sql.push(")");
    }

    /// The user's events that name no aggregate.
    fn implicit(&self, sql: &mut Sql) {
        stream_reads::of_user(sql.push("from events e"), self.tenant, self.entity_id);
    }

    /// The events of the aggregate of the same name.
    fn explicit(&self, sql: &mut Sql) {
        sql.push("from events e where e.tenant_id = ")
            .bind(self.tenant.as_str().to_owned(), Type::TEXT)
            .push(" and e.aggregate_type = ")
            .bind(USER, Type::TEXT)
            .push(" and e.aggregate_id = ")
            .bind(self.entity_id.to_owned(), Type::TEXT);
    }
}

/// Only what comes after that event, in the order of time.
fn from(sql: &mut Sql, timestamp: OffsetDateTime, id: Uuid) {
    sql.push(" and e.timestamp >= ")
        .bind(timestamp, Type::TIMESTAMPTZ)
        .push(" and (e.timestamp, e.event_id) > (")
        .bind(timestamp, Type::TIMESTAMPTZ)
        .push(", ")
        .bind(id, Type::UUID)
        .push(")");
}
