//! What a listing of events is restricted to.

use domain::{EventCategory, EventSource, EventStatus, TenantId};
use time::OffsetDateTime;
use tokio_postgres::types::Type;

use crate::sql::Sql;

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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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

impl Filter {
    /// Appends `where …`.
    pub(super) fn conditions(&self, sql: &mut Sql) {
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
